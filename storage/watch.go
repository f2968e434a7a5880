package storage

import (
	"sync"

	"github.com/streamhouse/streamhouse/catalog"
)

// Watcher tells one waiting fetch (or fetch session) which of its partitions moved: high watermark or log start up,
// or leadership lost. It lives as long as the session, so that a poll over thousands of partitions does not
// register them each time. Safe for concurrent use.
type Watcher struct {
	e  *Engine
	ch chan struct{}
	mu struct {
		sync.Mutex
		watched map[catalog.TopicPartition]struct{}
		moved   map[catalog.TopicPartition]struct{}
		closed  bool
	}
}

// NewWatcher returns a watcher of nothing. Close it.
func (e *Engine) NewWatcher() *Watcher {
	w := &Watcher{e: e, ch: make(chan struct{}, 1)}
	w.mu.watched = make(map[catalog.TopicPartition]struct{})
	w.mu.moved = make(map[catalog.TopicPartition]struct{})
	return w
}

// Add watches partitions from now on: a move after Add returned is told. Read after Add, not before. A partition that is
// not known here is watched too, should it come: nothing but the watcher remembers it.
func (w *Watcher) Add(tps ...catalog.TopicPartition) {
	for _, tp := range tps {
		w.mu.Lock()
		if w.mu.closed {
			w.mu.Unlock()
			return
		}
		w.mu.watched[tp] = struct{}{}
		w.mu.Unlock()
		w.e.watch(tp, w)
		w.mu.Lock()
		_, wanted := w.mu.watched[tp] // false: Remove or Close came between
		w.mu.Unlock()
		if !wanted {
			w.e.unwatch(tp, w)
		}
	}
}

// Remove forgets partitions.
func (w *Watcher) Remove(tps ...catalog.TopicPartition) {
	for _, tp := range tps {
		w.mu.Lock()
		_, watched := w.mu.watched[tp]
		delete(w.mu.watched, tp)
		delete(w.mu.moved, tp)
		w.mu.Unlock()
		if watched {
			w.e.unwatch(tp, w)
		}
	}
}

// watch registers a watcher with the partition's object, or until there is one with the engine. Making one here would
// bring back that of a topic that was deleted, for ever.
func (e *Engine) watch(tp catalog.TopicPartition, w *Watcher) {
	for {
		if p := e.lookup(tp); p != nil {
			if p.watch(w) {
				return
			}
			continue // forgotten meanwhile
		}
		e.mu.Lock()
		p := e.mu.partitions[tp] // made meanwhile
		if p == nil {
			ws := e.mu.waiting[tp]
			if ws == nil {
				ws = make(map[*Watcher]struct{})
				e.mu.waiting[tp] = ws
			}
			ws[w] = struct{}{}
		}
		e.mu.Unlock()
		if p == nil || p.watch(w) {
			return
		}
	}
}

// unwatch undoes watch. The object of a partition that was dropped keeps its watchers, and goes with the last of them.
func (e *Engine) unwatch(tp catalog.TopicPartition, w *Watcher) {
	e.mu.Lock()
	p := e.mu.partitions[tp]
	if ws := e.mu.waiting[tp]; ws != nil {
		delete(ws, w)
		if len(ws) == 0 {
			delete(e.mu.waiting, tp)
		}
	}
	e.mu.Unlock()
	if p != nil {
		p.unwatch(w)
	}
}

// C receives a value when something moved since the last Take.
func (w *Watcher) C() <-chan struct{} { return w.ch }

// Take appends the partitions that moved since the last Take to dst.
func (w *Watcher) Take(dst []catalog.TopicPartition) []catalog.TopicPartition {
	w.mu.Lock()
	defer w.mu.Unlock()
	for tp := range w.mu.moved {
		dst = append(dst, tp)
	}
	clear(w.mu.moved)
	select {
	case <-w.ch:
	default:
	}
	return dst
}

// Close stops watching.
func (w *Watcher) Close() {
	w.mu.Lock()
	w.mu.closed = true
	tps := w.mu.watched
	w.mu.watched = nil
	w.mu.Unlock()
	for tp := range tps {
		w.e.unwatch(tp, w)
	}
}

// tell notes moves; called without any partition's lock held.
func (w *Watcher) tell(tps []catalog.TopicPartition) {
	w.mu.Lock()
	for _, tp := range tps {
		if _, ok := w.mu.watched[tp]; ok {
			w.mu.moved[tp] = struct{}{}
		}
	}
	told := len(w.mu.moved) > 0
	w.mu.Unlock()
	if told {
		select {
		case w.ch <- struct{}{}:
		default:
		}
	}
}

// bell collects what a commit must tell, so that each watcher is woken once however many partitions moved.
type bell struct {
	byWatcher map[*Watcher][]catalog.TopicPartition
}

func (b *bell) add(p *partition) { // p.mu held
	for w := range p.mu.watchers {
		if b.byWatcher == nil {
			b.byWatcher = make(map[*Watcher][]catalog.TopicPartition)
		}
		b.byWatcher[w] = append(b.byWatcher[w], p.tp)
	}
}

func (b *bell) ring() {
	for w, tps := range b.byWatcher {
		w.tell(tps)
	}
}
