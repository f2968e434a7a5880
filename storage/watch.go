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
		watched map[catalog.TopicPartition]*partition
		moved   map[catalog.TopicPartition]struct{}
		closed  bool
	}
}

// NewWatcher returns a watcher of nothing. Close it.
func (e *Engine) NewWatcher() *Watcher {
	w := &Watcher{e: e, ch: make(chan struct{}, 1)}
	w.mu.watched = make(map[catalog.TopicPartition]*partition)
	w.mu.moved = make(map[catalog.TopicPartition]struct{})
	return w
}

// Add watches partitions from now on: a move after Add returned is told. Read after Add, not before.
func (w *Watcher) Add(tps ...catalog.TopicPartition) {
	for _, tp := range tps {
		p := w.e.partitionFor(tp)
		w.mu.Lock()
		if w.mu.closed {
			w.mu.Unlock()
			return
		}
		old := w.mu.watched[tp]
		w.mu.watched[tp] = p
		w.mu.Unlock()
		if old == p {
			continue
		}
		if old != nil {
			old.unwatch(w)
		}
		p.watch(w)
		w.mu.Lock()
		gone := w.mu.closed || w.mu.watched[tp] != p // Remove or Close came between
		w.mu.Unlock()
		if gone {
			p.unwatch(w)
		}
	}
}

// Remove forgets partitions.
func (w *Watcher) Remove(tps ...catalog.TopicPartition) {
	for _, tp := range tps {
		w.mu.Lock()
		p := w.mu.watched[tp]
		delete(w.mu.watched, tp)
		delete(w.mu.moved, tp)
		w.mu.Unlock()
		if p != nil {
			p.unwatch(w)
		}
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
	ps := w.mu.watched
	w.mu.watched = nil
	w.mu.Unlock()
	for _, p := range ps {
		p.unwatch(w)
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
