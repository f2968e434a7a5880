package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// flush seals objects and starts their uploads: full ones at once, the open one when FlushInterval has passed since
// the last seal, and either only when an upload slot is free. While all slots are busy the open object grows, so
// that a slow store gets fewer, larger objects.
func (t *term) flush(ctx context.Context, uploads *sync.WaitGroup) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, some := t.due()
		switch {
		case !some:
			select {
			case <-ctx.Done():
				return
			case <-t.wake:
			}
			continue
		case wait > 0:
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-t.wake: // perhaps an object got full meanwhile
			case <-timer.C:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case t.slots <- struct{}{}:
		}
		o := t.seal()
		uploads.Go(func() {
			defer func() { <-t.slots }()
			t.upload(ctx, o)
		})
	}
}

// due tells how long to wait before the next seal, and whether there is anything to seal.
func (t *term) due() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.full) > 0 {
		return 0, true
	}
	if t.mu.open == nil {
		return 0, false
	}
	if t.mu.hurry {
		return 0, true
	}
	return t.e.cfg.FlushInterval - time.Since(t.mu.lastSeal), true
}

// seal gives the oldest object its sequence. Only the flush goroutine calls it, so sequences follow t.mu.inflight.
func (t *term) seal() *openObject {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	var o *openObject
	full := len(t.mu.full) > 0
	if hook := t.e.cfg.Hooks.Sealed; hook != nil {
		defer hook(full)
	}
	if full {
		o = t.mu.full[0]
		t.mu.full[0] = nil
		t.mu.full = t.mu.full[1:]
	} else {
		o = t.mu.open
		t.mu.open, t.mu.hurry = nil, false
		t.mu.lastSeal = now
	}
	t.mu.seq++
	o.seq, o.sealedAt = t.mu.seq, now
	return o
}

// upload lays the object out and puts it, under a new key for each try, until it is stored or the term ends.
func (t *term) upload(ctx context.Context, o *openObject) {
	if hook := t.e.cfg.Hooks.Uploading; hook != nil {
		hook(1)
		defer hook(-1)
	}
	var b segment.Builder
	built, err := o.layout(&b)
	if err != nil { // a defect: nothing from outside decides over the layout
		t.fail(fmt.Errorf("lay out log object %d: %w", o.seq, err))
		return
	}
	o.index = built.Index
	row := catalog.TailEntry{
		Epoch: t.epoch, First: o.seq, Last: o.seq, Size: built.Size, Checksum: built.Checksum,
		Index: built.Index.AppendTail(nil), Ends: t.e.ends(&built.Index),
	}
	wait := backoff{}
	for attempt := 1; ; attempt++ {
		err = nil
		if row.Object == 0 {
			row.Object, err = nextObjectID(ctx, t.e)
		}
		if err == nil {
			row.Key = segment.LogKey(o.sealedAt, t.e.cfg.Process, t.epoch, o.seq, attempt)
			err = t.e.cfg.Store.Put(ctx, row.Key, objstore.Body{Slices: built.Slices, Size: built.Size, Checksum: built.Checksum})
		}
		if err == nil {
			break
		}
		if row.Key != "" && !errors.Is(err, objstore.ErrNoSpace) {
			o.orphans = append(o.orphans, row.Key)
		}
		if ctx.Err() != nil {
			return
		}
		t.retried()
		t.setTrouble(fmt.Errorf("the object store does not take log objects: %w", err))
		if n, log := t.e.quiet.loud("upload"); log {
			t.e.cfg.Logger.Warn("cannot store a log object, trying again", "sequence", o.seq, "attempt", attempt, "failures", n, "error", err)
		}
		if !wait.sleep(ctx) {
			return
		}
	}
	t.mu.Lock()
	o.row, o.uploaded, o.took = row, true, time.Since(o.sealedAt)
	t.mu.Unlock()
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

func nextObjectID(ctx context.Context, e *Engine) (catalog.ObjectID, error) {
	id, err := e.ids.next(ctx, e.cfg.Catalog)
	return catalog.ObjectID(id), err
}
