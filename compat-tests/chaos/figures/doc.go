// Package figures measures a cluster of real processes on this machine, with
// proxies in all its connections (package chaos/stack):
//
//   - how long writes stand still when a leader is killed, cut off silently from
//     the catalog, and stopped in an orderly way;
//   - how long one broker takes to take over 1,000 partitions;
//   - how long 5,000 partitions take to spread onto a third broker, with the bytes
//     of a Metadata answer and the memory of a broker.
//
// `make chaos-figures` runs it, on a quiet machine. Bounds are asserted loosely:
// figures are for reading.
//
//	FIGURES_REPEAT       how often each gap is measured (default 10)
//	FIGURES_TRACE        show what the brokers logged meanwhile, down to debug
//	FIGURES_PARTITIONS   partitions to balance (default 5000)
package figures
