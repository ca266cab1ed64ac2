// Package wait lets tests wait for what happens in the background, with a deadline that no busy
// machine reaches. Where testing/synctest can be used, it is better: nothing is waited for.
//
// It owns no kernel object.
package wait
