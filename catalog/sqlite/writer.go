package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// maxQueued is how many writes wait before callers block, maxGroup how many share a transaction.
	maxQueued = 256
	maxGroup  = 64
)

// tx is the writer's transaction as one write sees it.
type tx struct {
	*conn

	now   int64         // the catalog's clock, nanoseconds; one value for a whole group
	edits *atomic.Int64 // see Catalog.edits
	// edited: this transaction took rows out of the tail, or tried to.
	edited bool
}

// write is one caller's write on its way through the writer.
type write struct {
	ctx context.Context // travels with the write through the queue
	fn  func(*tx) error
	// done gets the answer once the transaction ended. Capacity 1: the caller may be gone.
	done chan error
	// running is held while fn runs, so that a caller who gives up does not take its slices away meanwhile.
	running sync.Mutex
	begun   bool // guarded by running
	gone    bool // guarded by running
	err     error
}

// write applies fn in a transaction, perhaps together with others. It returns after that was committed, or with the
// error that kept it from being so. fn runs at most once, on the writer's goroutine.
func (c *Catalog) write(ctx context.Context, op string, fn func(*tx) error) error {
	w, err := c.enqueue(ctx, fn)
	if err == nil {
		err = c.await(w)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, translate(err))
	}
	return nil
}

// enqueue hands a write to the writer.
func (c *Catalog) enqueue(ctx context.Context, fn func(*tx) error) (*write, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-c.closing:
		return nil, catalog.ErrClosed
	default:
	}
	if c.readOnly {
		return nil, ErrReadOnly
	}
	w := &write{ctx: ctx, fn: fn, done: make(chan error, 1)}
	select {
	case c.queue <- w:
		return w, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the writer: %w", ctx.Err())
	case <-c.closing:
		return nil, catalog.ErrClosed
	}
}

// await waits for the answer to a write.
func (c *Catalog) await(w *write) error {
	select {
	case err := <-w.done:
		return err
	case <-w.ctx.Done():
		return w.abandon()
	case <-c.stopped:
	}
	// The writer ended. It answered every write it took; this one may have slipped in behind.
	select {
	case err := <-w.done:
		return err
	default:
		return catalog.ErrClosed
	}
}

// abandon gives a write up whose context ended. It is not applied if the writer had not begun it; otherwise it is in
// doubt.
func (w *write) abandon() error {
	w.running.Lock()
	defer w.running.Unlock()
	if !w.begun {
		w.gone = true
		return fmt.Errorf("wait for the writer: %w", w.ctx.Err())
	}
	select {
	case err := <-w.done:
		return err // decided at the same moment
	default:
		return inDoubt(w.ctx)
	}
}

// apply runs fn unless the caller is gone.
func (w *write) apply(t *tx) error {
	w.running.Lock()
	defer w.running.Unlock()
	if w.gone {
		return nil
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.begun = true
	return w.fn(t)
}

// writer owns the writing connection: it takes what waits and commits it together.
func (c *Catalog) writer() {
	defer close(c.stopped)
	group := make([]*write, 0, maxGroup)
	for {
		group = group[:0]
		select {
		case w := <-c.queue:
			group = append(group, w)
		case <-c.closing:
			c.refuseQueued()
			return
		case job := <-c.finish:
			job <- c.backfill()
			continue
		}
	more:
		for len(group) < maxGroup {
			select {
			case w := <-c.queue:
				group = append(group, w)
			default:
				break more
			}
		}
		c.commitGroup(group)
		clear(group)
		c.noteWritten()
	}
}

func (c *Catalog) refuseQueued() {
	for {
		select {
		case w := <-c.queue:
			w.done <- catalog.ErrClosed
		default:
			return
		}
	}
}

// commitGroup applies the writes in one transaction and answers them. When the transaction fails, also the refused ones
// get its error: a refusal may rest on what another write of the group did, which now is not stored, or in doubt.
func (c *Catalog) commitGroup(group []*write) {
	err := c.transact(group)
	for _, w := range group {
		if err != nil {
			w.err = err
		}
		w.done <- w.err
	}
}

// transact leaves each refused write's error in the write and returns what befell the whole group.
func (c *Catalog) transact(group []*write) error {
	db := c.db
	if _, err := db.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", translate(err))
	}
	t := &tx{conn: db, now: c.now(), edits: &c.edits}
	defer func() {
		if t.edited {
			c.edits.Add(1)
		}
	}()
	applied := 0
	for _, w := range group {
		err := c.applyOne(t, w, len(group) > 1)
		switch {
		case err != nil:
			c.rollback()
			return translate(err)
		case w.err == nil:
			applied++
		}
	}
	if applied == 0 {
		c.rollback()
		return nil
	}
	if _, err := db.exec("COMMIT"); err != nil {
		c.rollback()
		return fmt.Errorf("commit: %w", translate(err))
	}
	return nil
}

// applyOne applies one write. A write that is alone needs no savepoint: its refusal rolls the transaction back.
func (c *Catalog) applyOne(t *tx, w *write, shared bool) error {
	if shared {
		if _, err := t.exec("SAVEPOINT one"); err != nil {
			return err
		}
	}
	err := w.apply(t)
	if err != nil && !refusal(err) {
		return err
	}
	w.err = err
	if !shared {
		return nil
	}
	if err != nil {
		if _, err := t.exec("ROLLBACK TO one"); err != nil {
			return err
		}
	}
	_, err = t.exec("RELEASE one")
	return err
}

// rollback ends a transaction that may already have been rolled back by SQLite itself.
func (c *Catalog) rollback() {
	if _, err := c.db.exec("ROLLBACK"); err != nil && code(err) != 1 { // 1: no transaction is active
		c.log.Error("cannot roll back a catalog transaction", "error", err)
	}
}

// read runs fn on a reading connection, in one snapshot.
func (c *Catalog) read(ctx context.Context, op string, fn func(*conn) error) error {
	db, err := c.readers.get(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", op, translate(err))
	}
	defer c.readers.put(db)
	if _, err := db.exec("BEGIN"); err != nil {
		return fmt.Errorf("%s: %w", op, translate(err))
	}
	err = fn(db)
	if _, endErr := db.exec("ROLLBACK"); endErr != nil && err == nil {
		err = endErr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, translate(err))
	}
	return nil
}

// readers is a small pool of read-only connections, opened on demand.
type readers struct {
	path  string
	slots chan *conn // nil: not opened yet
	done  chan struct{}
}

func newReaders(path string, n int) *readers {
	r := &readers{path: path, slots: make(chan *conn, n), done: make(chan struct{})}
	for range n {
		r.slots <- nil
	}
	return r
}

func (r *readers) get(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		return nil, catalog.ErrClosed
	default:
	}
	select {
	case db := <-r.slots:
		if db != nil {
			return db, nil
		}
		db, err := openConn(r.path, "ro", "busy_timeout = 5000", "cache_size = -2048", "temp_store = MEMORY", "mmap_size = 0")
		if err != nil {
			r.slots <- nil
			return nil, err
		}
		return db, nil
	case <-r.done:
		return nil, catalog.ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a reader: %w", ctx.Err())
	}
}

func (r *readers) put(db *conn) { r.slots <- db }

// close waits for the reads under way.
func (r *readers) close() error {
	close(r.done)
	var errs []error
	for range cap(r.slots) {
		if db := <-r.slots; db != nil {
			errs = append(errs, db.close())
		}
	}
	return errors.Join(errs...)
}
