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
	return e.underLease(ctx, tp, func(v *view) (TimestampOffset, error) {
		found, err := e.firstAt(ctx, v, ts)
		if err != nil {
			return noTimestamp, fmt.Errorf("find time %d in %s: %w", ts, tp, err)
		}
		return found, nil
	})
}

// MaxTimestamp returns the first record that has the largest timestamp of the log (KIP-734).
func (e *Engine) MaxTimestamp(ctx context.Context, tp catalog.TopicPartition) (TimestampOffset, error) {
	return e.underLease(ctx, tp, func(v *view) (TimestampOffset, error) {
		best := int64(-1)
		err := e.spans(ctx, v, func(s span) (bool, error) {
			best = max(best, s.maxTS)
			return true, nil
		})
		found := noTimestamp
		if err == nil && best >= 0 {
			found, err = e.firstAt(ctx, v, best)
		}
		if err != nil {
			return noTimestamp, fmt.Errorf("find the largest time in %s: %w", tp, err)
		}
		return found, nil
	})
}

var noTimestamp = TimestampOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}

// view is a partition's log as one term knew it at one moment.
type view struct {
	p             *partition
	term          *term
	epoch         int32
	start, folded int64
	tail          []tailExtent
}

// underLease computes an answer from a view and returns it only if the term it was taken from still leads the
// partition, under a lease still trusted: else the partition may have been reset under the computation, or moved on
// elsewhere. A manifest row that was rewritten, or a log start that moved, makes it look again.
func (e *Engine) underLease(
	ctx context.Context, tp catalog.TopicPartition, answer func(*view) (TimestampOffset, error),
) (TimestampOffset, error) {
	for retries := 0; ; retries++ {
		p, err := e.lockLed(ctx, tp)
		if err != nil {
			return noTimestamp, err
		}
		v := view{p: p, term: p.mu.term, epoch: p.mu.leaderEpoch, start: p.mu.logStart, folded: p.mu.foldedEnd, tail: append([]tailExtent(nil), p.mu.tail...)}
		p.mu.Unlock()
		found, err := answer(&v)
		if retries < 2 && (errors.Is(err, errStaleRow) || errors.Is(err, objstore.ErrNotFound) || errors.Is(err, ErrOffsetOutOfRange)) {
			continue
		}
		if err != nil {
			return noTimestamp, err
		}
		p.mu.Lock()
		led := p.mu.term == v.term && p.mu.leaderEpoch == v.epoch && p.leadsLocked() && v.term.trusted()
		p.mu.Unlock()
		if !led {
			return noTimestamp, e.absent(tp)
		}
		return found, nil
	}
}

func (e *Engine) firstAt(ctx context.Context, v *view, ts int64) (TimestampOffset, error) {
	tp, found := v.p.tp, noTimestamp
	err := e.spans(ctx, v, func(s span) (bool, error) {
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
	return found, err
}

// spans walks the partition's extents in offset order until visit says to stop.
func (e *Engine) spans(ctx context.Context, v *view, visit func(span) (bool, error)) error {
	start, tail := v.start, v.tail
	for from := start; from < v.folded; {
		rows, err := e.cfg.Catalog.PackedRows(ctx, v.p.tp, from, 64)
		if err != nil {
			return fmt.Errorf("read the manifest: %w", translate(err))
		}
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			if r.Base >= v.folded {
				break // folded since: the view's tail has it
			}
			xs, err := segment.DecodePacked(r.Extents)
			if err != nil {
				return fmt.Errorf("decode a packed row: %w: %w", ErrCorrupt, err)
			}
			for _, x := range xs {
				if x.End <= start || x.Base >= v.folded {
					continue
				}
				if more, err := visit(span{max(x.Base, start), x.End, x.MaxTimestamp, x.Object}); !more || err != nil {
					return err
				}
			}
		}
		from = rows[len(rows)-1].End
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
	footer, err := e.openStored(e.onBehalf(ctx, tp.Topic), &x)
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
