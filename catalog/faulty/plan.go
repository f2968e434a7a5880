package faulty

import (
	"fmt"

	"github.com/streamhouse/streamhouse/internal/fault"
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
)

// NewPlan returns a plan of faults.
func NewPlan(faults ...Fault) *Plan { return fault.NewPlan(faults...) }
