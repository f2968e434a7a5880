// Package bench loads a Kafka broker, any Kafka broker, and says how it did.
//
// Three tests: [Produce] writes as fast as it may or at a rate; [Consume] reads from the start, alone or while a
// producer writes; [EndToEnd] writes at a rate, reads at the same time, and measures both the acknowledgement and the
// way from producer to consumer.
//
// # The client must be small
//
// On a small machine client and broker share the cores, so what the client wastes is taken from the broker's figure:
//
//   - records and their values are reused: a record goes back to its producer in chunks when its promise is called;
//   - payloads are slices of one block made before the test;
//   - one promise function serves all records; only one record in [latencySample] is timed, when the rate is not
//     limited;
//   - clocks are read per chunk, not per record, where that is precise enough;
//   - pacing sleeps on a timer and then sends what is due.
//
// # Latency, and the records that were not sent
//
// At a fixed rate every record has a time at which it is due. A client that is blocked sends late, and a latency taken
// from the moment of sending would hide that wait ("coordinated omission"). So a record that is sent more than one
// pacing interval late is timed from when it was due. Percentiles come from HDR histograms with three digits.
//
// # Units
//
// A MB is 1,000,000 bytes. Bytes are those of keys and values, without the overhead of batches.
package bench
