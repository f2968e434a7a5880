package attribution

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// rig is a Book whose coordinator and catalog are the test's.
type rig struct {
	*Book
	t     *testing.T
	now   time.Time
	local []coordinator.ShardMembers // what TakeMembers tells next
	led   []int32
	rows  []catalog.ClientMember
	asked [][]catalog.GroupClient
	known map[catalog.MemberName]int64 // as of the last time
	fails error
	waits chan struct{}  // if not nil, the catalog answers when it is closed
	told  map[string]int // records by "group topic/partition"
	bytes int
	gone  []string
}

func newRig(t *testing.T, fleet bool) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Unix(1_000_000, 0), told: map[string]int{}}
	cfg := Config{
		Local: func(context.Context) []coordinator.ShardMembers {
			out := r.local
			r.local = nil
			for _, shard := range r.led {
				if !hasShard(out, shard) {
					out = append(out, coordinator.ShardMembers{Shard: shard})
				}
			}
			return out
		},
		Topics: func() group.Topics { return nil },
		Told: func(group, topic string, partition int32, records, bytes int) {
			r.told[fmt.Sprintf("%s %s/%d", group, topic, partition)] += records
			r.bytes += bytes
		},
		Gone: func(group string) { r.gone = append(r.gone, group) },
		now:  func() time.Time { return r.now },
	}
	if fleet {
		cfg.Members = r
	}
	r.Book = New(cfg)
	return r
}

func hasShard(all []coordinator.ShardMembers, shard int32) bool {
	for i := range all {
		if all[i].Shard == shard {
			return true
		}
	}
	return false
}

