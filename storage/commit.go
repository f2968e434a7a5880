package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// maxCommitObjects bounds how many objects one commit names.
const maxCommitObjects = 64

// commit is the term's one committer: it commits uploaded objects in sequence order, several at a time when several
// are ready, and applies them.
func (t *term) commit(ctx context.Context) {
	for {
		objs := t.committable()
		if len(objs) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-t.ready:
			}
			continue
		}
		began := time.Now()
		at, err := t.commitRows(ctx, objs)
		if err != nil {
			if ctx.Err() == nil {
				t.fail(err)
			}
			return
		}
		t.apply(ctx, objs, at, time.Since(began))
	}
}

// committable returns the uploaded objects at the head of the line.
func (t *term) committable() []*openObject {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.mu.inflight) && n < maxCommitObjects && t.mu.inflight[n].uploaded {
		n++
	}
	return append([]*openObject(nil), t.mu.inflight[:n]...)
}

// commitRows makes the manifest name the objects. While the catalog cannot be reached it tries for as long as the term
// lives: the objects are stored, producers wait.
func (t *term) commitRows(ctx context.Context, objs []*openObject) (time.Time, error) {
	rows := make([]catalog.TailEntry, len(objs))
	for i, o := range objs {
		rows[i] = o.row
	}
	last := rows[len(rows)-1]
	wait := backoff{}
	for inDoubt := false; ; {
		at, err := t.e.cfg.Catalog.Commit(ctx, t.epoch, rows)
		switch {
		case err == nil:
			t.e.clock.note(at)
			t.setTrouble(nil)
			return at, nil
		case errors.Is(err, catalog.ErrSequence) && inDoubt:
			// An earlier try may have been applied although its answer was lost: the row decides.
			row, readErr := t.e.cfg.Catalog.TailAt(ctx, t.epoch, last.Last)
			if readErr == nil && row.Object == last.Object {
				t.setTrouble(nil)
				return row.CommittedAt, nil
			}
			if readErr == nil || errors.Is(readErr, catalog.ErrNotFound) {
				return time.Time{}, fmt.Errorf("commit sequence %d: %w", last.Last, err)
			}
			err = readErr
		case errors.Is(err, catalog.ErrFenced), errors.Is(err, catalog.ErrSequence), errors.Is(err, catalog.ErrClosed):
			return time.Time{}, fmt.Errorf("commit sequence %d: %w", last.Last, err)
		}
		if ctx.Err() != nil {
			return time.Time{}, ctx.Err()
		}
		inDoubt = true
		t.retried()
		t.setTrouble(fmt.Errorf("the catalog does not take commits: %w", err))
		if n, log := t.e.quiet.loud("commit"); log {
			t.e.cfg.Logger.Warn("cannot commit, trying again", "sequence", last.Last, "failures", n, "error", err)
		}
		if !wait.sleep(ctx) {
			return time.Time{}, ctx.Err()
		}
	}
}

// apply moves high watermarks, hands the buffers to the tail cache, answers producers and wakes fetches: in that
// order, so that who was answered can read.
func (t *term) apply(ctx context.Context, objs []*openObject, at time.Time, took time.Duration) {
	var b bell
	freed := int64(0)
	orphans := []string(nil)
	for _, o := range objs {
		o.row.CommittedAt = at
		obj := &tailObject{row: o.row, slices: o.slices}
		for _, f := range o.frames {
			obj.frames = append(obj.frames, f)
			obj.cached += int64(f.Cap())
		}
		obj.cached = max(obj.cached, o.bytes) // some may be the garbage collector's
		t.e.tail.add(obj)
		t.applyExtents(o, obj, at, &b)
		t.noteTail(obj) // last: the housekeeper may rewrite it from here on
		freed += o.bytes
		orphans = append(orphans, o.orphans...)
	}
	t.mu.Lock()
	clear(t.mu.inflight[:len(objs)])
	t.mu.inflight = t.mu.inflight[len(objs):]
	t.mu.uncommitted -= freed
	t.freeRoomLocked()
	nudge := t.mu.rows >= hotMergeObjects || t.mu.indexSize >= maxTailIndex/2
	t.mu.Unlock()
	t.buffered(-freed)
	for _, o := range objs {
		close(o.flight.done)
		o.ended(nil)
	}
	b.ring()
	t.committed(objs[len(objs)-1].row.Last)
	t.e.reportTail(t)
	if hook := t.e.cfg.Hooks.Flushed; hook != nil {
		for _, o := range objs {
			hook(o.row.Size, o.took, took)
		}
	}
	if len(orphans) > 0 {
		t.e.deleteLosers(ctx, orphans)
	}
	if nudge {
		t.e.wakeKeeper()
	}
}

func (t *term) applyExtents(o *openObject, obj *tailObject, at time.Time, b *bell) {
	now := time.Now()
	hooks := &t.e.cfg.Hooks
	for _, x := range tailExtents(obj, &o.index) {
		run := o.entries[x.first : x.first+len(x.batches)]
		p := run[0].p
		records := 0
		p.mu.Lock()
		for i := range run {
			records += int(run[i].meta.Records)
			if run[i].meta.ProducerID >= 0 {
				p.mu.producers.committed(run[i].meta.ProducerID, at.UnixMilli())
			}
		}
		if p.mu.term == t {
			if n := len(p.mu.tail); n > 0 && p.mu.tail[n-1].obj.row.Epoch != t.epoch {
				obj.joins = t.e.cfg.Fleet != nil
			}
			p.appendTailLocked(x)
			b.add(p)
		}
		p.mu.Unlock()
		if hooks.Batch != nil {
			for i := range run {
				hooks.Batch(p.tp, int(run[i].meta.Records), len(run[i].batch), now.Sub(run[i].at))
			}
		}
		if hooks.Committed != nil {
			hooks.Committed(p.tp, records, int(x.size()), now.Sub(run[0].at))
		}
	}
}

func (e *Engine) reportTail(t *term) {
	if hook := e.cfg.Hooks.Tail; hook != nil {
		t.mu.Lock()
		rows, size := t.mu.rows, t.mu.indexSize
		t.mu.Unlock()
		hook(rows, size, e.tail.bytes())
	}
}
