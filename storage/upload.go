package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// upload lays the object out and puts it, under a new key for each try, until it is stored or the term ends.
func (t *term) upload(ctx context.Context, o *openObject) {
	if hook := t.e.cfg.Hooks.Uploading; hook != nil {
		hook(1)
		defer hook(-1)
	}
	ctx = o.traced(ctx, t.e.cfg.Tracer)
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
	ctx = t.e.onBehalfOfAll(ctx, &built.Index)
	u := uploader{t: t, o: o, body: objstore.Body{Slices: built.Slices, Size: built.Size, Checksum: built.Checksum}}
	wait := backoff{}
	for {
		err = nil
		if row.Object == 0 {
			row.Object, err = nextObjectID(ctx, t.e)
		}
		if err == nil {
			row.Key, err = u.put(ctx)
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		t.retried()
		t.setTrouble(fmt.Errorf("the object store does not take log objects: %w", err))
		if n, log := t.e.quiet.loud("upload"); log {
			t.e.cfg.Logger.Warn("cannot store a log object, trying again", "sequence", o.seq, "attempt", u.tries, "failures", n, "error", err)
		}
		if !wait.sleep(ctx) {
			return
		}
	}
	t.e.store.seen()
	o.row = row
	o.stored(u.tries)
	t.mu.Lock()
	o.uploaded, o.took = true, time.Since(o.sealedAt)
	t.mu.Unlock()
	select {
	case t.ready <- struct{}{}:
	default:
	}
}

// uploader stores one log object: each try under a key of its own, so that it does not matter what an earlier PUT may still
// do.
type uploader struct {
	t     *term
	o     *openObject
	body  objstore.Body
	tries int
}

// try is one PUT.
type try struct {
	key    string
	began  time.Time
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done
}

// put stores the object and returns under which key. Where the configuration allows it, a PUT that takes long gets a second
// one beside it, unless the store asks to slow down, and the faster of the two counts.
func (u *uploader) put(ctx context.Context) (key string, err error) {
	e := u.t.e
	if !e.cfg.HedgeUploads {
		return u.settle(u.run(u.next(ctx)))
	}
	delay, ok := e.uploads.Delay(u.body.Size)
	first := u.start(ctx)
	if !ok {
		<-first.done
		return u.settle(first)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-first.done:
		return u.settle(first)
	case <-timer.C:
	}
	// Asked now, not before: a PUT may be slow since the store has just begun to make all wait.
	if !objstore.Calm(e.cfg.Store) || !e.uploads.Take() {
		<-first.done
		return u.settle(first)
	}
	return u.race(ctx, first)
}

// race starts a second try beside one that takes long. The slower of two that would succeed is called off, and deleted once
// the object is committed under the other's key.
func (u *uploader) race(ctx context.Context, first *try) (key string, err error) {
	release := u.o.hold() // the slower may read the batches when the faster has handed them to the tail cache
	second := u.start(ctx)
	faster, slower := first, second
	select {
	case <-first.done:
	case <-second.done:
		faster, slower = second, first
	}
	told := u.t.e.cfg.Hooks.Hedged
	if told == nil {
		told = func(bool) {}
	}
	if faster.err != nil {
		u.lost(faster)
		<-slower.done
		release()
		told(slower == second && slower.err == nil)
		return u.settle(slower)
	}
	told(faster == second)
	slower.cancel()
	u.t.uploads.Go(func() {
		<-slower.done
		release()
		u.t.forget(ctx, u.o.flight, slower.key)
	})
	return u.settle(faster)
}

// forget deletes what may be stored under a key when the object is committed under another. If it never is, the key is an
// orphan of this broker epoch, which a sweep finds when that is fenced.
func (t *term) forget(ctx context.Context, f *flight, key string) {
	select {
	case <-f.done:
	case <-ctx.Done():
		select {
		case <-f.done:
		default:
			return
		}
	}
	if f.err == nil {
		t.e.deleteLosers(ctx, []string{key})
	}
}

// next is a try under a new key.
func (u *uploader) next(ctx context.Context) (context.Context, *try) {
	u.tries++
	ctx, cancel := context.WithCancel(ctx)
	key := segment.LogKey(u.o.sealedAt, u.t.e.cfg.Process, u.t.epoch, u.o.seq, u.tries)
	return ctx, &try{key: key, began: time.Now(), cancel: cancel}
}

func (u *uploader) run(ctx context.Context, one *try) *try {
	one.err = u.t.e.cfg.Store.Put(ctx, one.key, u.body)
	one.cancel()
	return one
}

// start runs a try in a goroutine of its own.
func (u *uploader) start(ctx context.Context) *try {
	ctx, one := u.next(ctx)
	one.done = make(chan struct{})
	u.t.uploads.Go(func() {
		defer close(one.done)
		u.run(ctx, one)
	})
	return one
}

// settle takes the outcome of a try.
func (u *uploader) settle(one *try) (key string, err error) {
	if one.err != nil {
		u.lost(one)
		return "", one.err
	}
	u.t.e.uploads.Took(u.body.Size, time.Since(one.began))
	return one.key, nil
}

// lost notes a try that failed: something may be stored under its key, or be yet.
func (u *uploader) lost(one *try) {
	u.t.e.uploads.Failed()
	if !errors.Is(one.err, objstore.ErrNoSpace) {
		u.o.orphans = append(u.o.orphans, one.key)
	}
}

func nextObjectID(ctx context.Context, e *Engine) (catalog.ObjectID, error) {
	id, err := e.ids.next(ctx, e.cfg.Catalog)
	return catalog.ObjectID(id), err
}