func (r *rig) MembersOf(
	ctx context.Context, clients []catalog.GroupClient, _ []int32, known map[catalog.MemberName]int64, _ int,
) (out []catalog.ClientMember, err error) {
	r.asked, r.known = append(r.asked, clients), known
	if r.waits != nil {
		select {
		case <-r.waits:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for _, m := range r.rows {
		for _, c := range clients {
			if m.ClientID == c.ID && m.ClientHost == c.Host {
				if known[m.Name()] == m.Version {
					m.State = nil
				}
				out = append(out, m)
			}
		}
	}
	return out, r.fails
}

// coordinates has this broker coordinate a group in shard 0, whose one member owns partitions of topic t.
func (r *rig) coordinates(id, client string, partitions ...int32) {
	m := group.Member{ID: "m", Client: group.Client{ID: client, Host: "/h"}}
	for _, p := range partitions {
		m.Partitions = append(m.Partitions, catalog.GroupPartition{Topic: "t", Partition: p})
	}
	r.led = []int32{0}
	r.local = append(r.local, coordinator.ShardMembers{Groups: map[string][]group.Member{id: {m}}})
}

// elsewhere has another broker coordinate a group whose one member owns partitions of topic t.
func (r *rig) elsewhere(id, client string, version int64, partitions ...byte) {
	b := []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, byte(len(partitions))}
	for _, p := range partitions {
		b = append(b, 0, 0, 0, p)
	}
	b = append(b, 0xff, 0xff, 0xff, 0xff)
	row := catalog.ClientMember{Group: id, Kind: catalog.GroupClassic, ProtocolType: "consumer", Version: version}
	row.ID, row.ClientID, row.ClientHost = "m", client, "/h"
	row.State = fmt.Appendf(nil, `{"v":1,"assignment":%q}`, base64.StdEncoding.EncodeToString(b))
	for i := range r.rows {
		if r.rows[i].Group == id {
			r.rows[i] = row
			return
		}
	}
	r.rows = append(r.rows, row)
}

func (r *rig) fetch(client string, partition int32, records int, last int64) {
	r.t.Helper()
	s := r.Client(client, "/h").Slot("t", partition)
	require.NotNil(r.t, s)
	require.True(r.t, s.Fetched(records, 10*records, last))
}

// round looks as Run does, a while later.
func (r *rig) round() {
	r.now = r.now.Add(every)
	r.Book.round(r.t.Context(), false)
}

func (r *rig) is(told ...string) {
	r.t.Helper()
	want := map[string]int{}
	for _, line := range told {
		var key string
		var n int
		i := strings.LastIndexByte(line, ' ')
		key = line[:i]
		_, err := fmt.Sscan(line[i+1:], &n)
		require.NoError(r.t, err)
		want[key] = n
	}
	require.Equal(r.t, want, r.told)
	total := 0
	for _, n := range r.told {
		total += n
	}
	require.Equal(r.t, 10*total, r.bytes)
}

func (r *rig) positions() map[string]int64 {
	out := map[string]int64{}
	r.Positions(func(group, topic string, partition int32, position int64) {
		out[fmt.Sprintf("%s %s/%d", group, topic, partition)] = position
	})
	return out
}

func TestWhatMembersFetchIsTheirGroups(t *testing.T) {
	r := newRig(t, false)
	r.coordinates("g", "c", 0, 1)
	r.fetch("c", 0, 5, 4) // before the broker knows of it
	r.fetch("c", 2, 7, 6)
	r.fetch("other", 0, 1, 0)
	r.is()
	r.round()
	r.is("g t/0 5", " t/2 7", " t/0 1")
	r.fetch("c", 0, 3, 7)
	r.is("g t/0 8", " t/2 7", " t/0 1")
	require.Equal(t, map[string]int64{"g t/0": 7}, r.positions())
	require.EqualValues(t, 7, r.Position("g", "t", 0))
	require.EqualValues(t, -1, r.Position("g", "t", 1))

	// The group rebalances: another client has partition 0 now, the first one partition 2.
	r.coordinates("g", "c", 2)
	r.coordinates("h", "c2", 0)
	r.round()
	require.Equal(t, map[string]int64{"g t/2": 6}, r.positions())
	r.fetch("c2", 0, 2, 1)
	r.fetch("c", 2, 1, 7)
	r.round()
	r.is("g t/0 8", "g t/2 1", "h t/0 2", " t/2 7", " t/0 1")
	r.fetch("c", 2, 0, 3) // it went back
	require.Equal(t, map[string]int64{"g t/2": 3, "h t/0": 1}, r.positions())
}

func TestALeaverIsCountedForItsGroup(t *testing.T) {
	r := newRig(t, false)
	r.coordinates("g", "c", 0)
	r.Client("c", "/h")
	r.round() // it joined
	r.fetch("c", 0, 5, 4)
	r.local = []coordinator.ShardMembers{{Gone: []string{"g"}}} // and left, and the group was deleted
	r.round()
	r.is("g t/0 5")
	require.Empty(t, r.positions())
	require.Equal(t, []string{"g"}, r.gone)
}

func TestTwoGroupsOfOneClient(t *testing.T) {
	for _, fleet := range []bool{false, true} {
		r := newRig(t, fleet)
		r.coordinates("g", "same", 0, 1)
		if fleet {
			r.elsewhere("h", "same", 1, 1, 2)
		} else {
			r.coordinates("h", "same", 1, 2)
		}
		for p := range int32(3) {
			r.fetch("same", p, 1, 0)
		}
		r.round()
		r.is("g t/0 1", " t/1 1", "h t/2 1")
		r.fetch("same", 1, 4, 4)
		r.round()
		r.is("g t/0 1", " t/1 5", "h t/2 1")
		require.NotContains(t, r.positions(), "g t/1")
	}
}

func TestMembersThatOthersCoordinate(t *testing.T) {
	r := newRig(t, true)
	r.elsewhere("g", "c", 1, 0)
	r.fetch("c", 0, 5, 4)
	r.round()
	r.is("g t/0 5")
	require.Len(t, r.asked, 1)
	r.round()
	require.Len(t, r.asked, 1, "nothing was fetched since")

	// Nothing was fetched for a while: what is fetched now waits for a look, which finds another group.
	r.rows = nil
	r.elsewhere("h", "c", 2, 0)
	r.fetch("c", 0, 2, 6)
	r.is("g t/0 5")
	r.round()
	r.is("g t/0 5", "h t/0 2")
	r.fetch("c", 0, 1, 7)
	r.is("g t/0 5", "h t/0 3")

	// The catalog is away: what was fetched by a known member is told, the rest is kept until it is back.
	r.fails = errors.New("away")
	r.fetch("c", 0, 1, 8)
	r.fetch("c", 1, 1, 8)
	r.round()
	r.round()
	r.is("g t/0 5", "h t/0 4")
	r.fails = nil
	r.elsewhere("h", "c", 3, 0, 1)
	r.round()
	r.is("g t/0 5", "h t/0 4", "h t/1 1")
	r.fetch("c", 1, 1, 9)
	r.round()
	r.is("g t/0 5", "h t/0 4", "h t/1 2") // by a row that came without its state
}

func TestAScrapeReadsAtOnceARoundNotTooOften(t *testing.T) {
	r := newRig(t, true)
	r.elsewhere("g", "c", 1, 0)
	r.fetch("c", 0, 1, 0)
	r.round()
	r.fetch("c", 1, 1, 0)
	r.Book.round(t.Context(), false)
	require.Len(t, r.asked, 1)
	r.is("g t/0 1")
	r.Look(t.Context())
	require.Len(t, r.asked, 2)
	r.is("g t/0 1", " t/1 1")
}

// A scrape does not wait longer than it said because a round waits for a catalog that does not answer.
func TestAScrapeDoesNotWaitForARound(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, true)
		r.waits = make(chan struct{})
		r.fetch("c", 0, 1, 0)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.round()
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), readTimeout/2)
		defer cancel()
		began := time.Now()
		r.Look(ctx)
		require.Equal(t, readTimeout/2, time.Since(began))
		close(r.waits)
		<-ended
		r.is(" t/0 1")
	})
}

