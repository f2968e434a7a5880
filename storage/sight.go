package storage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// An object store that did something lately is taken to be there, and is not asked. One that did nothing for longer, though it was
// asked, is not: one request that is slow, or that waits because the store asks to be spared, says nothing yet.
const (
	storeFresh  = 10 * time.Second
	storeGone   = 20 * time.Second
	storeWithin = time.Second // for an answer
)

// storeSight is when the object store was last seen to do something.
type storeSight struct {
	at     atomic.Pointer[time.Time]
	marker atomic.Pointer[string] // key of the note of the present broker epoch
}

func (s *storeSight) seen() { s.at.Store(new(time.Now())) }

// ReadyStore returns why the object store cannot be used, or nil. Unless it has stored something in the last ten seconds, it is asked
// for the note of this broker epoch, a request that costs as much as a GET; so an idle broker asks it as often as it is asked
// itself, once in ten seconds at most. Nil where there is no broker epoch, of which Ready tells.
func (e *Engine) ReadyStore(ctx context.Context) error {
	at, marker := e.store.at.Load(), e.store.marker.Load()
	if at == nil || time.Since(*at) < storeFresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	switch _, err := e.cfg.Store.Head(ctx, *marker); {
	case err == nil:
		e.store.seen()
	case errors.Is(err, objstore.ErrNotFound):
		return fmt.Errorf("the object store has lost %s, the note of this broker epoch: is it the same one, was it emptied, does a rule of the bucket delete?", *marker)
	case time.Since(*at) > storeGone:
		return fmt.Errorf("the object store does not answer, for %s by now: %w", time.Since(*at).Round(time.Second), err)
	}
	return nil
}
