// Package metered tells hooks about every call of a catalog: what was called, how long it took, how it ended. It knows
// no metrics library; whoever wires it turns events into metrics, log lines or golden transcripts of round trips.
package metered

import (
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// The names of the calls, for labels.
const (
	OpClusterID         = "cluster_id"
	OpAllocateIDs       = "allocate_ids"
	OpPing              = "ping"
	OpTopicSet          = "topic_set"
	OpCreateTopic       = "create_topic"
	OpDeleteTopic       = "delete_topic"
	OpAddPartitions     = "add_partitions"
	OpSetTopicConfigs   = "set_topic_configs"
	OpDeletedTopics     = "deleted_topics"
	OpRegisterBroker    = "register_broker"
	OpHeartbeat         = "heartbeat"
	OpFenceBroker       = "fence_broker"
	OpListBrokers       = "list_brokers"
	OpAcquireLeases     = "acquire_leases"
	OpReleaseLeases     = "release_leases"
	OpLeaseSet          = "lease_set"
	OpCommit            = "commit"
	OpTailAt            = "tail_at"
	OpBrokerTails       = "broker_tails"
	OpReadTail          = "read_tail"
	OpMergeTail         = "merge_tail"
	OpFold              = "fold"
	OpLoadPartitions    = "load_partitions"
	OpSettledPartitions = "settled_partitions"
	OpPackedRows        = "packed_rows"
	OpPackedSpans       = "packed_spans"
	OpPackedPartitions  = "packed_partitions"
	OpSetLogStart       = "set_log_start"
	OpEdit              = "edit"
	OpObjectsByID       = "objects_by_id"
	OpMergeCandidates   = "merge_candidates"
	OpSparseObjects     = "sparse_objects"
	OpFoldedObjects     = "folded_objects"
	OpListRetired       = "list_retired"
	OpForgetRetired     = "forget_retired"
	OpKnownObjects      = "known_objects"
	OpReadGroups        = "read_groups"
	OpReadGroup         = "read_group"
	OpWriteGroups       = "write_groups"

	// Those of catalog.Fleet. Of Listen, which lasts, nothing is told.
	OpMoveLeases  = "move_leases"
	OpAskMoves    = "ask_moves"
	OpSetDraining = "set_draining"
	OpReadMerges  = "read_merges"
	OpMembersOf   = "members_of"
	OpAnnounce    = "announce"
	OpAttach      = "attach"
	OpDetached    = "detached"
	OpUnfenced    = "unfenced"
)

// Ops are all names of calls of catalog.Catalog, so that a metric can exist before its first call.
func Ops() []string {
	return []string{
		OpClusterID, OpAllocateIDs, OpPing, OpTopicSet, OpCreateTopic, OpDeleteTopic,
		OpAddPartitions, OpSetTopicConfigs, OpDeletedTopics, OpRegisterBroker, OpHeartbeat, OpFenceBroker,
		OpListBrokers, OpAcquireLeases, OpReleaseLeases, OpLeaseSet, OpCommit, OpTailAt,
		OpBrokerTails, OpReadTail, OpMergeTail, OpFold, OpLoadPartitions, OpPackedRows,
		OpPackedPartitions, OpSetLogStart, OpEdit, OpObjectsByID, OpMergeCandidates, OpFoldedObjects,
		OpListRetired, OpForgetRetired, OpKnownObjects, OpPackedSpans, OpSparseObjects, OpSettledPartitions,
		OpReadGroups, OpReadGroup, OpWriteGroups,
	}
}

// FleetOps are the names of the calls of catalog.Fleet.
func FleetOps() []string {
	return []string{OpMoveLeases, OpAskMoves, OpSetDraining, OpReadMerges, OpMembersOf, OpAnnounce, OpAttach, OpDetached, OpUnfenced}
}

// Event is one finished call.
type Event struct {
	// Op is one of the Op constants.
	Op string
	// Duration is from call to return.
	Duration time.Duration
	// Err is what the call returned.
	Err error
}

// Hooks are told about calls. They run on the caller's goroutine, so they must be quick and safe for concurrent use.
// Any of them may be nil.
type Hooks struct {
	// Start is told that a call begins; each Start is followed by one Done.
	Start func(op string)
	// Done is told that a call ended.
	Done func(Event)
}

// Catalog passes calls on and tells its hooks. Safe for concurrent use if the wrapped catalog is.
type Catalog struct {
	inner catalog.Catalog
	hooks Hooks
}

var _ catalog.Catalog = (*Catalog)(nil)

// New wraps inner.
func New(inner catalog.Catalog, hooks Hooks) *Catalog {
	if hooks.Start == nil {
		hooks.Start = func(string) {}
	}
	if hooks.Done == nil {
		hooks.Done = func(Event) {}
	}
	return &Catalog{inner: inner, hooks: hooks}
}

func (c *Catalog) measure(op string, call func() error) error {
	c.hooks.Start(op)
	start := time.Now()
	err := call()
	c.hooks.Done(Event{Op: op, Duration: time.Since(start), Err: err})
	return err
}

// Close closes the wrapped catalog. It is not a call the hooks are told about.
func (c *Catalog) Close() error { return c.inner.Close() }
