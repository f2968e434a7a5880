package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// maxScanBytes bounds what one batch may unfold to when it is searched for a timestamp.
const maxScanBytes = 256 << 20

// span is a stretch of a partition that may hold a record of a time.
type span struct {
	base, end int64
	maxTS     int64
	object    catalog.ObjectID // 0: in the tail, where batches are known one by one
}

// OffsetForTimestamp returns the first record at or after ts (milliseconds), in offset order: Kafka's ListOffsets by
// time. Offset is -1 when there is none below the high watermark.
func (e *Engine) OffsetForTimestamp(ctx context.Context, tp catalog.TopicPartition, ts int64) (TimestampOffset, error) {
	for retries := 0; ; retries++ {
		found, err := e.offsetForTimestamp(ctx, tp, ts)
		if retries == 2 || !errors.Is(err, errStaleRow) && !errors.Is(err, objstore.ErrNotFound) {
			return found, err
		}
	}
}

func (e *Engine) offsetForTimestamp(ctx context.Context, tp catalog.TopicPartition, ts int64) (TimestampOffset, error) {
	none := TimestampOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}
	p, err := e.lockLed(ctx, tp)
	if err != nil {
		return none, err
	}
	p.mu.Unlock()
	found := none
	err = e.spans(ctx, p, func(s span) (bool, error) {
		if s.maxTS < ts {
			return true, nil
		}
		for from := s.base; from < s.end; {
			part := s
			part.base = from
			if s.object != 0 {
				run, ok, err := e.runByTime(ctx, tp, part, ts)
				if err != nil || !ok {
					return err == nil, err
				}
				part.base, part.end = max(run.Base, from), run.End
			}
			f, err := e.scan(ctx, tp, part, func(at int64) bool { return at >= ts })
			if err != nil || f.Offset >= 0 {
				found = f
				return false, err
			}
			from = part.end
		}
		return true, nil
	})
	if err != nil {
		return none, fmt.Errorf("find time %d in %s: %w", ts, tp, err)
	}
	return found, nil
}

// MaxTimestamp returns the first record that has the largest timestamp of the log (KIP-734).
func (e *Engine) MaxTimestamp(ctx context.Context, tp catalog.TopicPartition) (TimestampOffset, error) {
	none := TimestampOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}
	p, err := e.lockLed(ctx, tp)
	if err != nil {
		return none, err
	}
	p.mu.Unlock()
	best := int64(-1)
	err = e.spans(ctx, p, func(s span) (bool, error) {
		best = max(best, s.maxTS)
		return true, nil
	})
	if err != nil {
		return none, fmt.Errorf("find the largest time in %s: %w", tp, err)
	}
	if best < 0 {
		return none, nil
	}
	return e.OffsetForTimestamp(ctx, tp, best)
}

// spans walks the partition's extents in offset order until visit says to stop.
func (e *Engine) spans(ctx context.Context, p *partition, visit func(span) (bool, error)) error {
	p.mu.Lock()
	start, folded := p.mu.logStart, p.mu.foldedEnd
	tail := append([]tailExtent(nil), p.mu.tail...)
	p.mu.Unlock()
	for from := start; from < folded; {
		rows, err := e.cfg.Catalog.PackedRows(ctx, p.tp, from, 64)
		if err != nil {
			return fmt.Errorf("read the manifest: %w", translate(err))
		}
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			xs, err := segment.DecodePacked(r.Extents)
			if err != nil {
				return fmt.Errorf("decode a packed row: %w: %w", ErrCorrupt, err)
			}
			for _, x := range xs {
				if x.End <= start {
					continue
				}
				if more, err := visit(span{max(x.Base, start), x.End, x.MaxTimestamp, x.Object}); !more || err != nil {
					return err
				}
			}
			from = r.End
		}
	}
	for i := range tail {
		base := tail[i].base
		for _, b := range tail[i].batches {
			end := tail[i].base + int64(b.end)
			if end > start {
				if more, err := visit(span{base: max(base, start), end: end, maxTS: b.maxTS}); !more || err != nil {
					return err
				}
			}
			base = end
		}
	}
	return nil
}

func (e *Engine) runByTime(ctx context.Context, tp catalog.TopicPartition, s span, ts int64) (segment.Run, bool, error) {
	x := stored{tp: tp, object: s.object}
	footer, err := e.openStored(ctx, &x)
	if err != nil {
		return segment.Run{}, false, translateRead(err)
	}
	run, ok := footer.FindTime(tp, s.base, s.end, ts)
	return run, ok, nil
}

// scan reads the batches of a span and returns the first record whose timestamp matches.
func (e *Engine) scan(ctx context.Context, tp catalog.TopicPartition, s span, match func(int64) bool) (TimestampOffset, error) {
	var r Read
	var whole []byte
	for offset := s.base; offset < s.end; {
		err := e.Read(ctx, ReadRequest{TP: tp, Offset: offset, MaxBytes: 1, MinOne: true}, &r)
		whole = whole[:0]
		for _, part := range r.Records {
			whole = append(whole, part...)
		}
		r.Release()
		if err != nil {
			return TimestampOffset{Offset: -1}, err
		}
		if len(whole) == 0 {
			break
		}
		h, err := recordbatch.ParseHeader(whole)
		if err != nil {
			return TimestampOffset{Offset: -1}, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if match(h.MaxTimestamp) {
			f, err := scanBatch(whole, &h, s.base, match)
			if err != nil || f.Offset >= 0 {
				return f, err
			}
		}
		offset = h.LastOffset() + 1
	}
	return TimestampOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}, nil
}

func scanBatch(b []byte, h *recordbatch.Header, from int64, match func(int64) bool) (TimestampOffset, error) {
	for rec, err := range recordbatch.Records(b, maxScanBytes) {
		if err != nil {
			return TimestampOffset{Offset: -1}, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		at := h.FirstTimestamp + rec.TimestampDelta
		if h.LogAppendTime() {
			at = h.MaxTimestamp
		}
		if offset := h.BaseOffset + int64(rec.OffsetDelta); offset >= from && match(at) {
			return TimestampOffset{Offset: offset, Timestamp: at, LeaderEpoch: h.LeaderEpoch}, nil
		}
	}
	return TimestampOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}, nil
}
