// Package fs keeps objects as files of a local folder.
//
// # Layout
//
//	ROOT/<key>     one file per object, the slashes of its key are folders
//	ROOT/.tmp/     files being written, where the file system has no nameless files; emptied by Open
//
// Names that no key can have are ignored, so a lost+found does not disturb. One process at a time may write to a
// folder: take [Lock] on the data folder first. Any number may read with [Options.ReadOnly].
//
// # Put, step by step, and what a crash leaves
//
//  1. The folder exists and is known to be durable: each folder made is synced into its parent, once per process.
//     Crash: an empty folder.
//  2. A nameless file (O_TMPFILE) is opened in that folder, allocated if it is large, and written in vectors of at
//     most 1 MiB, each checksummed just before and, in large bodies, handed to the disk at once. Crash: nothing, the
//     kernel frees it.
//  3. fdatasync. Crash: nothing.
//  4. linkat under the object's name, which fails if the name is taken: the commit point for readers. Crash: the
//     whole object, or none.
//  5. The folder is synced: the commit point for Put. Crash: the whole object.
//
// Bytes are always durable before they have a name, so no crash shows a part of an object. Where step 5 fails the
// name is taken back and the Put is in doubt; Head syncs before it answers, so that settling cannot call an object
// stored that a power cut would take. Where there are no nameless files (other systems, some network file systems)
// the file has a name under .tmp, hard links do the rest, and Open deletes what a crash left there.
//
// On Windows folders cannot be synced; what survives a power cut there is up to NTFS.
//
// # Reads
//
// Reads are pread on open files, of which an LRU of bounded size is kept; a file being read is closed only after its
// last reader. Delete removes the name, then drops the open file; a reader that came before ends its read. Folders
// left empty are removed, but never while a Put is about to use them.
//
// # What was measured
//
// ext4 on a virtual disk, two cores shared with other work, medians of 7 runs in turn, bodies of 64 KiB slices:
//
//	                                        8 MiB, MB/s     64 KiB, puts/s   1 KiB, puts/s
//	puts in flight                           1       4        1       4        1       4
//	named file, fsync, rename, fsync folder  512   1,123      851   1,148    1,179   1,477
//	named file, fdatasync, rename, ...       643     939      924   1,242    1,202   1,413
//	nameless file, fdatasync, linkat, ...    777   1,145      928   1,559    1,173   1,660
//	  with folder syncs grouped              638     844      864   1,407      901   1,642
//	  with writing started per MiB           828   1,124      932   1,710    1,040   1,744
//	  with allocation first                  897   1,191      948   1,678    1,027   1,848
//	  with both                              966   1,388      814   1,593      852   2,011
//
// Nameless files win because a rename changes two folders. Grouping the folder syncs of concurrent Puts was tried and
// dropped: the file system's journal groups them already, and better. Allocation and early writing pay for large
// bodies only, and are done from 1 MiB. Waiting for the data with sync_file_range and leaving its metadata to the
// folder's sync was no faster and is right on some file systems only.
//
// BenchmarkPut on the whole Store there, checksum verified, medians of 4: 8 MiB 892 MB/s with one Put in flight and
// 1,421 MB/s with four; 64 KiB 1,339 puts/s and 1 KiB 2,095 puts/s with four (best run for 64 KiB: 3,982;
// other work used the disk meanwhile and runs differ widely); 15 allocations and 1 KB per small Put, 27 and 7 KB at 8 MiB.
//
// # Failure handling
//
// A full disk is objstore.ErrNoSpace, leaves nothing, and frees what was written. A file that ends early is
// io.ErrUnexpectedEOF. Every other error of the system is passed on, and is transient by the contract.
package fs
