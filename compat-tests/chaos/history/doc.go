// Package history judges what clients saw of a topic while its brokers were
// being broken, against what a log is:
//
//   - an acknowledged record is in the log, once, at the offset that was
//     acknowledged;
//   - offsets are dense: every reader gets 0, 1, 2, …, and never an error that
//     says that its position does not exist;
//   - no two observers ever see different records at one offset, however much
//     later one of them looks: what was read, acknowledged or not, stays;
//   - the records of one producer in one partition are in the order sent, each
//     once;
//   - the high watermark does not go back for anybody who watches it.
//
// A [History] is told everything as it happens, by any number of goroutines, and
// notes each contradiction once. [History.Close] adds what can only be said at
// the end, after somebody has read the whole log.
//
// Records are known by (producer, partition, number); numbers count up from 0 in
// each (producer, partition), so that "once and in order" is "the next number,
// or one after numbers that failed". A number that failed may be in the log or
// not, as with Kafka, but where it would be out of order.
//
// It also measures how long writes of each partition stood still: [History.Watch].
package history
