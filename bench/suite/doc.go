// Package suite is the benchmark as a whole: the list of everything that is measured (cells.go),
// the files with every sample (run.go), the report with its pictures, and the comparison of two
// results.
//
// A measurement is a cell: one kind of measure with one cluster. Each cell's samples go into a
// file of their own as soon as it ends, so that an interrupted benchmark goes on where it was. The
// report is made of these files and nothing else: they are flattened into one list of figures
// (figures.go), and every table, ratio, picture and verdict is taken from that.
//
// The package measures nothing itself and owns nothing in the kernel: see bench/datapath,
// bench/scale and bench/dnsbench.
package suite
