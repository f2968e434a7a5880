package members

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/history"
)

// History is what the members of one group, and those who watch it, were told. Safe for concurrent use.
type History struct {
	Group string
	// Churning: members come and go all the time.
	Churning atomic.Bool

	mu struct {
		sync.Mutex

		violations  []string
		trace       []string
		codes       map[string]int
		members     map[string]*known
		generations map[int32]map[int32]string // classic: owners by partition
		owners      map[int32]string           // consumer: now
		sent, acked map[int32]int64            // by partition: numbers sent and acknowledged, from 1
		seen        map[string]map[int32]int64 // committed offsets, by watcher
		still       bool
		changes     int // of ids, epochs and assignments
		acks        int
	}
}

// known is what is known of a member.
type known struct {
	id         string
	epoch      int32
	partitions []int32
	in         bool // it has an epoch and has not left

	last time.Time     // the last good answer to a heartbeat
	gap  time.Duration // longest between two since Watch
}

// NewHistory returns one of a group of which nothing is known.
func NewHistory(group string) *History {
	h := &History{Group: group}
	h.mu.codes, h.mu.members = map[string]int{}, map[string]*known{}
	h.mu.generations, h.mu.owners = map[int32]map[int32]string{}, map[int32]string{}
	h.mu.sent, h.mu.acked, h.mu.seen = map[int32]int64{}, map[int32]int64{}, map[string]map[int32]int64{}
	return h
}

// Violations are the contradictions so far.
func (h *History) Violations() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.mu.violations)
}

// Trace is what happened lately, for whoever looks for the cause of a contradiction.
func (h *History) Trace() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.mu.trace, "\n")
}

const traceLength = 300

func (h *History) noteLocked(format string, args ...any) {
	h.mu.trace = append(h.mu.trace, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	if n := len(h.mu.trace) - traceLength; n > 0 {
		h.mu.trace = slices.Delete(h.mu.trace, 0, n)
	}
}

func (h *History) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noteLocked(format, args...)
}

const mostViolations = 20

func (h *History) violatedLocked(format string, args ...any) {
	h.noteLocked("VIOLATED "+format, args...)
	if len(h.mu.violations) < mostViolations {
		h.mu.violations = append(h.mu.violations, h.Group+": "+fmt.Sprintf(format, args...))
	}
}

// Codes are the errors that members were told and got over, with their numbers.
func (h *History) Codes() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(h.mu.codes)) {
		out = append(out, fmt.Sprintf("%d × %s", h.mu.codes[name], name))
	}
	return strings.Join(out, ", ")
}

// retried are the codes that Apache Kafka's consumers get over without joining anew or failing, by request.
var retried = map[kmsg.Key][]*kerr.Error{
	kmsg.FindCoordinator: {kerr.CoordinatorNotAvailable},
	kmsg.JoinGroup: {
		kerr.MemberIDRequired, kerr.RebalanceInProgress, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable,
	},
	kmsg.SyncGroup: {kerr.RebalanceInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable},
	kmsg.Heartbeat: {kerr.RebalanceInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable},
	kmsg.OffsetCommit: {
		kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.RequestTimedOut, kerr.RebalanceInProgress,
		kerr.StaleMemberEpoch,
	},
	kmsg.OffsetFetch:            {kerr.CoordinatorLoadInProgress, kerr.NotCoordinator},
	kmsg.ConsumerGroupHeartbeat: {kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable},
	kmsg.LeaveGroup:             {kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable},
}

// code is told every code of every answer.
func (h *History) code(who string, key kmsg.Key, code int16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.codeLocked(who, key, code, true)
}

// excused is code where the error is no contradiction.
func (h *History) excused(who string, key kmsg.Key, code int16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.codeLocked(who, key, code, false)
}

func (h *History) codeLocked(who string, key kmsg.Key, code int16, judge bool) {
	if code == 0 {
		return
	}
	err := kerr.TypedErrorForCode(code)
	name := fmt.Sprintf("code %d", code)
	if err != nil {
		name = err.Message
	}
	h.mu.codes[key.Name()+" "+name]++
	h.noteLocked("%s: %s: %s", who, key.Name(), name)
	if judge && !slices.Contains(retried[key], err) {
		h.violatedLocked("%s: %s was answered with %s", who, key.Name(), name)
	}
}

func (h *History) memberLocked(who string) *known {
	k := h.mu.members[who]
	if k == nil {
		k = &known{last: time.Now()}
		h.mu.members[who] = k
	}
	return k
}

// beat is told of a heartbeat that the coordinator answered as one.
func (h *History) beat(who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k, now := h.memberLocked(who), time.Now()
	k.gap = max(k.gap, now.Sub(k.last))
	k.last = now
}

