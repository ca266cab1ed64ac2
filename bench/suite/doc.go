// Package suite is the benchmark as a whole: the list of everything that is measured, the files
// with every sample, the report with its plots, and the comparison of two such results.
//
// A measurement is a cell: one kind of measure with one cluster. Each cell's samples go into a
// file of their own as soon as it ends, so that an interrupted benchmark goes on where it was. The
// report is made of these files and nothing else.
//
// The package measures nothing itself: see bench/datapath and bench/scale.
package suite