// While the catalog is away nothing is lost of clients that stop fetching meanwhile.
func TestWhatIsNotToldIsNotForgotten(t *testing.T) {
	r := newRig(t, true)
	r.elsewhere("g", "c", 1, 0)
	r.fails = errors.New("away")
	r.fetch("c", 0, 5, 4)
	for range 3 * idleFor / every {
		r.round()
	}
	r.is()
	r.fails = nil
	r.round()
	r.is("g t/0 5")
	for range 3 * idleFor / every {
		r.round()
	}
	require.Empty(t, r.mu.clients)
	require.Zero(t, r.slots.Load())
}

// What is told of a group while it is deleted comes before that it is gone: else its series were made anew, for good.
func TestNothingIsToldOfAGroupThatIsGone(t *testing.T) {
	r := newRig(t, false)
	r.coordinates("g", "c", 0)
	r.fetch("c", 0, 1, 0)
	r.round()
	telling, tell := make(chan struct{}), make(chan struct{})
	r.cfg.Told = func(string, string, int32, int, int) {
		close(telling)
		<-tell
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.fetch("c", 0, 1, 1)
	}()
	<-telling
	r.local = []coordinator.ShardMembers{{Gone: []string{"g"}}}
	r.round()
	require.Empty(t, r.gone)
	close(tell)
	<-ended
	r.round()
	require.Equal(t, []string{"g"}, r.gone)
	require.Empty(t, r.look.groups)
}

// fewTopics are topics by id.
type fewTopics map[catalog.TopicID]group.Topic

func (fewTopics) Version() int64                         { return 0 }
func (fewTopics) Names() []string                        { return nil }
func (fewTopics) ByName(string) (t group.Topic, ok bool) { return t, false }
func (f fewTopics) ByID(id catalog.TopicID) (group.Topic, bool) {
	t, ok := f[id]
	return t, ok
}

// A coordinator may hear of a topic, and assign it, before the broker that serves it does.
func TestATopicThatIsNotKnownYet(t *testing.T) {
	r := newRig(t, true)
	id := catalog.TopicID{1}
	topics := fewTopics{}
	r.cfg.Topics = func() group.Topics { return topics }
	r.elsewhere("g", "c", 1)
	r.rows[0].Kind = catalog.GroupConsumer
	state, err := json.Marshal(map[string]any{"v": 1, "assigned": assignor.Of(assignor.Partitions{Topic: id, Partitions: []int32{0}})})
	require.NoError(t, err)
	r.rows[0].State = state
	r.fetch("c", 1, 1, 0)
	r.round()
	topics[id] = group.Topic{ID: id, Name: "t", Partitions: 1}
	r.fetch("c", 0, 5, 4)
	r.round()
	r.is(" t/1 1", "g t/0 5")
	r.fetch("c", 0, 1, 5)
	r.round()
	require.Equal(t, map[catalog.MemberName]int64{{Group: "g", Member: "m"}: 1}, r.known, "the row is not read a third time")
}

// A shard that moves away takes what its coordinator knew with it: the catalog is asked then.
func TestShardsMove(t *testing.T) {
	r := newRig(t, true)
	r.coordinates("g", "c", 0)
	r.fetch("c", 0, 1, 0)
	r.round()
	r.is("g t/0 1")
	r.led = nil
	r.elsewhere("g", "c", 1, 1)
	r.fetch("c", 1, 1, 0)
	r.round()
	r.is("g t/0 1", "g t/1 1")
	require.Equal(t, map[string]int64{"g t/1": 0}, r.positions())
	r.led, r.rows = []int32{0}, nil // it comes back, and all members are gone
	r.local = []coordinator.ShardMembers{{Whole: true, Groups: map[string][]group.Member{}}}
	r.fetch("c", 1, 1, 1)
	r.round()
	require.Empty(t, r.positions())
}

