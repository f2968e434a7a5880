// Package metered tells hooks about every call of an object store: what was called, how many bytes and objects it
// moved, how long it took, how it ended. It knows no metrics library; whoever wires it turns events into metrics,
// log lines or golden transcripts.
package metered

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// The names of the calls, for labels.
const (
	OpPut    = "put"
	OpGet    = "get"
	OpHead   = "head"
	OpList   = "list"
	OpDelete = "delete"
)

// Ops are all names of calls, so that a metric can exist before its first call.
func Ops() []string { return []string{OpPut, OpGet, OpHead, OpList, OpDelete} }

// Event is one finished call.
type Event struct {
	// Op is one of the Op constants.
	Op string
	// Key is the object's key, or the prefix of a List. Empty for Delete. Not for labels: it is unbounded.
	Key string
	// Offset is where a get starts, in bytes.
	Offset int64
	// Bytes are those of the body of a put or the range of a get; 0 if it failed.
	Bytes int64
	// Objects are those listed, or asked to be deleted.
	Objects int
	// Duration is from call to return.
	Duration time.Duration
	// Err is what the call returned.
	Err error
}

// Hooks are told about calls. They run on the caller's goroutine, so they must be quick and safe for concurrent use.
// Any of them may be nil.
type Hooks struct {
	// Start is told that a call begins; each Start is followed by one Done.
	Start func(op string)
	// Done is told that a call ended.
	Done func(Event)
}

// Store passes calls on and tells its hooks.
type Store struct {
	inner objstore.Store
	hooks Hooks
}

var _ objstore.Store = (*Store)(nil)

// New wraps inner.
func New(inner objstore.Store, hooks Hooks) *Store {
	if hooks.Start == nil {
		hooks.Start = func(string) {}
	}
	if hooks.Done == nil {
		hooks.Done = func(Event) {}
	}
	return &Store{inner: inner, hooks: hooks}
}

// Calm implements [objstore.Calmer]: it is as the wrapped store says.
func (s *Store) Calm() bool { return objstore.Calm(s.inner) }

func (s *Store) measure(e *Event, call func() error) error {
	s.hooks.Start(e.Op)
	start := time.Now()
	e.Err = call()
	e.Duration = time.Since(start)
	if e.Err != nil {
		e.Bytes = 0
	}
	s.hooks.Done(*e)
	return e.Err
}

// Put implements [objstore.Store].
func (s *Store) Put(ctx context.Context, key string, body objstore.Body) error {
	return s.measure(&Event{Op: OpPut, Key: key, Bytes: body.Size}, func() error {
		return s.inner.Put(ctx, key, body)
	})
}

// GetRange implements [objstore.Store].
func (s *Store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	return s.measure(&Event{Op: OpGet, Key: key, Offset: off, Bytes: int64(len(p))}, func() error {
		return s.inner.GetRange(ctx, key, off, p)
	})
}

// Head implements [objstore.Store].
func (s *Store) Head(ctx context.Context, key string) (info objstore.Info, err error) {
	err = s.measure(&Event{Op: OpHead, Key: key}, func() (err error) {
		info, err = s.inner.Head(ctx, key)
		return err
	})
	return info, err
}

// List implements [objstore.Store].
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (objects []objstore.Info, more bool, err error) {
	e := Event{Op: OpList, Key: prefix}
	err = s.measure(&e, func() (err error) {
		objects, more, err = s.inner.List(ctx, prefix, after, limit)
		e.Objects = len(objects)
		return err
	})
	return objects, more, err
}

// Delete implements [objstore.Store].
func (s *Store) Delete(ctx context.Context, keys []string) error {
	return s.measure(&Event{Op: OpDelete, Objects: len(keys)}, func() error {
		return s.inner.Delete(ctx, keys)
	})
}

// Close closes the wrapped store; hooks are not told.
func (s *Store) Close() error { return s.inner.Close() }
