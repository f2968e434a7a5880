// Package verify looks at a log from outside the engine: does the manifest agree with itself, with the object store and
// with the bytes in it ([Run]), how much is there ([Summarize]), and what is one object ([Locate], [Batches]). It
// changes nothing and repairs nothing.
//
// # What is checked
//
//   - Objects. Everything the tail and the folded level name is in the store, with the size and checksum the catalog
//     says, and sound in itself: block sums, footer, batch checksums, dense offsets. No live object is on the list of
//     retired ones, whose files are about to be deleted.
//   - Tail. The rows of each broker epoch cover its sequences without a hole; each index agrees with its object's
//     footer, extent by extent, and (unless [Options.Fast]) with its bytes, batch by batch.
//   - Folded. Packed rows decode and do not overlap; each of their extents is an extent of the object it names, or a
//     part of one cut at batches; references and live bytes of each object are those of the packed rows.
//   - Partitions. Offsets are dense from log start over packed rows and tail to the log end; leader epochs do not go
//     back, agree with the history, and are not above the lease's; stable offset and byte count fit.
//   - Orphans, objects that the manifest does not name, are counted. They are what a crash leaves and are not an error.
//
// Producer snapshots are opaque here and are not looked into.
//
// # The log must be at rest
//
// The checks take many catalog calls, which are not one snapshot. Under a running broker rows move between them and
// sound logs look broken. The caller holds the lock of the data folder.
//
// # Memory
//
// Objects, rows and partitions are streamed. What is held: per worker a window of 4 MiB, the largest batch and one
// footer or tail index; the extents of the tail, merged to runs (a broker has more of it in memory); keys of retired
// objects; and the extents of at most [chunkExtents] footers' entries at a time, against which packed rows are walked
// once per such chunk.
//
// # Failure handling
//
// A problem found never ends the run: it is counted, and the first [Options.MaxProblems] are kept. An object that the
// store cannot read is a problem of its own kind. Only a catalog that does not answer, a listing that fails, or the end
// of the context ends the run early, with an error: a run that returns nil looked at everything.
package verify
