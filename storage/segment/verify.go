package segment

import (
	"context"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

// verifyWindow is how many bytes a verification asks for at once.
const verifyWindow = 16 * BlockSize

// Verified is what a verification counted.
type Verified struct {
	Checksum uint32 // CRC-32C of the whole object, to compare with the catalog's
	Extents  int
	Batches  int64
	Records  int64
}

// VerifyObject reads the whole object and checks magic, block sums and footer, that each batch is whole with a right
// CRC, and that batches agree with extents and sparse entries: positions, dense offsets, leader epochs, timestamps.
// It stops at the first problem, with an error that wraps [ErrCorrupt] or [ErrVersion], or is that of r. progress may
// be nil; it is told the number of bytes done, now and then. Memory: 4 MiB and the largest batch.
func VerifyObject(
	ctx context.Context, r RangeReader, key string, size int64, progress func(done int64),
) (Verified, error) {
	f, err := ReadFooter(ctx, r, key, size)
	if err != nil {
		return Verified{}, fmt.Errorf("verify object: %w", err)
	}
	v := verifier{f: f}
	v.got.Extents = f.Len()
	window := make([]byte, min(size, verifyWindow))
	for pos := int64(0); pos < size; {
		p := window[:min(size-pos, verifyWindow)]
		if err := r.GetRange(ctx, key, pos, p); err != nil {
			return v.got, fmt.Errorf("verify object: read %s: %w", key, err)
		}
		v.got.Checksum = crc32.Update(v.got.Checksum, castagnoli, p)
		if err := v.window(pos, p); err != nil {
			return v.got, fmt.Errorf("verify object %s: %w", key, err)
		}
		pos += int64(len(p))
		if progress != nil {
			progress(pos)
		}
	}
	if v.extent != f.Len() {
		return v.got, fmt.Errorf("verify object %s: %w: its data ends within extent %d", key, ErrCorrupt, v.extent)
	}
	return v.got, nil
}

// verifier goes over the data once. Where it is: before byte pos, which is in extent, or in the gap before it.
type verifier struct {
	f   *Footer
	got Verified

	pending []byte // bytes from pos on: the start of a batch, or nothing
	pos     int64
	extent  int
	begun   bool // extent's first batch was seen, and next to timestamp are set

	next         int64 // offset expected
	maxTimestamp int64 // of the extent so far
	runs         scanner
	runTimestamp int64 // max of the sparse entry so far
}

// window checks bytes p from position at on, which starts a block.
func (v *verifier) window(at int64, p []byte) error {
	if at == 0 {
		if err := checkHeader(p); err != nil {
			return err
		}
	}
	p = p[:max(0, min(int64(len(p)), v.f.dataEnd-at))]
	for i := 0; i < len(p); i += BlockSize {
		b := int((at + int64(i)) / BlockSize)
		if sum := crc32.Checksum(p[i:min(i+BlockSize, len(p))], castagnoli); sum != v.f.BlockSum(b) {
			return fmt.Errorf("%w: checksum of block %d is %08x instead of %08x", ErrCorrupt, b, sum, v.f.BlockSum(b))
		}
	}
	if len(v.pending) > 0 {
		v.pending = append(v.pending, p...)
		p = v.pending
	}
	rest, err := v.batches(p)
	if err != nil {
		return err
	}
	v.pending = append(v.pending[:0], rest...) // rest may be the end of pending: append moves, front to back
	return nil
}

// batches takes whole batches off p, which starts at v.pos, and returns what is left.
func (v *verifier) batches(p []byte) ([]byte, error) {
	for v.extent < v.f.Len() {
		e := v.f.Extent(v.extent)
		if v.pos < e.Pos {
			n := min(e.Pos-v.pos, int64(len(p)))
			v.pos, p = v.pos+n, p[n:]
		}
		if len(p) < recordbatch.HeaderSize && int64(len(p)) < e.Pos+e.Len-v.pos {
			return p, nil
		}
		h, err := recordbatch.ParseHeader(p)
		if err != nil {
			return nil, v.corrupt(&e, "%v", err)
		}
		size := int64(h.Size())
		if size < recordbatch.HeaderSize || size > e.Pos+e.Len-v.pos {
			return nil, v.corrupt(&e, "a batch has %d bytes, the extent %d more", size, e.Pos+e.Len-v.pos)
		}
		if int64(len(p)) < size {
			return p, nil
		}
		if err := v.batch(&e, &h, p[:size]); err != nil {
			return nil, err
		}
		p = p[size:]
	}
	v.pos += int64(len(p))
	return nil, nil
}

func (v *verifier) batch(e *FooterExtent, h *recordbatch.Header, b []byte) error {
	if !v.begun {
		v.begun, v.next, v.maxTimestamp = true, e.Base, math.MinInt64
		v.runs, v.runTimestamp = v.f.scan(&v.f.extents[v.extent], 0), math.MinInt64
		v.runs.next()
	}
	switch {
	case h.Magic != 2:
		return v.corrupt(e, "a batch has magic %d", h.Magic)
	case !recordbatch.ChecksumOK(b):
		return v.corrupt(e, "the checksum of the batch at offset %d does not match", h.BaseOffset)
	case h.BaseOffset != v.next:
		return v.corrupt(e, "a batch starts at offset %d instead of %d", h.BaseOffset, v.next)
	case h.LastOffsetDelta < 0 || int64(h.LastOffsetDelta) >= e.End-v.next:
		return v.corrupt(e, "the batch at offset %d has last offset delta %d", h.BaseOffset, h.LastOffsetDelta)
	case h.LeaderEpoch != e.LeaderEpoch:
		return v.corrupt(e, "the batch at offset %d is of leader epoch %d, the extent of %d", h.BaseOffset, h.LeaderEpoch,
			e.LeaderEpoch)
	case h.NumRecords < 0:
		return v.corrupt(e, "the batch at offset %d has %d records", h.BaseOffset, h.NumRecords)
	}
	v.got.Batches++
	v.got.Records += int64(h.NumRecords)
	v.next += int64(h.LastOffsetDelta) + 1
	v.pos += int64(len(b))
	v.maxTimestamp = max(v.maxTimestamp, h.MaxTimestamp)
	v.runTimestamp = max(v.runTimestamp, h.MaxTimestamp)
	if r := &v.runs.run; v.next >= r.End {
		if v.next != r.End || v.pos != r.Pos+r.Len || v.runTimestamp != r.MaxTimestamp {
			return v.corrupt(e, "the sparse entry of offsets [%d,%d) does not agree with its batches", r.Base, r.End)
		}
		v.runs.next()
		v.runTimestamp = math.MinInt64
	}
	if v.pos < e.Pos+e.Len {
		return nil
	}
	if v.next != e.End || v.maxTimestamp != e.MaxTimestamp {
		return v.corrupt(e, "it ends at offset %d with max timestamp %d", v.next, v.maxTimestamp)
	}
	v.extent++
	v.begun = false
	return nil
}

func (v *verifier) corrupt(e *FooterExtent, format string, args ...any) error {
	return fmt.Errorf("%w: extent %s [%d,%d) at byte %d: %s", ErrCorrupt, e.TopicPartition, e.Base, e.End, v.pos,
		fmt.Sprintf(format, args...))
}
