package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// An object store that did something lately is taken to be there, and is not asked. One that did nothing for longer, though it was
// asked, is not: one request that is slow, or that waits because the store asks to be spared, says nothing yet.
const (
	storeFresh  = 10 * time.Second
	storeGone   = 20 * time.Second
	storeAsked  = 5 * time.Second // in vain: who asks once a minute has not been told anything by the first failure
	storeWithin = time.Second     // for an answer
)

// storeSight is when the object store was last seen to do something.
type storeSight struct {
	at     atomic.Pointer[time.Time]
	vain   atomic.Pointer[time.Time] // since when it is asked in vain; nil: it is not
	marker atomic.Pointer[string]    // key of the note of the present broker epoch
}

func (s *storeSight) seen() {
	s.at.Store(new(time.Now()))
	if s.vain.Load() != nil {
		s.vain.Store(nil)
	}
}

// asked tells for how long it has been asked in vain, now that it was again.
func (s *storeSight) asked() time.Duration {
	s.vain.CompareAndSwap(nil, new(time.Now()))
	if since := s.vain.Load(); since != nil {
		return time.Since(*since)
	}
	return 0 // it has just been seen
}

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
	case errors.Is(err, objstore.ErrNotFound) && e.noteAgain(ctx, *marker):
		e.store.seen()
	case errors.Is(err, objstore.ErrNotFound):
		return fmt.Errorf("the object store has lost %s, the note of this broker epoch: is it the same one, was it emptied, does a rule of the bucket delete?", *marker)
	case e.store.asked() >= storeAsked && time.Since(*at) > storeGone:
		return fmt.Errorf("the object store does not answer, for %s by now: %w", time.Since(*at).Round(time.Second), err)
	}
	return nil
}

// noteAgain writes the note of this broker epoch once more where a later one of the cluster lies in the store, and tells whether it did.
// Who wrote that took this broker for dead, by a fence that a fail-over of the catalog undid, or is of a version that kept nobody's.
func (e *Engine) noteAgain(ctx context.Context, marker string) bool {
	later, _, err := e.cfg.Store.List(ctx, marker[:strings.LastIndexByte(marker, '/')+1], marker, 1)
	if err != nil || len(later) == 0 {
		return false
	}
	err = e.cfg.Store.Put(ctx, marker, noteBody())
	return err == nil || errors.Is(err, objstore.ErrExists)
}
