package faulty

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Op is a kind of call.
type Op int

// The kinds of calls, one a method. OpAny counts all of them together.
const (
	OpAny Op = iota
	OpClusterID
	OpAllocateIDs
	OpPing
	OpTopicSet
	OpCreateTopic
	OpDeleteTopic
	OpAddPartitions
	OpSetTopicConfigs
	OpDeletedTopics
	OpRegisterBroker
	OpHeartbeat
	OpFenceBroker
	OpListBrokers
	OpAcquireLeases
	OpReleaseLeases
	OpLeaseSet
	OpCommit
	OpTailAt
	OpBrokerTails
	OpReadTail
	OpMergeTail
	OpFold
	OpLoadPartitions
	OpSettledPartitions
	OpPackedRows
	OpPackedSpans
	OpPackedPartitions
	OpSetLogStart
	OpEdit
	OpObjectsByID
	OpMergeCandidates
	OpSparseObjects
	OpFoldedObjects
	OpListRetired
	OpForgetRetired
	OpKnownObjects
	OpReadGroups
	OpReadGroup
	OpWriteGroups
	// Those of catalog.Fleet. Listen is counted when it begins.
	OpMoveLeases
	OpAskMoves
	OpSetDraining
	OpReadMerges
	OpMembersOf
	OpAnnounce
	OpListen
	OpAttach
	OpDetached
	OpUnfenced
	opCount
)

var opNames = [opCount]string{
	OpAny:               "any",
	OpClusterID:         "cluster_id",
	OpAllocateIDs:       "allocate_ids",
	OpPing:              "ping",
	OpTopicSet:          "topic_set",
	OpCreateTopic:       "create_topic",
	OpDeleteTopic:       "delete_topic",
	OpAddPartitions:     "add_partitions",
	OpSetTopicConfigs:   "set_topic_configs",
	OpDeletedTopics:     "deleted_topics",
	OpRegisterBroker:    "register_broker",
	OpHeartbeat:         "heartbeat",
	OpFenceBroker:       "fence_broker",
	OpListBrokers:       "list_brokers",
	OpAcquireLeases:     "acquire_leases",
	OpReleaseLeases:     "release_leases",
	OpLeaseSet:          "lease_set",
	OpCommit:            "commit",
	OpTailAt:            "tail_at",
	OpBrokerTails:       "broker_tails",
	OpReadTail:          "read_tail",
	OpMergeTail:         "merge_tail",
	OpFold:              "fold",
	OpLoadPartitions:    "load_partitions",
	OpSettledPartitions: "settled_partitions",
	OpPackedRows:        "packed_rows",
	OpPackedSpans:       "packed_spans",
	OpPackedPartitions:  "packed_partitions",
	OpSetLogStart:       "set_log_start",
	OpEdit:              "edit",
	OpObjectsByID:       "objects_by_id",
	OpMergeCandidates:   "merge_candidates",
	OpSparseObjects:     "sparse_objects",
	OpFoldedObjects:     "folded_objects",
	OpListRetired:       "list_retired",
	OpForgetRetired:     "forget_retired",
	OpKnownObjects:      "known_objects",
	OpReadGroups:        "read_groups",
	OpReadGroup:         "read_group",
	OpWriteGroups:       "write_groups",
	OpMoveLeases:        "move_leases",
	OpAskMoves:          "ask_moves",
	OpSetDraining:       "set_draining",
	OpReadMerges:        "read_merges",
	OpMembersOf:         "members_of",
	OpAnnounce:          "announce",
	OpListen:            "listen",
	OpAttach:            "attach",
	OpDetached:          "detached",
	OpUnfenced:          "unfenced",
}

func (o Op) String() string {
	if o < 0 || o >= opCount {
		return fmt.Sprintf("op(%d)", int(o))
	}
	return opNames[o]
}

// Ops are all operations of catalog.Catalog.
func Ops() []Op { return opsFrom(OpAny+1, OpMoveLeases) }

// FleetOps are all operations of catalog.Fleet.
func FleetOps() []Op { return opsFrom(OpMoveLeases, opCount) }

func opsFrom(first, end Op) []Op {
	ops := make([]Op, 0, end-first)
	for o := first; o < end; o++ {
		ops = append(ops, o)
	}
	return ops
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
)

var kindNames = map[Kind]string{Refuse: "refuse", Slow: "slow", Lost: "lost"}

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
	// Err is the answer of Refuse and Lost. If nil, it is a catalog.ErrUnavailable.
	Err error
	// Delay is how long Slow waits, or, if Gate is set, Gate's closing is what it waits for.
	Delay time.Duration
	Gate  <-chan struct{}
	// Crash takes the catalog away after the fault's effect.
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

// Plan decides which calls fail. It may be shared by several catalogs, whose calls it then counts together. Safe for
// concurrent use.
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
	p.Add(faults...)
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
			calls := 0
			if f.Op >= 0 && f.Op < opCount {
				calls = p.mu.calls[f.Op]
			}
			errs = append(errs, fmt.Errorf("fault never hit: %s (%d of %d, %d calls of its kind)", f, p.mu.hits[i], want, calls))
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
