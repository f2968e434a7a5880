package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// affirmTimeout bounds one question to the catalog whether the broker epoch is fenced. Whoever waits for the answer holds
	// up a client, which asks elsewhere when told so.
	affirmTimeout = time.Second
	// affirmSpacing is the least time between the beginnings of two such questions: all who come in between share one.
	affirmSpacing = 5 * time.Millisecond
	// affirmRest is for how long after one that got no answer nobody asks again: an answer to a client may need one for each of
	// its partitions, one after the other.
	affirmRest = 250 * time.Millisecond
)

// affirmer has the catalog affirm, after the fact, that a term was not fenced. The session's trust is not enough for what only
// a leader may say: others fence a broker whose attachment is gone long before its session ends, and it may be the last to
// learn that (the network between takes what tells it so, or this process stood still), so no clock of its own can tell it
// when to fall silent.
//
// Many ask at once, one question to the catalog serves all who came before it was sent.
type affirmer struct {
	wake chan struct{} // capacity 1: next is there

	mu struct {
		sync.Mutex
		next   *affirmation // the question to be sent; nil: nobody asked
		failed time.Time    // when the last question without an answer ended; zero: the last one was answered
		err    error        // why it had none
		over   bool         // the term has ended: nothing is sent any more
	}
}

// affirmation is one question to the catalog. err may be read once done is closed.
type affirmation struct {
	done chan struct{}
	err  error
}

var errTermOver = errors.New("the broker epoch has ended")

// join returns the question that will be sent after the call; or an error, if none is to be sent.
func (a *affirmer) join() (*affirmation, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.mu.over:
		return nil, errTermOver
	case !a.mu.failed.IsZero() && time.Since(a.mu.failed) < affirmRest:
		return nil, a.mu.err
	}
	if a.mu.next == nil {
		a.mu.next = &affirmation{done: make(chan struct{})}
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	return a.mu.next, nil
}

// take begins a question: who asks from now on waits for a later one.
func (a *affirmer) take() *affirmation {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.mu.next
	a.mu.next = nil
	return q
}

// answered notes what became of the last question.
func (a *affirmer) answered(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.failed, a.mu.err = time.Time{}, err
	if err != nil {
		a.mu.failed = time.Now()
	}
}

// stop ends it for good.
func (a *affirmer) stop() {
	a.mu.Lock()
	q := a.mu.next
	a.mu.next, a.mu.over = nil, true
	a.mu.Unlock()
	if q != nil {
		q.err = errTermOver
		close(q.done)
	}
}

// affirms sends the questions, one at a time, while the term lasts.
func (t *term) affirms(ctx context.Context) {
	defer t.affirmer.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.affirmer.wake:
		}
		q, began := t.affirmer.take(), time.Now()
		if q == nil {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, affirmTimeout)
		q.err = t.e.cfg.Fleet.Unfenced(asking, t.epoch)
		cancel()
		if errors.Is(q.err, catalog.ErrFenced) {
			t.fail(fmt.Errorf("speak for partitions: %w", q.err))
		}
		t.affirmer.answered(q.err)
		close(q.done)
		select {
		case <-ctx.Done():
		case <-time.After(affirmSpacing - time.Since(began)):
		}
	}
}

// affirm is nil if the term was not fenced at some moment after the call. ErrNotLeader if it was, or nobody can tell.
func (t *term) affirm(ctx context.Context) error {
	if t.e.cfg.Fleet == nil {
		return nil // nobody else could fence it
	}
	q, err := t.affirmer.join()
	if err == nil {
		select {
		case <-q.done:
			err = q.err
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("does this broker lead still: %w: %w", ErrNotLeader, err)
	}
	return nil
}

// Affirm is nil if this broker was not fenced at some moment after the call: what it said as the leader of partitions that
// it still leads under the same leader epoch afterwards (see Leader) was right then. It asks the catalog, at most once in 5 ms
// for all who call; call it once for all that one answer says. ErrNotLeader when it was fenced, and when the catalog does
// not answer within a second: then nothing may be said that only a leader can.
func (e *Engine) Affirm(ctx context.Context) error {
	t := e.term.Load()
	if t == nil {
		return fmt.Errorf("no broker epoch: %w", ErrNotLeader)
	}
	return t.affirm(ctx)
}

// reign is one leadership of a partition: of a term, under a leader epoch.
type reign struct {
	term  *term
	epoch int32
}

// affirmed is nil if this broker led a partition, as r says, at some moment after the call. It must not be called with
// the partition locked.
func (e *Engine) affirmed(ctx context.Context, p *partition, r reign) error {
	if err := r.term.affirm(ctx); err != nil {
		return fmt.Errorf("use partition %s: %w", p.tp, err)
	}
	p.mu.Lock()
	led := p.mu.term == r.term && p.mu.leaderEpoch == r.epoch && p.leadsLocked() && r.term.trusted()
	p.mu.Unlock()
	if !led {
		return e.absent(p.tp)
	}
	return nil
}
