// Package admin runs administrators' tools against the broker: Apache Kafka's
// command line, kcat's -L and -Q, and franz-go's kadm. It also holds the small
// things a client relies on without asking: topics created by use, acks, and
// offsets by time as each client asks for them.
//
// What is expected is what Apache Kafka 4.3 answers.
package admin
