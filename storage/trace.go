package storage

import (
	"context"
	"time"
)

// Tracer follows appends into the log objects that carry them ([Config.Tracer]). Its methods are called concurrently and
// must not block.
type Tracer interface {
	// Following returns what stands for the request that ctx belongs to, the same for each of its appends; nil if nobody
	// follows it. Asked for each append.
	Following(ctx context.Context) any
	// Sealed: a log object that carries appends of these was sealed. Somebody may be in the list more than once.
	Sealed(followed []any, o Sealed) FlushTrace
}

// Sealed is a log object on its way to the store.
type Sealed struct {
	At      time.Time
	Bytes   int64 // of batches
	Batches int
}

// FlushTrace follows one log object from its seal to its commit.
type FlushTrace interface {
	// Context is ctx, under which the store is asked for this object.
	Context(ctx context.Context) context.Context
	// Stored: the object is in the store, after so many tries.
	Stored(key string, bytes int64, partitions, tries int)
	// Ended: the object is committed, or err says why it will not be.
	Ended(err error)
}

// following is who follows an append; nil: nobody does.
func (e *Engine) following(ctx context.Context) any {
	if e.cfg.Tracer == nil {
		return nil
	}
	return e.cfg.Tracer.Following(ctx)
}

// follow notes who follows an append into the object. Those whose batches came one after the other are noted once.
func (o *openObject) follow(who any) {
	if n := len(o.followed); who != nil && (n == 0 || o.followed[n-1] != who) {
		o.followed = append(o.followed, who)
	}
}

// traced is ctx for the upload of a sealed object, which is followed from here on if appends in it are.
func (o *openObject) traced(ctx context.Context, by Tracer) context.Context {
	if len(o.followed) == 0 {
		return ctx
	}
	o.trace = by.Sealed(o.followed, Sealed{At: o.sealedAt, Bytes: o.bytes, Batches: len(o.entries)})
	o.followed = nil
	return o.trace.Context(ctx)
}

func (o *openObject) stored(tries int) {
	if o.trace != nil {
		o.trace.Stored(o.row.Key, o.row.Size, len(o.index.Extents), tries)
	}
}

func (o *openObject) ended(err error) {
	if o.trace != nil {
		o.trace.Ended(err)
	}
}
