package fault

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Op is the type of a seam's operations: consecutive numbers, of which 0 counts all of them together.
type Op interface {
	~int
	fmt.Stringer
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
	// Truncate cuts what a call read in half, and Corrupt changes it: see [Seam.DoRead]. Another call is refused.
	Truncate
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
type Fault[O Op] struct {
	// Op and Index name the call: the Index-th of its operation, from 0.
	Op    O
	Index int
	// Count is how many calls from Index on are hit; 0 means 1.
	Count int
	Kind  Kind
	// Err is the answer of Refuse and Lost. If nil, it is Answers.Refused.
	Err error
	// Delay is how long Slow waits, or, if Gate is set, Gate's closing is what it waits for.
	Delay time.Duration
	Gate  <-chan struct{}
	// Crash takes the seam away after the fault's effect.
	Crash bool
}

func (f Fault[O]) String() string {
	s := fmt.Sprintf("%s %s #%d", f.Kind, f.Op, f.Index)
	if f.Count > 1 {
		s += fmt.Sprintf("-%d", f.Index+f.Count-1)
	}
	if f.Crash {
		s += ", crash"
	}
	return s
}

func (f Fault[O]) matches(index int) bool { return index >= f.Index && index < f.Index+max(f.Count, 1) }

// Plan decides which calls fail. It may be shared by several seams of one kind, whose calls it then counts together. Safe
// for concurrent use.
type Plan[O Op] struct {
	mu struct {
		sync.Mutex

		faults []Fault[O]
		hits   []int
		calls  map[O]int
	}
}

// NewPlan returns a plan of faults. If several match a call the first one counts.
func NewPlan[O Op](faults ...Fault[O]) *Plan[O] {
	p := &Plan[O]{}
	p.mu.calls = make(map[O]int)
	p.Add(faults...)
	return p
}

// Add appends faults, for instance ones that depend on Calls.
func (p *Plan[O]) Add(faults ...Fault[O]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.faults = append(p.mu.faults, faults...)
	p.mu.hits = append(p.mu.hits, make([]int, len(faults))...)
}

// Next appends faults whose indexes count from the next call of their operation on, whatever is under way meanwhile.
func (p *Plan[O]) Next(faults ...Fault[O]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range faults {
		f.Index += p.mu.calls[f.Op]
		p.mu.faults, p.mu.hits = append(p.mu.faults, f), append(p.mu.hits, 0)
	}
}

// Calls returns how many calls of op there were.
func (p *Plan[O]) Calls(op O) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.calls[op]
}

// Verify returns an error that names each fault that was hit less often than planned.
func (p *Plan[O]) Verify() error {
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
func (p *Plan[O]) next(op O) (Fault[O], bool) {
	var all O
	p.mu.Lock()
	defer p.mu.Unlock()
	index, overall := p.mu.calls[op], p.mu.calls[all]
	p.mu.calls[op]++
	p.mu.calls[all]++
	for i, f := range p.mu.faults {
		if (f.Op == op && f.matches(index)) || (f.Op == all && f.matches(overall)) {
			p.mu.hits[i]++
			return f, true
		}
	}
	return Fault[O]{}, false
}
