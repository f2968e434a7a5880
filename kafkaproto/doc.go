// Package kafkaproto turns bytes on a connection into kmsg requests and
// responses back into bytes. It knows frames, headers and versions and nothing
// of what a request means. Record batches are the business of the package
// recordbatch below it.
//
// The way in: [FrameReader.Next] reads a frame, [ParseNextRequest] its header,
// [DecodeBody] its body. The way out: [AppendResponse], and for fetched
// records, which are never copied, [EncodeFetch] and one vectored write.
//
// # Nothing outside is believed
//
// A frame's length is bounded by its API key before memory is asked for, and
// memory for a large one is asked for only after part of it came. Every body is
// walked along the shape of its API and version before kmsg decodes it: counts
// of arrays and tags are those of elements that are really there, at most
// [DefaultMaxElements] of them, and nothing follows the body. kmsg alone would
// let a body of 100 MiB make gigabytes of structs, or one of 30 bytes spin
// through four billion tags.
//
// # Failure handling
//
// A [FrameError] means that the connection has lost its place: close it. The
// other errors wrap [ErrUnknownAPI], [ErrUnsupportedVersion] or [ErrMalformed];
// the next frame could still be read, but Kafka closes the connection too,
// with one exception: an ApiVersions request of an unknown version is answered
// in version 0 with UNSUPPORTED_VERSION, which needs only its header.
//
// # Ownership
//
// The memory of a frame belongs to whoever allocated it. Headers never alias
// it. Of decoded requests only Produce does, in its record bytes (and tags
// nobody knows): the frame must live until they were stored. An [EncodedFetch]
// borrows record bytes until it is released.
//
// # Concurrency
//
// Functions are safe for concurrent use; a FrameReader and an EncodedFetch
// belong to one connection.
package kafkaproto
