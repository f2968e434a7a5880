package faulty

import (
	"fmt"

	"github.com/streamhouse/streamhouse/internal/fault"
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

type (
	// Fault is what happens to one call.
	Fault = fault.Fault[Op]
	// Plan decides which calls fail.
	Plan = fault.Plan[Op]
	// Kind is what a fault does to a call.
	Kind = fault.Kind
)

// The kinds of faults.
const (
	Refuse = fault.Refuse
	Slow   = fault.Slow
	Lost   = fault.Lost
	// Truncate fills the first half of what a GetRange asked for and answers io.ErrUnexpectedEOF.
	Truncate = fault.Truncate
	// Corrupt flips one bit in the middle of what a GetRange read and answers success.
	Corrupt = fault.Corrupt
)

// NewPlan returns a plan of faults.
func NewPlan(faults ...Fault) *Plan { return fault.NewPlan(faults...) }
