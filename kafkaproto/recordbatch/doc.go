// Package recordbatch knows Kafka's record batch of magic 2 as bytes: it reads
// headers, judges batches from producers, patches the few fields a broker may
// set, walks records, recompresses and builds. It is a leaf: it knows neither
// topics nor requests, and its errors name Kafka's errors without numbers.
//
// Batches are kept verbatim. The only bytes of a produced batch a broker
// changes are the base offset and the leader epoch (outside the checksum),
// and, with the checksum, the max timestamp where it was wrong or where the
// topic's timestamps are the broker's.
//
// # What is checked when
//
// [Validate] refuses a produced batch with the first of these that is wrong.
// The last column says where Kafka (LogValidator, UnifiedLog, ProduceRequest)
// differs.
//
//	check                                        error                         Kafka
//	magic 0 or 1                                 INVALID_RECORD                same
//	magic above 2; shorter than a header         CORRUPT_MESSAGE               same
//	length below a header's                      CORRUPT_MESSAGE               same
//	length not exactly the bytes sent            INVALID_RECORD                same
//	base offset not 0                            INVALID_RECORD                same
//	over max.message.bytes                       MESSAGE_TOO_LARGE             same
//	CRC-32C                                      CORRUPT_MESSAGE               same
//	unknown attribute bits, delete horizon       INVALID_RECORD                ignored
//	unknown codec                                UNSUPPORTED_COMPRESSION_TYPE  an unknown server error
//	no records; count against last offset delta  INVALID_RECORD                same
//	control bit                                  INVALID_RECORD                same
//	LogAppendTime bit                            INVALID_TIMESTAMP             only where the topic has it too
//	producer id below -1, its epoch negative     INVALID_RECORD                an epoch error later
//	producer id without sequence                 INVALID_RECORD                same
//	transactional without producer id            INVALID_RECORD                not checked
//	each record: length and fields agree         INVALID_RECORD                same; less strict when compressed
//	each record: offset deltas 0, 1, 2 …         INVALID_RECORD                not checked; compressed ones are rebuilt
//	each record: timestamp limits                INVALID_TIMESTAMP             same
//	each record: a key on compacted topics       INVALID_RECORD                same
//	each record: header counts and lengths       INVALID_RECORD                same
//	nothing after the last record                INVALID_RECORD                same
//	records do not decompress                    INVALID_RECORD                an unknown server error
//	records decompress to too much               MESSAGE_TOO_LARGE             no bound
//	max timestamp is not the records'            repaired in place             same
//
// Errors of bytes are CORRUPT_MESSAGE, which producers retry; errors a right
// checksum vouches for are the producer's own, and are not worth a retry.
//
// # Cost and bounds
//
// The checksum is read once over the batch, then the records are walked: where
// they are not compressed, in place, without allocation, touching the first
// bytes of each record and of each header only. Compressed records are walked
// while they are decompressed, 64 KiB at a time, with pooled decoders: memory
// is the decoder's window (zstd: at most 8 MiB streamed; a frame with a larger
// window, to 128 MiB, is decompressed whole, which takes what comes out, at
// most the larger of that window and Limits.MaxDecompressedBytes), time is
// bounded by Limits.MaxDecompressedBytes, and no claim of the input is
// allocated before it is plausible.
//
// # Concurrency
//
// Functions keep no reference to the bytes given and are safe for concurrent
// use on different bytes. Those that patch need the bytes to themselves.
package recordbatch
