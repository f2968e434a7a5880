package members

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config is what members have in common.
type Config struct {
	Seeds      []string
	Topic      string
	Partitions int32
	// Session is the session time-out that a member of a classic group asks for.
	Session time.Duration
	// Pace is how long a member waits after the answer to a heartbeat, and to a commit.
	Pace time.Duration
	// Backoff is how long it waits after an error.
	Backoff time.Duration
	// Timeout is after how long a heartbeat counts as lost; 0 for 2 s.
	Timeout time.Duration
}

const (
	// rebalanceTimeout is how long members may take to join again, or to give partitions up: longer than any fault lasts.
	rebalanceTimeout = 5 * time.Minute
	// joinPatience is how long a member waits for the answer of a JoinGroup or SyncGroup before it asks again: well within its
	// session, since it sends no heartbeats meanwhile.
	joinPatience = 4 * time.Second
	// commitPatience is longer than a coordinator waits for the catalog until it says so.
	commitPatience = 9 * time.Second
)

// member is what both kinds have in common.
type member struct {
	Name string
	// Commits says whether it commits.
	Commits atomic.Bool

	cfg     Config
	history *History
	beats   *Link // of all but commits
	commits *Link
	running sync.WaitGroup
	end     context.CancelFunc

	// busy is held for reading while a commit is under way: a member does not join, nor give partitions up, meanwhile.
	busy sync.RWMutex
	hush atomic.Bool // it waits for busy: no commit is to begin
	mu   struct {
		sync.Mutex

		id    string
		epoch int32
		owned []int32 // what it may commit
	}
}

func newMember(name string, h *History, cfg Config) member {
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second
	}
	return member{
		Name: name, cfg: cfg, history: h, beats: NewLink(h, cfg.Seeds, cfg.Timeout), commits: NewLink(h, cfg.Seeds, commitPatience),
	}
}

// start runs a member's goroutines until Stop.
func (m *member) start(ctx context.Context, live func(context.Context)) {
	ctx, m.end = context.WithCancel(ctx)
	m.running.Go(func() { live(ctx) })
	m.running.Go(func() {
		for ctx.Err() == nil {
			if !m.Commits.Load() || !m.commit(ctx) {
				wait(ctx, m.cfg.Backoff)
			} else {
				wait(ctx, m.cfg.Pace)
			}
		}
	})
}

// Stop has the member vanish, as a process that was killed.
func (m *member) Stop() {
	m.end()
	m.running.Wait()
	m.beats.Close()
	m.commits.Close()
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// ID is what the coordinator knows the member by: member id, and generation or member epoch.
func (m *member) ID() (id string, epoch int32) {
	id, epoch, _ = m.is()
	return id, epoch
}

// is what the coordinator knows the member by.
func (m *member) is() (id string, epoch int32, owned []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.id, m.mu.epoch, m.mu.owned
}

func (m *member) set(id string, epoch int32, owned []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.id, m.mu.epoch, m.mu.owned = id, epoch, slices.Clone(owned)
}

// commit commits the next number of each partition that the member has, and says whether it was acknowledged.
func (m *member) commit(ctx context.Context) bool {
	m.busy.RLock()
	defer m.busy.RUnlock()
	id, epoch, owned := m.is()
	if len(owned) == 0 || m.hush.Load() || ctx.Err() != nil {
		return false
	}
	return Commit(ctx, m.Name, m.commits, id, epoch, m.cfg.Topic, owned)
}

// Commit commits the next number of each of the partitions once, as a member or, with an epoch of -1, as nobody. It tells the
// history, and says whether all was acknowledged.
func Commit(ctx context.Context, who string, l *Link, memberID string, epoch int32, topic string, partitions []int32) bool {
	numbers := l.history.send(partitions)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = l.group, memberID, epoch
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = p, numbers[p]
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	answer, from, err := l.do(ctx, req)
	resp, ok := answer.(*kmsg.OffsetCommitResponse)
	if err != nil || !ok {
		if ctx.Err() == nil {
			l.history.note("%s: commit lost: %v", who, err)
		}
		return false
	}
	good := true
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if p.ErrorCode == 0 {
				l.history.ack(p.Partition, numbers[p.Partition])
				continue
			}
			l.history.code(who, kmsg.OffsetCommit, p.ErrorCode)
			l.heed(from, p.ErrorCode)
			good = false
		}
	}
	return good
}
