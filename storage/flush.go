package storage

import (
	"context"
	"time"
)

// flush seals objects and starts their uploads: full ones at once, the open one when FlushInterval has passed since
// the last seal, and either only when an upload slot is free. While all slots are busy the open object grows, so
// that a slow store gets fewer, larger objects.
func (t *term) flush(ctx context.Context) {
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
		t.uploads.Go(func() {
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
