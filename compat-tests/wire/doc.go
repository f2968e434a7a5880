// Package wire asks the broker for what well-behaved clients never ask for, and
// for every version of what they do: requests are encoded here, by kmsg or by
// hand, and sent over a plain connection.
//
// What is expected is what Apache Kafka 4.3 answers; the tests pass against it
// (make compat COMPAT_BOOTSTRAP=host:port).
package wire