// in is told of a member's id and epoch each time that it is told of them.
func (h *History) in(who, id string, epoch int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.memberLocked(who)
	switch {
	case k.in && k.id == id && k.epoch == epoch:
		return
	case k.in && k.id == id && epoch < k.epoch:
		h.violatedLocked("%s went from epoch %d back to %d", who, k.epoch, epoch)
	case k.in && k.id != id:
		h.violatedLocked("%s has another member id: %s instead of %s", who, id, k.id)
	}
	h.changedLocked("%s is %s at epoch %d", who, id, epoch)
	k.in, k.id, k.epoch = true, id, epoch
}

// out is told that a member left.
func (h *History) out(who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changedLocked("%s leaves", who)
	delete(h.mu.members, who)
	maps.DeleteFunc(h.mu.owners, func(_ int32, owner string) bool { return owner == who })
}

func (h *History) changedLocked(format string, args ...any) {
	h.mu.changes++
	h.noteLocked(format, args...)
	if h.mu.still {
		h.violatedLocked("while nothing was to change: "+format, args...)
	}
}

// assigned is told what a member of a classic group was assigned in a generation.
func (h *History) assigned(who string, generation int32, partitions []int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	owners := h.mu.generations[generation]
	if owners == nil {
		owners = map[int32]string{}
		h.mu.generations[generation] = owners
	}
	for _, p := range partitions {
		if other := owners[p]; other != "" && other != who {
			h.violatedLocked("in generation %d partition %d is %s's and %s's", generation, p, other, who)
		}
		owners[p] = who
	}
	k := h.memberLocked(who)
	if !slices.Equal(k.partitions, partitions) {
		h.changedLocked("%s has %v in generation %d", who, partitions, generation)
		k.partitions = slices.Clone(partitions)
	}
}

// owns is told what a member of a consumer group owns now: before it says that it gave something up, after it was given something.
func (h *History) owns(who string, partitions []int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.memberLocked(who)
	for p, owner := range h.mu.owners {
		if owner == who && !slices.Contains(partitions, p) {
			delete(h.mu.owners, p)
		}
	}
	for _, p := range partitions {
		if other := h.mu.owners[p]; other != "" && other != who {
			h.violatedLocked("partition %d is given to %s while it is %s's", p, who, other)
		}
		h.mu.owners[p] = who
	}
	if !slices.Equal(k.partitions, partitions) {
		h.changedLocked("%s owns %v", who, partitions)
		k.partitions = slices.Clone(partitions)
	}
}

// Still has every change of a member's id, epoch or assignment count as a contradiction, or no longer.
func (h *History) Still(still bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.still = still
}

// Partitions are how many the members have by the last they were told, and by how many members.
func (h *History) Partitions() (partitions, members int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.mu.members {
		partitions += len(k.partitions)
		members++
	}
	return partitions, members
}

// Epochs are the latest of all members.
func (h *History) Epochs() map[string]int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]int32{}
	for who, k := range h.mu.members {
		out[who] = k.epoch
	}
	return out
}

// Watch measures from now on how long members are without a good answer to a heartbeat.
func (h *History) Watch(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.mu.members {
		k.gap, k.last = 0, now
	}
}

// Gaps are the longest times without one since Watch, by member.
func (h *History) Gaps(now time.Time) (gaps history.Gaps) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.mu.members {
		gaps = append(gaps, max(k.gap, now.Sub(k.last)))
	}
	return gaps
}

// Quiet are the members that got no good answer to a heartbeat after t.
func (h *History) Quiet(t time.Time) (quiet []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for who, k := range h.mu.members {
		if !k.last.After(t) {
			quiet = append(quiet, who)
		}
	}
	return quiet
}

// Acks is how many commits were acknowledged.
func (h *History) Acks() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.acks
}

// send takes the next number to commit of each partition.
func (h *History) send(partitions []int32) map[int32]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[int32]int64{}
	for _, p := range partitions {
		h.mu.sent[p]++
		out[p] = h.mu.sent[p]
	}
	return out
}

func (h *History) ack(partition int32, number int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.acked[partition] = max(h.mu.acked[partition], number)
	h.mu.acks++
}

func (h *History) acknowledged() map[int32]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.mu.acked)
}

// read is told what a watcher read, who asked when acked was acknowledged.
func (h *History) read(watcher string, acked, offsets map[int32]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.mu.seen[watcher]
	if before == nil {
		before = map[int32]int64{}
		h.mu.seen[watcher] = before
	}
	for p, at := range offsets {
		at = max(at, 0) // -1: none
		if at < acked[p] {
			h.violatedLocked("%s reads %d as the committed offset of partition %d, after %d was acknowledged", watcher, at, p, acked[p])
		}
		if at > h.mu.sent[p] {
			h.violatedLocked("%s reads %d as the committed offset of partition %d, which nobody sent", watcher, at, p)
		}
		if at < before[p] {
			h.violatedLocked("%s sees the committed offset of partition %d go from %d back to %d", watcher, p, before[p], at)
		}
		before[p] = max(before[p], at)
	}
}
