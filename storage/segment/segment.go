package segment

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// BlockSize is the unit of checksums and of caching, in bytes. Blocks are aligned to the start of the object.
	BlockSize = 256 << 10
	// RunBytes is how many bytes of batches one sparse entry of a footer stands for, at least; the last entry of an
	// extent may stand for fewer.
	RunBytes = 4 << 10
	// MaxTailBytes is the largest encoded tail index that is decoded, in bytes. Objects are sealed far below.
	MaxTailBytes = 16 << 20
	// MaxFooterBytes is the largest footer that is read, in bytes.
	MaxFooterBytes = 16 << 20
	// MaxPackedBytes is the largest packed row that is decoded, in bytes.
	MaxPackedBytes = 16 << 20
	// MaxObjectBytes is the largest object that is built or opened, in bytes: what an object store takes in one PUT.
	MaxObjectBytes = 5 << 30
)

// Errors of this package wrap one of these.
var (
	// ErrCorrupt: the bytes are not what was written. Reading them again may help only if the store or the network
	// damaged them on the way.
	ErrCorrupt = errors.New("corrupt data")
	// ErrVersion: the bytes were written in a format this binary does not know. A newer binary is needed.
	ErrVersion = errors.New("unknown format version")
	// ErrInvalid: the input of an encoder breaks an invariant of the format. A defect of the caller.
	ErrInvalid = errors.New("invalid index")
)

// RangeReader reads parts of objects; objstore.Store is one. GetRange fills p from byte offset off or returns an
// error.
type RangeReader interface {
	GetRange(ctx context.Context, key string, off int64, p []byte) error
}

// Batch is what is known of one record batch without reading it.
type Batch struct {
	BaseOffset   int64
	Offsets      int32 // offsets it occupies: last offset delta + 1; at least 1
	Records      int32 // records it holds; fewer than Offsets after compaction
	Length       int32 // bytes of the whole batch, the 12 bytes of base offset and length field included
	MaxTimestamp int64 // milliseconds; -1 = none

	ProducerID    int64 // -1 = none
	ProducerEpoch int16 // -1 = none
	BaseSequence  int32 // -1 = none

	Transactional    bool
	Control          bool  // a transaction marker
	Abort            bool  // of a marker: abort, else commit
	CoordinatorEpoch int32 // of a marker
}

// End is the offset after the last one of the batch.
func (b *Batch) End() int64 { return b.BaseOffset + int64(b.Offsets) }

// Extent is a contiguous run of one partition's batches of one leader epoch inside one object.
type Extent struct {
	catalog.TopicPartition
	LeaderEpoch  int32
	Base, End    int64 // offsets; End is exclusive
	Pos          int64 // byte offset in the object
	Len          int64 // bytes
	MaxTimestamp int64 // of any batch, milliseconds
	Batches      []Batch
}

// Index lists the extents of one object, sorted by topic id, partition and base offset. A partition has several
// extents if its leader epoch changed or its offsets have a gap. An Index is immutable once it is shared.
type Index struct {
	Extents []Extent
}

// Batches is the number of batches in all extents.
func (ix *Index) Batches() int {
	n := 0
	for i := range ix.Extents {
		n += len(ix.Extents[i].Batches)
	}
	return n
}

// Validate returns an error wrapping [ErrInvalid] unless the index obeys the invariants of the format. Pos, Len and
// MaxTimestamp are checked too.
func (ix *Index) Validate() error {
	end := int64(headerSize)
	for i := range ix.Extents {
		e := &ix.Extents[i]
		var prev *Extent
		if i > 0 {
			prev = &ix.Extents[i-1]
		}
		length, maxTimestamp, err := e.validate(prev)
		switch {
		case err != nil:
			return err
		case e.Len != length:
			return e.invalid("its length %d is not that of its batches, %d", e.Len, length)
		case e.MaxTimestamp != maxTimestamp:
			return e.invalid("its max timestamp %d is not that of its batches, %d", e.MaxTimestamp, maxTimestamp)
		case e.Pos < end:
			return e.invalid("its position %d is before the end of the one before, %d", e.Pos, end)
		case e.Pos > MaxObjectBytes-e.Len:
			return e.invalid("it ends beyond %d bytes", int64(MaxObjectBytes))
		}
		end = e.Pos + e.Len
	}
	return nil
}

// validate checks everything but Pos, Len and MaxTimestamp; the latter two it computes.
func (e *Extent) validate(prev *Extent) (length, maxTimestamp int64, err error) {
	if prev != nil {
		if c := prev.TopicPartition.Compare(e.TopicPartition); c > 0 || c == 0 && e.Base < prev.End {
			return 0, 0, e.invalid("it is out of order")
		}
	}
	switch {
	case e.Partition < 0:
		return 0, 0, e.invalid("its partition is negative")
	case e.Base < 0:
		return 0, 0, e.invalid("its base offset is negative")
	case len(e.Batches) == 0:
		return 0, 0, e.invalid("it has no batches")
	}
	next := e.Base
	maxTimestamp = math.MinInt64
	for i := range e.Batches {
		b := &e.Batches[i]
		switch {
		case b.BaseOffset != next:
			return 0, 0, e.invalid("batch %d starts at offset %d instead of %d", i, b.BaseOffset, next)
		case b.Offsets < 1 || b.Records < 0 || b.Length < 1:
			return 0, 0, e.invalid("batch %d has %d offsets, %d records, %d bytes", i, b.Offsets, b.Records, b.Length)
		case next > math.MaxInt64-int64(b.Offsets):
			return 0, 0, e.invalid("its offsets end beyond the largest one")
		}
		next += int64(b.Offsets)
		length += int64(b.Length)
		maxTimestamp = max(maxTimestamp, b.MaxTimestamp)
	}
	if e.End != next {
		return 0, 0, e.invalid("its batches end at offset %d", next)
	}
	return length, maxTimestamp, nil
}

func (e *Extent) invalid(format string, args ...any) error {
	return fmt.Errorf("%w: extent %s [%d,%d): %s", ErrInvalid, e.TopicPartition, e.Base, e.End, fmt.Sprintf(format, args...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
