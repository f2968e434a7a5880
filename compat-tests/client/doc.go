// Package client drives other people's Kafka clients, each in its own process
// (but for those in Go), and tells what each was told to send and what each saw.
//
// A [Producer] sends the records of a [Job] and returns what must therefore be
// in the topic, as far as it is known beforehand; a [Reader] reads ranges of
// partitions and returns their digests. The clients are installed by
// scripts/clients into .clients; kcat comes from the PATH.
//
// What each client can express:
//
//	franz-go, sarama,           every byte, null, header, timestamp and partition
//	confluent-kafka
//	kafka-go                    the same, but its reader shows empty as null
//	KafkaJS                     the same, but null header values and a header name twice
//	kafka-python                the same, but null header values and records with
//	                            neither key nor value
//	kcat                        lines of text, either empty or null in one run,
//	                            one set of headers per run, no timestamps
//	console producer (Java)     lines of text with headers and nulls, neither
//	                            timestamps nor partitions
//	producer-perf-test (Java)   payloads of its own making: two readers are
//	                            compared, and the count
//
// Every reader but kafka-go verifies checksums, and none joins a group.
package client
