package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// copyExtent reads one extent of an input, proves every batch of it (checksum, offsets), and adds it to the output
// under way. Extents that follow each other in offsets and leader epoch become one in the output.
func (m *segMerge) copyExtent(ctx context.Context, in *input, tp catalog.TopicPartition, x segment.PackedExtent) error {
	buf := m.t.e.cfg.Pool.Get(int(x.Len))
	if err := in.read(ctx, m.t.e, x.Pos, buf.Bytes()); err != nil {
		buf.Release()
		return m.fail(&in.obj, fmt.Errorf("read %s: %w", in.obj.Key, translateRead(err)))
	}
	batches, err := parseBatches(buf.Bytes(), x.Base, x.End)
	if err != nil {
		buf.Release()
		return m.fail(&in.obj, fmt.Errorf("%s, partition %s: %w", in.obj.Key, tp, err))
	}
	if m.open && m.size+x.Len > segmentBytes {
		if err := m.finishOutput(ctx); err != nil {
			buf.Release()
			return err
		}
	}
	if !m.open {
		if m.outID, err = nextObjectID(ctx, m.t.e); err != nil {
			buf.Release()
			return err
		}
		m.open = true
	}
	m.bufs = append(m.bufs, buf)
	m.size += x.Len
	m.live += x.Len
	m.stage(tp, x, batches, buf.Bytes())
	return m.pace(ctx, x.Len)
}

// pace looks after the tail while the merge goes on, which may take long, and slows it down while producers are busy.
// errTailWaits when the tail has to be folded, which a merge under way would keep from happening, and be undone by.
func (m *segMerge) pace(ctx context.Context, n int64) error {
	m.unpaced += n
	if m.unpaced < windowBytes {
		return nil
	}
	copied := m.unpaced
	m.unpaced = 0
	if err := m.t.mergeOwnTail(ctx); err != nil {
		return err
	}
	if m.t.pressed() {
		return errTailWaits
	}
	if !m.t.busy() {
		return nil
	}
	pause := time.NewTimer(time.Duration(copied) * time.Second / busyMergeRate)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mergeOwnTail does a hot merge that is due. A failure that leaves no doubt is left to the tail's own step to tell.
func (t *term) mergeOwnTail(ctx context.Context) error {
	objs := t.tailOf(t.epoch)
	if len(objs) == 0 {
		return nil
	}
	if _, err := t.mergeHot(ctx, objs, false); err != nil && (t.doubt || ctx.Err() != nil || errors.Is(err, catalog.ErrFenced)) {
		return err
	}
	return nil
}

// busy tells whether producers wait for more than a little.
func (t *term) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.uncommitted > t.e.cfg.MaxUncommittedBytes/16
}

// stage notes an extent for the output under way; positions follow in finishOutput.
func (m *segMerge) stage(tp catalog.TopicPartition, x segment.PackedExtent, batches []segment.Batch, data []byte) {
	if n := len(m.staged); n > 0 {
		s := &m.staged[n-1]
		last := len(m.placed[tp]) - 1
		if s.x.TopicPartition == tp && s.x.End == x.Base && s.x.LeaderEpoch == x.LeaderEpoch && last >= 0 && m.placed[tp][last].Object == m.outID {
			s.x.End = x.End
			s.x.Batches = append(s.x.Batches, batches...)
			s.data = append(s.data, data)
			p := &m.placed[tp][last]
			p.End, p.Len, p.MaxTimestamp = x.End, p.Len+x.Len, max(p.MaxTimestamp, x.MaxTimestamp)
			return
		}
	}
	m.placed[tp] = append(m.placed[tp], segment.PackedExtent{
		Object: m.outID, Base: x.Base, End: x.End, Len: x.Len, LeaderEpoch: x.LeaderEpoch, MaxTimestamp: x.MaxTimestamp,
	})
	m.refs++
	m.staged = append(m.staged, staged{
		x:    segment.Extent{TopicPartition: tp, LeaderEpoch: x.LeaderEpoch, Base: x.Base, End: x.End, Batches: batches},
		data: [][]byte{data}, at: len(m.placed[tp]) - 1,
	})
}

type staged struct {
	x    segment.Extent
	data [][]byte
	at   int // index in placed
}

