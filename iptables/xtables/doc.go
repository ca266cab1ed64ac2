// Package xtables changes the rules of a few chains of iptables-legacy without iptables-restore.
//
// iptables-legacy keeps each table in the kernel as one block of bytes, which is read and replaced
// as a whole. iptables-restore does that for any change: it starts, reads the block, makes a copy
// of every rule, and writes them all out again. With tens of thousands of rules the program's part
// is a fifth of the time. [Rewrite] reads the block, replaces the bytes of the chains it is asked
// for, moves the offsets that point behind them, and hands the block back.
//
// It is exact about what belongs to others: the block is read under the lock that all writers
// share (/run/xtables.lock), every rule it does not replace goes back byte for byte, and so do the
// counters. The kernel takes the new block as a whole or not at all. What matches such as limit
// remember starts anew, as with every change of the table, whoever makes it.
//
// It is careful. Before it replaces a chain it encodes the rules that should be in it, and goes on
// only if that gives the bytes that are in it. So it writes nothing unless nobody has changed the
// chain and this package encodes as the installed iptables does. Whatever it does not know is an
// error, and the caller uses iptables-restore.
//
// # What it does not do
//
//   - It does not make, delete or rename chains, or touch built-in ones.
//   - It knows the rules of pools only: a protocol, the matches comment, statistic (random) and
//     recent, and the target DNAT.
//   - It does not wait for the lock; iptables-restore can.
//   - It needs pointers of 64 bits, as the kernel has: 32-bit programs use another layout.
//
// # By hand
//
// It owns no kernel objects. The formats are those of linux/netfilter_ipv4/ip_tables.h,
// linux/netfilter_ipv6/ip6_tables.h and linux/netfilter/x_tables.h; "iptables-legacy-save -c -t
// nat" shows what is in the block.
package xtables
