package members

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestViolations has each rule broken once, and kept by what is nearly the same.
func TestViolations(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(h *History)
		want string // what the contradiction says; empty: there is none
	}{
		"one generation has two owners": {func(h *History) {
			h.assigned("a", 3, []int32{0, 1})
			h.assigned("b", 3, []int32{1})
		}, "in generation 3 partition 1 is a's and b's"},
		"another generation has other owners": {func(h *History) {
			h.assigned("a", 3, []int32{0, 1})
			h.assigned("b", 4, []int32{1})
		}, ""},
		"a partition is given while it is owned": {func(h *History) {
			h.owns("a", []int32{0, 1})
			h.owns("b", []int32{1})
		}, "partition 1 is given to b while it is a's"},
		"a partition is given after it was given up": {func(h *History) {
			h.owns("a", []int32{0, 1})
			h.owns("a", []int32{0})
			h.owns("b", []int32{1})
		}, ""},
		"a partition is given after its owner left": {func(h *History) {
			h.owns("a", []int32{0, 1})
			h.out("a")
			h.owns("b", []int32{1})
		}, ""},
		"an epoch goes back": {func(h *History) { h.in("a", "id", 5); h.in("a", "id", 4) }, "a went from epoch 5 back to 4"},
		"an id changes":      {func(h *History) { h.in("a", "id", 5); h.in("a", "other", 6) }, "a has another member id"},
		"a member is thrown out": {func(h *History) {
			h.code("a", kmsg.Heartbeat, kerr.UnknownMemberID.Code)
		}, "a: Heartbeat was answered with UNKNOWN_MEMBER_ID"},
		"a code that ends a Java consumer": {func(h *History) {
			h.code("a", kmsg.Heartbeat, kerr.CoordinatorLoadInProgress.Code)
		}, "a: Heartbeat was answered with COORDINATOR_LOAD_IN_PROGRESS"},
		"the same code where it is retried": {func(h *History) {
			h.code("a", kmsg.OffsetCommit, kerr.CoordinatorLoadInProgress.Code)
			h.code("a", kmsg.Heartbeat, kerr.NotCoordinator.Code)
		}, ""},
		"an acknowledged commit is lost": {func(h *History) {
			h.send([]int32{0})
			h.send([]int32{0})
			h.ack(0, 2)
			h.read("w", h.acknowledged(), map[int32]int64{0: 1})
		}, "w reads 1 as the committed offset of partition 0, after 2 was acknowledged"},
		"all commits are lost": {func(h *History) {
			h.send([]int32{0})
			h.ack(0, 1)
			h.read("w", h.acknowledged(), map[int32]int64{0: -1})
		}, "after 1 was acknowledged"},
		"a commit in doubt is there, or is not": {func(h *History) {
			h.send([]int32{0, 1})
			h.read("w", h.acknowledged(), map[int32]int64{0: 1, 1: -1})
		}, ""},
		"an offset that nobody committed": {func(h *History) {
			h.read("w", h.acknowledged(), map[int32]int64{0: 1})
		}, "which nobody sent"},
		"a committed offset goes back": {func(h *History) {
			h.send([]int32{0})
			h.send([]int32{0})
			h.read("w", nil, map[int32]int64{0: 2})
			h.read("w", nil, map[int32]int64{0: 1})
		}, "go from 2 back to 1"},
		"something changes that was to be still": {func(h *History) {
			h.in("a", "id", 5)
			h.Still(true)
			h.in("a", "id", 5)
			h.in("a", "id", 6)
		}, "while nothing was to change: a is id at epoch 6"},
	} {
		t.Run(name, func(t *testing.T) {
			h := NewHistory("g")
			c.tell(h)
			if c.want == "" {
				require.Empty(t, h.Violations())
				return
			}
			require.Len(t, h.Violations(), 1)
			require.Contains(t, h.Violations()[0], c.want)
		})
	}
}

func TestGaps(t *testing.T) {
	h := NewHistory("g")
	h.beat("a")
	begin := time.Now().Add(-time.Second) // as if watched since
	h.Watch(begin)
	require.Equal(t, []string{"a"}, h.Quiet(begin))
	h.beat("a")
	require.Empty(t, h.Quiet(begin))
	require.GreaterOrEqual(t, h.Gaps(time.Now()).Max(), time.Second)
	require.GreaterOrEqual(t, h.Gaps(time.Now().Add(time.Hour)).Max(), time.Hour, "one that has not ended counts")
}
