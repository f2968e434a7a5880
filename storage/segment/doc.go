// Package segment is the format of every object of a log, and of what the catalog keeps opaquely about them: objects
// (log objects and segments), the index of a tail row, packed rows, and object keys. It does no I/O of its own: a
// [RangeReader] is handed in where bytes must be read. The byte-exact specification is docs/formats.
//
// # One object, three views
//
//   - [Index] knows everything about each batch without reading its bytes: offsets, timestamps, producer, transaction
//     markers. It is in memory as long as the object is in the tail, and encoded into the catalog's tail row
//     ([Index.AppendTail], [DecodeTail]).
//   - [PackedExtent] is what the folded level keeps: where a contiguous run of one partition lies ([AppendPacked],
//     [DecodePacked]).
//   - [Footer] is inside the object: a sparse index (about one entry per [RunBytes]) for positions and times, and a
//     CRC-32C for each aligned [BlockSize] bytes. An object can be opened, checked and described without a catalog.
//
// # Invariants
//
//   - An [Extent] is dense: its first batch starts at Base, each batch starts where the one before ended, the last
//     ends at End. Where offsets have a gap or the leader epoch changes, a new extent starts.
//   - Extents are in the order (topic id, partition, base offset), in the index and in the object, and their bytes
//     are disjoint and ascending.
//   - A [Builder] never copies record bytes and sums each of them once: the checksum of the whole object is derived
//     from the sums of its blocks.
//   - The same input gives the same bytes: encodings have no clock, no randomness, no map order.
//
// # Failure handling
//
// Nothing read from outside is trusted. Every count and length is checked against the bytes that are there before
// memory is allocated; trailing bytes, overlong varints, unordered extents and checksums that do not match are
// refused with an error wrapping [ErrCorrupt]. A version this binary does not know is [ErrVersion], never a guess.
// Input of a Builder that breaks an invariant is a defect of the caller and is refused by [Builder.Finish] before
// anything is uploaded.
package segment
