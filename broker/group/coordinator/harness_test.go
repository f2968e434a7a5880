package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/faulty"
	leases "github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/catalog/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// errNotLed is what the engine says of leases that it does not hold.
var errNotLed = errors.New("not led")

// engine is a storage engine as far as leases go. What it holds the catalog's rows say too, unless a test has it be wrong.
type engine struct {
	mu       sync.Mutex
	broker   catalog.BrokerEpoch
	held     map[catalog.TopicPartition]catalog.LeaseEpoch
	doubtful bool          // nothing is trusted now
	stopped  chan struct{} // if not nil, whoever asks waits until it is closed: the process stands still
	watchers map[*watcher]bool
}

type watcher struct {
	e  *engine
	ch chan struct{}
}

func (w *watcher) C() <-chan struct{}                                       { return w.ch }
func (w *watcher) Take(d []catalog.TopicPartition) []catalog.TopicPartition { return d }

func (w *watcher) Close() {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	delete(w.e.watchers, w)
}

func (e *engine) wait() {
	e.mu.Lock()
	stopped := e.stopped
	e.mu.Unlock()
	if stopped != nil {
		<-stopped
	}
}

func (e *engine) Epoch() catalog.BrokerEpoch {
	e.wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.broker
}

func (e *engine) Leader(tp catalog.TopicPartition) (int32, error) {
	e.wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if epoch, ok := e.held[tp]; ok && !e.doubtful {
		return int32(epoch), nil
	}
	return -1, errNotLed
}

func (e *engine) Held() map[catalog.TopicPartition]catalog.LeaseEpoch {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.held)
}

func (e *engine) Watch(...catalog.TopicPartition) Watcher {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := &watcher{e, make(chan struct{}, 1)}
	e.watchers[w] = true
	return w
}

// change changes what the engine believes, and tells the watchers.
func (e *engine) change(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	for w := range e.watchers {
		select {
		case w.ch <- struct{}{}:
		default:
		}
	}
}

// fewTopics are no topics but t, with many partitions.
type fewTopics struct{ version int64 }

var topicT = group.Topic{ID: catalog.TopicID{1}, Name: "t", Partitions: 10_000}

func (f *fewTopics) Version() int64 { return f.version }
func (*fewTopics) Names() []string  { return []string{"t"} }

func (*fewTopics) ByName(name string) (group.Topic, bool) { return topicT, name == "t" }

func (*fewTopics) ByID(id catalog.TopicID) (group.Topic, bool) { return topicT, id == topicT.ID }

// shards of the tests: few, so that groups share them.
const testShards = 3

// world is a catalog that brokers share.
type world struct {
	t   *testing.T
	cat *memory.Catalog
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, cat: memory.New(nil)}
	_, err := w.cat.CreateTopic(t.Context(), catalog.TopicSpec{ID: leases.GroupsID, Name: leases.GroupsName, Partitions: testShards})
	require.NoError(t, err)
	return w
}

// node is one broker's coordinator.
type node struct {
	*Coordinator
	w      *world
	t      *testing.T
	e      *engine
	plan   *faulty.Plan
	end    context.CancelFunc
	ended  chan struct{}
	loads  int
	writes []int // groups of each statement
	mu     sync.Mutex
}

// start starts a broker that holds no lease, with faults in its catalog.
func (w *world) start(change func(c *Config), faults ...faulty.Fault) *node {
	w.t.Helper()
	n := &node{w: w, t: w.t, plan: faulty.NewPlan(faults...), ended: make(chan struct{})}
	n.e = &engine{held: map[catalog.TopicPartition]catalog.LeaseEpoch{}, watchers: map[*watcher]bool{}}
	n.register()
	cfg := Config{
		Groups: faulty.New(w.cat, n.plan), Leases: n.e, Topic: leases.GroupsID, Shards: testShards,
		Logger: slog.New(slog.DiscardHandler),
		Hooks: Hooks{
			Loaded: func(_ int32, _ int, _ time.Duration, err error) {
				n.mu.Lock()
				defer n.mu.Unlock()
				if err == nil {
					n.loads++
				}
			},
			Written: func(groups, _ int, _ time.Duration) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.writes = append(n.writes, groups)
			},
		},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	gcfg := group.DefaultConfig()
	gcfg.InitialRebalanceDelay = 0
	n.Coordinator, err = New(cfg, &fewTopics{1}, Configs{Of: func(string) group.Config { return gcfg }})
	require.NoError(w.t, err)
	ctx, end := context.WithCancel(context.WithoutCancel(w.t.Context()))
	n.end = end
	go func() {
		defer close(n.ended)
		n.Run(ctx)
	}()
	w.t.Cleanup(n.stop)
	return n
}

