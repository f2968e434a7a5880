// Package crash kills the real process with SIGKILL under load, again and
// again, on one data folder, and then compares what is there with what was
// acknowledged:
//
//   - every acknowledged record is at the offset that was acknowledged, with the
//     bytes that were sent;
//   - every record is there once;
//   - offsets are dense;
//   - the high watermark never goes back, and what a reader saw before a crash
//     is what it sees after.
//
// SIGKILL does not lose what the kernel has: power loss is not tested here.
//
//	COMPAT_KILLS   how often TestKillNine kills (default 50)
package crash
