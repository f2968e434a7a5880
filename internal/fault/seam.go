package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrPlanned marks errors made by plan.
var ErrPlanned = errors.New("planned fault")

// Answers are errors in the words of a seam.
type Answers struct {
	// Refused is what a call fails with, unless its fault says something else.
	Refused error
	// Crashed is the answer once the seam was taken away.
	Crashed error
	// Ended is what the end of a call's context is told as, beside the context's own error; nil: nothing.
	Ended error
}

// Seam makes the calls of one process, except where its plan says otherwise. Safe for concurrent use.
type Seam[O Op] struct {
	plan    *Plan[O]
	answers Answers
	crashed chan struct{}

	mu struct {
		sync.Mutex

		crashed  bool
		underway int
		idle     chan struct{} // closed when underway falls to 0; nil if nobody waits
	}
}

// NewSeam makes a seam. A nil plan has no faults.
func NewSeam[O Op](plan *Plan[O], answers Answers) *Seam[O] {
	if plan == nil {
		plan = NewPlan[O]()
	}
	return &Seam[O]{plan: plan, answers: answers, crashed: make(chan struct{})}
}

// Crash takes the seam away now.
func (s *Seam[O]) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.crashed {
		s.mu.crashed = true
		close(s.crashed)
	}
}

// Crashed is closed once the seam was taken away.
func (s *Seam[O]) Crashed() <-chan struct{} { return s.crashed }

// Gone says that the seam was taken away.
func (s *Seam[O]) Gone() bool {
	select {
	case <-s.crashed:
		return true
	default:
		return false
	}
}

// Quiesce waits until no call is under way, or ctx ends.
func (s *Seam[O]) Quiesce(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.mu.underway == 0 {
			s.mu.Unlock()
			return nil
		}
		if s.mu.idle == nil {
			s.mu.idle = make(chan struct{})
		}
		idle := s.mu.idle
		s.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("wait for calls under way: %w", ctx.Err())
		}
	}
}

// Do makes a call as the plan says.
func (s *Seam[O]) Do(ctx context.Context, op O, call func() error) error {
	return s.DoRead(ctx, op, call, nil)
}

// DoRead makes a call that reads, as the plan says. After one that went well, spoil does to what was read what Truncate or
// Corrupt are, and returns the answer.
func (s *Seam[O]) DoRead(ctx context.Context, op O, call func() error, spoil func(Kind) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op, s.ended(err)) // not counted: it would not have been sent
	}
	if s.Gone() {
		return s.answers.Crashed // not counted either: the plan speaks of calls before the crash
	}
	f, ok := s.plan.next(op)
	if !ok {
		return s.apply(call)
	}
	err := s.fail(ctx, op, f, call, spoil)
	if f.Crash {
		s.Crash()
		return s.answers.Crashed
	}
	return err
}

// fail does what a fault says to a call.
func (s *Seam[O]) fail(ctx context.Context, op O, f Fault[O], call func() error, spoil func(Kind) error) error {
	planned := func(err error) error { return fmt.Errorf("%s: %w: %s: %w", op, ErrPlanned, f, err) }
	refused := f.Err
	if refused == nil {
		refused = s.answers.Refused
	}
	switch {
	case f.Kind == Slow:
		if err := s.wait(ctx, f); errors.Is(err, s.answers.Crashed) {
			return err
		} else if err != nil {
			return planned(err)
		}
		return s.apply(call)
	case f.Kind == Lost:
		if err := s.apply(call); errors.Is(err, s.answers.Crashed) {
			return err
		}
	case (f.Kind == Truncate || f.Kind == Corrupt) && spoil != nil:
		if err := s.apply(call); err != nil {
			return err
		}
		if err := spoil(f.Kind); err != nil {
			return planned(err)
		}
		return nil
	}
	return planned(refused)
}

// wait is what Slow does before the call.
func (s *Seam[O]) wait(ctx context.Context, f Fault[O]) error {
	var elapsed <-chan time.Time
	if f.Gate == nil {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		elapsed = timer.C
	}
	select {
	case <-f.Gate:
	case <-elapsed:
	case <-ctx.Done():
		return s.ended(ctx.Err())
	case <-s.crashed:
		return s.answers.Crashed
	}
	return nil
}

func (s *Seam[O]) ended(err error) error {
	if s.answers.Ended == nil {
		return err
	}
	return fmt.Errorf("%w: %w", s.answers.Ended, err)
}

// apply makes a call, unless the seam was taken away.
func (s *Seam[O]) apply(call func() error) error {
	s.mu.Lock()
	if s.mu.crashed {
		s.mu.Unlock()
		return s.answers.Crashed
	}
	s.mu.underway++
	s.mu.Unlock()

	err := call()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.underway--; s.mu.underway == 0 && s.mu.idle != nil {
		close(s.mu.idle)
		s.mu.idle = nil
	}
	if s.mu.crashed {
		return s.answers.Crashed // the process that asked is gone
	}
	return err
}
