package storage

import (
	"sync"
	"sync/atomic"
)

// maxIdle bounds the goroutines that are kept while they have nothing to do.
const maxIdle = 16

// workers run functions in goroutines that are kept for the next ones: the stack of a new goroutine is copied several times until it
// is as deep as a PUT needs, which at a thousand objects a second is a percent of the broker's processor time.
type workers struct {
	end   <-chan struct{} // closed when nobody is kept any more; set before the first Go
	work  chan func()     // to one that is idle
	idle  atomic.Int32
	alive sync.WaitGroup
}

// Go runs f in a goroutine of its own. Not to be called when Wait may have returned.
func (w *workers) Go(f func()) {
	select {
	case w.work <- f: // somebody is idle
	default:
		w.alive.Go(func() { w.serve(f) })
	}
}

func (w *workers) serve(f func()) {
	for {
		f()
		if w.idle.Add(1) > maxIdle {
			w.idle.Add(-1)
			return
		}
		select {
		case f = <-w.work:
			w.idle.Add(-1)
		case <-w.end:
			return
		}
	}
}

// Wait waits until all functions have returned, and the end.
func (w *workers) Wait() { w.alive.Wait() }
