// Package fs keeps objects as files of a local folder.
//
// # Layout
//
//	ROOT/<key>       one file per object, the slashes of its key are folders
//	ROOT/.volumes/   preallocated files that hold small objects as records; see docs/formats/volume.md
//	ROOT/.tmp/       files being written, where the file system has no nameless files; emptied by Open
//
// Names that no key can have are ignored, so a lost+found does not disturb. One process at a time may write to a
// folder: take [Lock] on the data folder first. Any number may read with [Options.ReadOnly].
//
// # Put of a small object, step by step, and what a crash leaves
//
// Objects below [Options.VolumeObjectBytes] go into the active volume. While there is none with room they are stored as
// files, so a volume is never waited for.
//
//  1. The key is reserved: of Puts of one key the first decides and the others wait for it, whichever way each goes. It
//     is looked for in the index and in its folder.
//  2. Header and body are laid out in a buffer of whole blocks of 4 KiB, summed there, and compared with the caller's
//     checksum. A place behind the last record is taken. Crash: nothing.
//  3. The buffer is written. Crash of the process: the whole record may be there, which nobody was told of, or a part; of
//     the machine: any of its pages may be missing. The header has a checksum of its own and one of the body, and an Open
//     drops what is not whole. No other record shares a page with it.
//  4. fdatasync: the commit point. The blocks exist and were written before, so nothing but they changes, and the file
//     system has no journal to commit. That is the gain. Each Put has a file handle of its own, because the system
//     reports a failed write-back once to each handle: on a shared one, a sync could take the error of another's pages,
//     which would then be acknowledged.
//  5. The index gets the record, and readers see it.
//
// # Life of a volume
//
//	(made) -> ready -> active -> full -> sealed -> empty -> ready, or removed
//
// Made: filled with zeros, synced, then renamed to its final name; in the background, once a store has seen a few small
// Puts, and only while the disk has room for eight. Full: it takes no more. Sealed: when nobody writes to it any more, a
// mark says so; it promises that every record in it that is not marked dead is whole. The mark is not synced: without
// it the next Open reads the bodies too. Empty: its objects were deleted or moved. Ready: it gets a new random
// generation, which is synced before the first record, so that records of earlier uses are none.
//
// A Delete writes a mark into the record's header and syncs nothing: after a kill -9 the object stays deleted, after a
// power cut it may be back, as the contract allows. It also removes a file of that name.
//
// When the volumes take more than [Options.VolumeBudget], or hold more than 65,536 objects, or little is left in an old
// one, the objects of the oldest are moved out: written to nameless files, all synced, all named, their folders synced,
// then their records marked dead and dropped from the index. A crash in between leaves both; the record counts, and both
// are one object in a listing, for a Delete, and for the next moving out. Nothing ever moves from a file to a volume: hence
// who looks into the index first and the folder second misses nothing.
//
// A reader pins its volume; one that is pinned is not used again. Readers in other processes ([Options.ReadOnly]) read
// the generation after the bytes, and look again if it is another: an object has its file before its record is dead, is dead before its volume
// gets a new generation, and that is written before any byte is overwritten.
//
// # Put of a large object, step by step, and what a crash leaves
//
//  1. The folder exists and is known to be durable: each folder made is synced into its parent, once per process.
//     Crash: an empty folder.
//  2. A nameless file (O_TMPFILE) is opened in that folder, allocated if it is large, and written in vectors of at
//     most 1 MiB, in large bodies handed to the disk at once. Crash: nothing, the kernel frees it. Bodies below 256 KiB
//     are checksummed on the way; that of larger ones is taken on trust, see verifyBelow.
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
// Reads are pread on open files: of volumes, and of object files, of which an LRU of bounded size is kept; a file being
// read is closed only after its last reader. Delete removes the name, then drops the open file; a reader that came
// before ends its read. Folders left empty are removed, but never while a Put is about to use them.
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
// BenchmarkPut on the whole Store there, later, with volumes and without, medians of 5 runs of 0.7 s (other work used
// both cores and the disk meanwhile, and runs differ by several times):
//
//	                           files                          volumes
//	           puts/s   p50 ms    p99 ms       puts/s   p50 ms    p99 ms
//	one in flight
//	1 KiB         529     1.38       7.8        7,054     0.10       0.65
//	16 KiB        902     1.08       2.0        1,047     0.18       5.8
//	64 KiB      1,779     0.50       2.8        5,324     0.14       0.78
//	four in flight
//	1 KiB       1,223     2.40      18.7        8,801     0.31       2.7
//	16 KiB        648     4.61      39.9        7,569     0.36       2.9
//	64 KiB      2,581     1.32       2.6        8,135     0.37       2.2
//
// The two system calls alone were measured at p50 0.12 and p99 0.2 ms with one in flight and 0.3 and 0.7 ms with four on
// the same disk when nobody else used it; files at 0.98 and 1.3, 1.8 and 4.3 ms. A small Put in a volume costs 8 to 15
// allocations and 1 to 5 KB, in a file 17 and 1 KB. Grouped syncs on one shared handle, and RWF_DSYNC instead of
// fdatasync, were no better.
//
// BenchmarkOpen: 256 MiB in 65,519 objects of 1 KiB took 170 ms to find while other work held both cores (not measured
// at rest), in 13,103 objects of 16 KiB 43 ms.
//
// # Failure handling
//
// A full disk is objstore.ErrNoSpace, leaves nothing, frees what was written, and has volumes that are ready given back.
// A file that ends early is io.ErrUnexpectedEOF. Every other error of the system is passed on, and is transient by the
// contract.
//
// A write or a sync of a volume that fails leaves the Put in doubt (a write that finds the disk full: ErrNoSpace, and the
// record lacks its end). Its record is no object and is marked dead as far as that works. The volume takes no more records, is never
// sealed, its objects (each synced before, through a handle of its own) are moved to files, and it is removed. A volume
// that cannot be made or emptied is logged, and tried again half a minute later; small objects are files meanwhile. A
// volume whose header is damaged is read by what its records say, emptied and removed. A record whose body is damaged
// after it was synced stays an object, like a file that rots: Head tells its true checksum, and readers have their own.
package fs
