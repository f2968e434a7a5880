package faulty

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Op is a kind of call.
type Op int

// The kinds of calls. OpAny counts all of them together.
const (
	OpAny Op = iota
	OpPut
	OpGet
	OpHead
	OpList
	OpDelete
	opCount
)

var opNames = [opCount]string{"any", "put", "get", "head", "list", "delete"}

func (o Op) String() string {
	if o < 0 || o >= opCount {
		return fmt.Sprintf("op(%d)", int(o))
	}
	return opNames[o]
}

// Kind is what happens to a call.
type Kind int

// The kinds of faults.
const (
	// Refuse answers an error; nothing is done.
	Refuse Kind = iota + 1
	// Slow waits for Delay or Gate, then goes on as if nothing were. A context that ends first ends the call with
	// nothing done.
	Slow
	// Lost does the call, then answers an error.
	Lost
	// Truncate fills the first half of what a GetRange asked for and answers io.ErrUnexpectedEOF. Another call is
	// refused.
	Truncate
	// Corrupt flips one bit in the middle of what a GetRange read and answers success. Another call is refused.
	Corrupt
)

var kindNames = map[Kind]string{Refuse: "refuse", Slow: "slow", Lost: "lost", Truncate: "truncate", Corrupt: "corrupt"}

func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// Fault is what happens to one call.
type Fault struct {
	// Op and Index name the call: the Index-th of its kind, from 0.
	Op    Op
	Index int
	// Count is how many calls from Index on are hit; 0 means 1.
	Count int
	Kind  Kind
	// Err is the answer of Refuse and Lost. If nil, it is an objstore.ErrUnavailable.
	Err error
	// Delay is how long Slow waits, or, if Gate is set, Gate's closing is what it waits for.
	Delay time.Duration
	Gate  <-chan struct{}
	// Crash takes the store away after the fault's effect.
	Crash bool
}

func (f Fault) String() string {
	s := fmt.Sprintf("%s %s #%d", f.Kind, f.Op, f.Index)
	if f.Count > 1 {
		s += fmt.Sprintf("-%d", f.Index+f.Count-1)
	}
	if f.Crash {
		s += ", crash"
	}
	return s
}

func (f Fault) matches(index int) bool { return index >= f.Index && index < f.Index+max(f.Count, 1) }

// Plan decides which calls fail. It may be shared by several stores, whose calls it then counts together.
type Plan struct {
	mu struct {
		sync.Mutex

		faults []Fault
		hits   []int
		calls  [opCount]int
	}
}

// NewPlan returns a plan of faults. If several match a call the first one counts.
func NewPlan(faults ...Fault) *Plan {
	p := &Plan{}
	p.mu.faults = append(p.mu.faults, faults...)
	p.mu.hits = make([]int, len(faults))
	return p
}

// Add appends faults, for instance ones that depend on Calls.
func (p *Plan) Add(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.faults = append(p.mu.faults, faults...)
	p.mu.hits = append(p.mu.hits, make([]int, len(faults))...)
}

// Calls returns how many calls of op there were.
func (p *Plan) Calls(op Op) int {
	if op < 0 || op >= opCount {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.calls[op]
}

// Verify returns an error that names each fault that was hit less often than planned.
func (p *Plan) Verify() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for i, f := range p.mu.faults {
		if want := max(f.Count, 1); p.mu.hits[i] < want {
			errs = append(errs, fmt.Errorf("fault never hit: %s (%d of %d, %d calls of its kind)", f, p.mu.hits[i], want, p.mu.calls[f.Op]))
		}
	}
	return errors.Join(errs...)
}

// next counts a call and returns its fault, if it has one.
func (p *Plan) next(op Op) (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	index, overall := p.mu.calls[op], p.mu.calls[OpAny]
	p.mu.calls[op]++
	p.mu.calls[OpAny]++
	for i, f := range p.mu.faults {
		if (f.Op == op && f.matches(index)) || (f.Op == OpAny && f.matches(overall)) {
			p.mu.hits[i]++
			return f, true
		}
	}
	return Fault{}, false
}
