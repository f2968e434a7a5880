// Package day plays a day of traffic through the real binary and looks at what
// it leaves: files in the store, rows and bytes of the catalog, the time of a
// restart after a kill, what that restart reads, and whether every byte is
// there.
//
// Two tests, because a day has two costs that cannot be had in one:
//
//   - TestDay sends as many records as 10,000 a second are in a day, as fast as
//     they go: what grows with bytes shows. Batches are encoded once; only the
//     producer, sequence, timestamps and checksum differ, so that a byte read
//     back is known without having been kept.
//   - TestPaced sends 10,000 records a second by six producers that do not
//     linger: what grows with time and with objects shows.
//
// Both run in seconds by default, and whole by `make day`:
//
//	DAY_RECORDS      how many records TestDay sends (default 12,000,000)
//	DAY_PACED        how long TestPaced sends (default 10s)
//	DAY_REPORT       a file to which both append their figures
//	DAY_PAUSE_WHILE  a file; while it exists nothing is sent, for a machine shared
//	                 with other measurements
//
// What must hold whatever the length is in type bounds, with the
// formula for each figure.
package day