// finishOutput builds and stores the output under way and fills in its positions.
func (m *segMerge) finishOutput(ctx context.Context) error {
	if !m.open {
		return nil
	}
	m.builder.Begin()
	for i := range m.staged {
		m.builder.Add(m.staged[i].x, m.staged[i].data...)
	}
	built, err := m.builder.Finish()
	if err != nil {
		return fmt.Errorf("lay out a merged segment: %w", err)
	}
	for i := range m.staged {
		s, x := &m.staged[i], &built.Index.Extents[i]
		p := &m.placed[x.TopicPartition][s.at]
		if p.Base != x.Base || p.End != x.End || p.Len != x.Len {
			return fmt.Errorf("%w: merge laid out [%d, %d) where it copied [%d, %d)", ErrCorrupt, x.Base, x.End, p.Base, p.End)
		}
		p.Pos = x.Pos
	}
	obj, err := m.putOutput(ctx, &built)
	if err != nil {
		return err
	}
	m.edit.Objects = append(m.edit.Objects, obj)
	m.releaseOutput()
	return nil
}

func (m *segMerge) releaseOutput() {
	for _, b := range m.bufs {
		b.Release()
	}
	m.bufs, m.staged = nil, nil
	m.open, m.size, m.refs, m.live = false, 0, 0, 0
}

// parseBatches walks an extent's bytes and describes its batches. Each must have a right checksum and continue the
// offsets; together they must end exactly where the extent does.
func parseBatches(b []byte, base, end int64) ([]segment.Batch, error) {
	var out []segment.Batch
	next := base
	for len(b) > 0 {
		batch, rest, err := recordbatch.Next(b)
		if err != nil {
			return nil, fmt.Errorf("%w: batch at offset %d: %w", ErrCorrupt, next, err)
		}
		h, err := recordbatch.ParseHeader(batch)
		if err != nil || h.BaseOffset != next || !recordbatch.ChecksumOK(batch) {
			return nil, fmt.Errorf("%w: batch at offset %d", ErrCorrupt, next)
		}
		out = append(out, segment.Batch{
			BaseOffset: h.BaseOffset, Offsets: h.LastOffsetDelta + 1, Records: h.NumRecords, Length: int32(len(batch)),
			MaxTimestamp: h.MaxTimestamp, ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
			Transactional: h.IsTransactional(), Control: h.IsControl(),
		})
		next = h.LastOffset() + 1
		b = rest
	}
	if next != end {
		return nil, fmt.Errorf("%w: extent ends at offset %d, the manifest says %d", ErrCorrupt, next, end)
	}
	return out, nil
}

// windowBytes is how much of an input is read at a time.
const windowBytes = 1 << 20

// read copies the bytes at pos into dst. It goes past the block cache, since a merge must not push out what consumers
// read, and checks every block.
func (in *input) read(ctx context.Context, e *Engine, pos int64, dst []byte) error {
	for len(dst) > 0 {
		if in.window == nil || pos < in.from || pos >= in.from+int64(len(in.window.Bytes())) {
			if err := in.load(ctx, e, pos); err != nil {
				return err
			}
		}
		n := copy(dst, in.window.Bytes()[pos-in.from:])
		dst, pos = dst[n:], pos+int64(n)
	}
	return nil
}

func (in *input) load(ctx context.Context, e *Engine, pos int64) error {
	in.window.Release()
	in.window = nil
	from := pos / segment.BlockSize * segment.BlockSize
	size := min(windowBytes, in.footer.DataEnd()-from)
	if size <= pos-from {
		return fmt.Errorf("%w: byte %d is beyond the records of %s", ErrCorrupt, pos, in.obj.Key)
	}
	buf := e.cfg.Pool.Get(int(size))
	if err := e.cfg.Store.GetRange(e.onBehalfOfFooter(ctx, in.footer), in.obj.Key, from, buf.Bytes()); err != nil {
		buf.Release()
		return err
	}
	for i := 0; i < len(buf.Bytes()); i += segment.BlockSize {
		block := buf.Bytes()[i:min(i+segment.BlockSize, len(buf.Bytes()))]
		if checksum(block) != in.footer.BlockSum(int((from+int64(i))/segment.BlockSize)) {
			buf.Release()
			return fmt.Errorf("%w: block at byte %d of %s", ErrCorrupt, from+int64(i), in.obj.Key)
		}
	}
	in.window, in.from = buf, from
	return nil
}
