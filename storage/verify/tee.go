package verify

import (
	"context"
	"fmt"

	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// tee hands reads through and compares the batch headers that go by with an index, so that the bytes are read once. It
// follows reads that go on where the last one ended and ignores the others: [segment.VerifyObject] reads the footer, then
// everything front to back.
type tee struct {
	inner segment.RangeReader
	index *segment.Index

	next          int64 // byte the front-to-back read has come to
	extent, batch int   // due
	pos           int64 // of the batch due
	head          [recordbatch.HeaderSize]byte
	have          int // bytes of head
	wrong         string
}

// newTee compares nothing if index is nil.
func newTee(inner segment.RangeReader, index *segment.Index) *tee {
	t := &tee{inner: inner, index: index}
	if index == nil {
		t.index = &segment.Index{}
	}
	t.aim()
	return t
}

// aim sets pos to where the batch due is, if a new extent begins.
func (t *tee) aim() {
	for t.extent < len(t.index.Extents) && t.batch == len(t.index.Extents[t.extent].Batches) {
		t.extent, t.batch = t.extent+1, 0
	}
	if t.extent < len(t.index.Extents) && t.batch == 0 {
		t.pos = t.index.Extents[t.extent].Pos
	}
}

// GetRange implements [segment.RangeReader].
func (t *tee) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	if err := t.inner.GetRange(ctx, key, off, p); err != nil {
		return err
	}
	if off != t.next {
		return nil
	}
	t.next += int64(len(p))
	for t.wrong == "" && t.extent < len(t.index.Extents) {
		at := t.pos + int64(t.have) - off // where the next byte wanted is in p
		if at < 0 || at >= int64(len(p)) {
			return nil
		}
		t.have += copy(t.head[t.have:], p[at:])
		if t.have < len(t.head) {
			return nil
		}
		t.have = 0
		t.compare()
	}
	return nil
}

func (t *tee) compare() {
	x := &t.index.Extents[t.extent]
	b := &x.Batches[t.batch]
	h, err := recordbatch.ParseHeader(t.head[:])
	got := segment.Batch{
		BaseOffset: h.BaseOffset, Offsets: h.LastOffsetDelta + 1, Records: h.NumRecords, Length: int32(h.Size()),
		MaxTimestamp: h.MaxTimestamp, ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Transactional: h.IsTransactional(), Control: h.IsControl(),
		Abort: b.Abort, CoordinatorEpoch: b.CoordinatorEpoch, // these are in the record
	}
	if err != nil || got != *b {
		t.wrong = fmt.Sprintf("the tail row says of the batch at offset %d of %s: %+v; its header says %+v", b.BaseOffset, x.TopicPartition, *b, got)
		return
	}
	t.pos += int64(b.Length)
	t.batch++
	t.aim()
}
