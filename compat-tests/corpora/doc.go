// Package corpora records what real clients send, as seeds for the fuzz targets
// of kafkaproto and kafkaproto/recordbatch. `make corpora` runs it; it is no
// part of the tests, and needs the installed clients only.
//
// A proxy stands between the clients and a broker that advertises the proxy's
// address, so that clients come back to it; it changes no byte. Of each client it
// keeps one frame per request, version and, of Produce, codec: the longest of at
// most 16 KiB, which shows most of the request's shape.
//
// Every client is driven twice: against the built binary, and against Apache
// Kafka as its tools are installed, for the requests that are sent only to a
// broker with coordinators (groups, transactions, share groups). A frame of the
// first is not replaced by one of the second. What a client makes of the answer
// does not matter here; steps may fail, and say so in the log.
package corpora