var incarnations atomic.Int64

// register gives the broker a new epoch, which holds nothing.
func (n *node) register() {
	n.t.Helper()
	b, err := n.w.cat.RegisterBroker(n.t.Context(), catalog.Registration{ID: 1, Incarnation: [16]byte{byte(incarnations.Add(1))}, TTL: time.Hour})
	require.NoError(n.t, err)
	n.e.change(func() {
		n.e.broker = b.Epoch
		clear(n.e.held)
	})
}

// acquire takes all free shards.
func (n *node) acquire() {
	n.t.Helper()
	got, err := n.w.cat.AcquireLeases(n.t.Context(), n.e.broker, nil)
	require.NoError(n.t, err)
	n.e.change(func() {
		for _, l := range got {
			n.e.held[l.TopicPartition] = l.Epoch
		}
	})
	synctest.Wait()
}

// lose has the broker fenced by others; it does not know yet.
func (n *node) fence() {
	n.t.Helper()
	require.NoError(n.t, n.w.cat.FenceBroker(n.t.Context(), n.e.broker, catalog.FenceProvenDead))
}

// stop ends the coordinator.
func (n *node) stop() {
	n.end()
	<-n.ended
}

func (n *node) statements() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]int(nil), n.writes...)
}

// member is a client of the classic protocol.
type member struct {
	n       *node
	group   string
	id      string
	gen     int32
	session time.Duration

	instance *string // makes it static
}

var host = group.Client{ID: "client", Host: "/127.0.0.1"}

// ask asks for a group, with a limit.
func (n *node) ask(groupID string, body kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	return n.Do(ctx, groupID, body, host)
}

// join joins alone and becomes Stable: JoinGroup with and without id, SyncGroup.
func (m *member) join() error {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.ProtocolType, req.MemberID = 5, m.group, "consumer", m.id
	req.SessionTimeoutMillis = int32(m.session.Milliseconds())
	req.RebalanceTimeoutMillis, req.InstanceID = 60_000, m.instance
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{0, 1, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff}
	req.Protocols = append(req.Protocols, p)
	for {
		resp, err := m.n.ask(m.group, req)
		if err != nil {
			return err
		}
		r := resp.(*kmsg.JoinGroupResponse)
		if r.ErrorCode == 79 { // MEMBER_ID_REQUIRED
			req.MemberID = r.MemberID
			continue
		}
		if r.ErrorCode != 0 {
			return codeError(r.ErrorCode)
		}
		m.id, m.gen = r.MemberID, r.Generation
		return m.sync(r)
	}
}

type codeError int16

func (c codeError) Error() string {
	return "code " + string(rune('0'+c/10%10)) + string(rune('0'+c%10))
}

func (m *member) sync(r *kmsg.JoinGroupResponse) error {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation, req.InstanceID = 3, m.group, m.id, m.gen, m.instance
	for i := range r.Members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = r.Members[i].MemberID, []byte{0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	resp, err := m.n.ask(m.group, req)
	if err != nil {
		return err
	}
	if c := resp.(*kmsg.SyncGroupResponse).ErrorCode; c != 0 {
		return codeError(c)
	}
	return nil
}

func (m *member) heartbeat() error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 4, m.group, m.id, m.gen
	resp, err := m.n.ask(m.group, req)
	if err != nil {
		return err
	}
	if c := resp.(*kmsg.HeartbeatResponse).ErrorCode; c != 0 {
		return codeError(c)
	}
	return nil
}

// commit commits as a member, or without one if gen is -1.
func (m *member) commit(partition int32, offset int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 8, m.group, m.id, m.gen
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "t"
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = partition, offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := m.n.ask(m.group, req)
	if err != nil {
		return err
	}
	if c := resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; c != 0 {
		return codeError(c)
	}
	return nil
}

// committed is what the coordinator says of an offset; -1 for none.
func (n *node) committed(groupID string, partition int32) (int64, error) {
	offset := int64(-1)
	err := n.Read(context.Background(), groupID, func(g *group.Group) {
		if o, ok := g.Offset("t", partition); ok {
			offset = o.Offset
		}
	})
	return offset, err
}

func (n *node) phase(groupID string) string {
	n.t.Helper()
	phase := ""
	require.NoError(n.t, n.Read(context.Background(), groupID, func(g *group.Group) { phase = g.Phase() }))
	return phase
}