func TestWhatIsNotUsedIsForgotten(t *testing.T) {
	r := newRig(t, false)
	r.coordinates("g", "c", 0)
	c := r.Client("c", "/h")
	s := c.Slot("t", 0)
	require.True(t, s.Fetched(1, 10, 0))
	r.round()
	for range idleFor / every {
		r.fetch("c", 1, 1, 0) // the client lives
		r.round()
		require.Equal(t, map[string]int64{"g t/0": 0}, r.positions())
	}
	r.round()
	require.Empty(t, r.positions())
	require.False(t, s.Fetched(1, 10, 1), "the slot has to be asked for again")
	require.Empty(t, r.gone)
	for range 2 * idleFor / every {
		r.round()
	}
	require.True(t, c.Forgotten())
	require.Nil(t, c.Slot("t", 0))
	require.Empty(t, r.mu.clients)
	require.Zero(t, r.slots.Load())
	for range forgetAfter / every {
		r.round()
	}
	require.Equal(t, []string{"g"}, r.gone)
	require.Empty(t, r.look.groups)
	require.Empty(t, r.look.readings)
	require.NotSame(t, c, r.Client("c", "/h"))
}

func TestBounds(t *testing.T) {
	r := newRig(t, false)
	r.cfg.MaxClients, r.cfg.MaxSlots = 2, 3
	a, b := r.Client("a", "/h"), r.Client("b", "/h")
	require.Nil(t, r.Client("c", "/h"))
	require.Same(t, a, r.Client("a", "/h"))
	require.NotNil(t, a.Slot("t", 0))
	require.NotNil(t, b.Slot("t", 0))
	require.NotNil(t, b.Slot("t", 1))
	require.Nil(t, b.Slot("t", 2))
	require.NotNil(t, b.Slot("t", 1))
}

// Nothing is lost or told twice while members change and scrapes go on.
func TestEachRecordIsToldOnce(t *testing.T) {
	changes := make(chan coordinator.ShardMembers, 1)
	total := map[string]int{}
	var mu sync.Mutex
	b := New(Config{
		Local: func(context.Context) []coordinator.ShardMembers {
			select {
			case m := <-changes:
				return []coordinator.ShardMembers{m}
			default:
				return []coordinator.ShardMembers{{}}
			}
		},
		Told: func(group, _ string, _ int32, records, _ int) {
			mu.Lock()
			defer mu.Unlock()
			total[group] += records
		},
		Gone: func(string) {},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx)
	}()
	const n = 20_000
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := b.Client("c", "/h").Slot("t", 0)
		for i := range n {
			s.Fetched(1, 1, int64(i))
		}
	}()
	owned := []catalog.GroupPartition{{Topic: "t"}}
	for i := 0; ; i++ {
		id := fmt.Sprint("g", i%2)
		m := coordinator.ShardMembers{Whole: true, Groups: map[string][]group.Member{id: {{Client: group.Client{ID: "c", Host: "/h"}, Partitions: owned}}}}
		if i%3 == 0 {
			m.Groups = map[string][]group.Member{}
		}
		select {
		case changes <- m:
			b.Ring()
			b.Look(ctx)
			continue
		case <-done:
		}
		break
	}
	cancel()
	<-ended
	b.Look(t.Context())
	sum := 0
	for _, v := range total {
		sum += v
	}
	require.Equal(t, n, sum, "%v", total)
}

// A scrape that gives up while the catalog is away says nothing, and so must not keep the rounds after it from saying it.
func TestTroubleIsToldAlsoAfterAScrapeThatGaveUp(t *testing.T) {
	r := newRig(t, true)
	var lines strings.Builder
	r.cfg.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	r.waits = make(chan struct{})
	r.fetch("c", 0, 1, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	r.Look(ctx)
	require.Empty(t, lines.String())

	close(r.waits)
	r.fails = errors.New("away")
	r.Look(t.Context())
	require.Equal(t, 1, strings.Count(lines.String(), "cannot find out"), lines.String())
	r.Look(t.Context())
	require.Equal(t, 1, strings.Count(lines.String(), "cannot find out"), "once")
}
