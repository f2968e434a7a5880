// Package recordio turns text into Kafka records and records into text, for the produce and consume commands.
//
// [NewReader] reads lines (optionally KEY SEPARATOR VALUE) or JSON objects, one a line. [NewFormatter] writes values
// with a line end (raw), JSON objects, one a line, or whatever a printf-style layout says. JSON written by the one is
// read back by the other byte for byte: bytes that are not UTF-8 go into fields named …_base64, null and empty are two
// things. [ParseOffset] understands where a consumer shall start.
//
// Everything read is bounded by a line limit given by the caller.
package recordio
