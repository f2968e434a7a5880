package day_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The bounds of the broker, as docs/operations-embedded.md and package storage
// have them.
const (
	maxTailRows = 16 << 10
	// smallObject is the size below which folded objects are merged until they
	// were rewritten four times.
	smallObject = 2 << 20
	// mergeable is how many objects may wait for a merge: fifteen of each of four
	// generations at rest, more while merges give way to producers.
	mergeable = 1024
	// packedExtents is how many extents a packed row holds when full.
	packedExtents = 128
	maxCatalog    = 64 << 20
	maxWAL        = 64 << 20
	// forgotten is after how long the file of a replaced object is gone: a grace of
	// 30 s, and twice the time between two sweeps.
	forgotten = 45 * time.Second
	// fewRows is more than any other table has: a row for each of the 50 partitions of __consumer_offsets and those under load.
	fewRows = 64
)

// bounds checks one measurement after the other against what must be true
// however long the broker ran.
type bounds struct{ seen []usage }

func (c *bounds) check(t *testing.T, u usage) {
	t.Helper()
	c.seen = append(c.seen, u)
	objects, tail, packed, retired := u.rows["objects"], u.rows["tail"], u.rows["packed_rows"], u.rows["retired"]

	// Every file is accounted for: it is folded, in the tail, replaced and waiting
	// for its grace, or was put a moment ago and is being committed.
	const underWay = 64 // uploads, a merge's outputs, marks and locks
	require.LessOrEqual(t, int64(u.files), objects+tail+retired+u.unlisted+underWay, "files that nothing accounts for")

	// Folded objects grow with bytes, not with time or puts.
	require.LessOrEqual(t, objects, u.bytes/smallObject+mergeable, "folded objects for %d bytes", u.bytes)
	// Each object has at most one extent of each partition, and a fold or merge
	// leaves at most one row that is not full for each partition it touched.
	require.LessOrEqual(t, packed, partitions*(1+2*(objects/packedExtents+1)), "packed rows for %d objects", objects)
	require.LessOrEqual(t, tail, int64(maxTailRows), "rows of the tail")
	// What was replaced is gone after its grace, so that no more can wait than was
	// put since.
	require.LessOrEqual(t, retired, u.puts-c.putsBefore(u.at.Add(-forgotten))+mergeable, "replaced objects that are still there")

	require.LessOrEqual(t, u.catalog, int64(maxCatalog), "catalog.db")
	require.LessOrEqual(t, u.wal, int64(maxWAL), "its write-ahead log")
	for table, n := range u.rows {
		switch table {
		case "objects", "tail", "packed_rows", "retired", "retired_batches":
		default:
			require.LessOrEqual(t, n, int64(fewRows), "rows of %s", table)
		}
	}
}

// putsBefore is how many objects were put by the last measurement before at.
func (c *bounds) putsBefore(at time.Time) int64 {
	var puts int64
	for _, u := range c.seen {
		if u.at.Before(at) {
			puts = u.puts
		}
	}
	return puts
}
