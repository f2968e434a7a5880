package group

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// sim runs one group as the coordinator does, with a clock of its own and a catalog in memory. It checks what is true of every
// run: each token is answered once, and each change is one the catalog takes.
type sim struct {
	t     testing.TB
	id    string
	cfg   Config
	now   time.Time
	clock time.Time // when it began
	group *Group
	topic simTopics

	// hold keeps writes from becoming durable until written is called.
	hold    bool
	rows    *catalog.GroupRecord // what is durable; nil: nothing
	flights []simWrite
	landing bool // see land

	due     map[Token]kmsg.Request // answers that are due
	token   Token
	ids     int
	answers func(Answer, kmsg.Request)
	wrote   func(uint64, *catalog.GroupChange)
	done    func(*catalog.GroupChange) // a write is durable
}

type simWrite struct {
	number uint64
	change *catalog.GroupChange
	later  []Answer
}

func newSim(tb testing.TB) *sim {
	tb.Helper()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &sim{
		t: tb, id: "g", cfg: DefaultConfig(), now: start, clock: start, due: make(map[Token]kmsg.Request),
		topic: newSimTopics(1, "foo", "bar", "baz"), answers: func(Answer, kmsg.Request) {}, wrote: func(uint64, *catalog.GroupChange) {},
		done: func(*catalog.GroupChange) {},
	}
	s.group = New(s.id, 0, s.cfg, s.topic, s.now)
	return s
}

// request sends a request; the answer may come later.
func (s *sim) request(body kmsg.Request, client string) Token {
	s.token++
	s.ids++
	s.due[s.token] = body
	// A UUID, as far as its length goes.
	s.step(Request{Body: body, Client: Client{ID: client, Host: "/127.0.0.1"}, Token: s.token, NewMemberID: fmt.Sprintf("%036d", s.ids)})
	return s.token
}

func (s *sim) step(e Event) {
	eff := s.group.Step(s.now, e)
	for _, a := range eff.Now {
		s.answer(a)
	}
	if eff.Change != nil {
		w := catalog.GroupWrite{Holder: 1, Number: 1, Changes: []catalog.GroupChange{*eff.Change}}
		s.check(&w)
		s.wrote(eff.Write, eff.Change)
		s.flights = append(s.flights, simWrite{number: eff.Write, change: eff.Change})
	}
	if n := len(s.flights); n > 0 {
		s.flights[n-1].later = append(s.flights[n-1].later, eff.Later...)
	} else {
		for _, a := range eff.Later {
			s.answer(a)
		}
	}
	if !s.hold && !s.landing {
		s.land()
	}
}

// land makes all writes durable, in their order.
func (s *sim) land() {
	s.landing = true
	for len(s.flights) > 0 {
		s.written()
	}
	s.landing = false
}

// check checks that a change is one that the catalog takes. One that it refused would be in the way of all others for good.
func (s *sim) check(w *catalog.GroupWrite) {
	require.NoError(s.t, w.Check())
	if c := &w.Changes[0]; !c.Delete && c.Group == nil {
		require.True(s.t, s.rows != nil || len(s.flights) > 0, "rows of a group without a row")
	}
}

// apply is the catalog's part of a write.
func (s *sim) apply(c *catalog.GroupChange) {
	s.rows = applyChange(s.rows, c)
	s.done(c)
}

// written makes the oldest write durable.
func (s *sim) written() {
	w := s.flights[0]
	s.flights = s.flights[1:]
	s.apply(w.change)
	s.step(Written{Write: w.number})
	for _, a := range w.later {
		s.answer(a)
	}
}

func (s *sim) answer(a Answer) {
	req, ok := s.due[a.Token]
	require.True(s.t, ok, "token %d is answered twice, or was never asked: %#v", a.Token, a.Body)
	require.Equal(s.t, req.Key(), a.Body.Key(), "answer of another API")
	require.Equal(s.t, req.GetVersion(), a.Body.GetVersion(), "answer of another version")
	delete(s.due, a.Token)
	s.answers(a, req)
}

// pass lets time pass, with a tick whenever the group wants one, and one at the end.
func (s *sim) pass(d time.Duration) {
	end := s.now.Add(d)
	for n := 0; ; n++ {
		require.Less(s.t, n, 100_000, "the group wants to be ticked without end")
		next := s.group.Next()
		if next.IsZero() || next.After(end) {
			break
		}
		if next.After(s.now) {
			s.now = next
		}
		s.step(Tick{})
	}
	s.now = end
	s.step(Tick{})
}

// crash loses all that is not durable, and has another coordinator load the rest.
func (s *sim) crash() {
	s.flights = nil
	clear(s.due)
	if s.rows == nil {
		s.group = New(s.id, 0, s.cfg, s.topic, s.now)
		return
	}
	g, err := Load(*s.rows, s.cfg, s.topic, s.now)
	require.NoError(s.t, err)
	s.group = g
}

// applyChange does what the catalog does.
func applyChange(rec *catalog.GroupRecord, c *catalog.GroupChange) *catalog.GroupRecord {
	if c.Delete {
		return nil
	}
	if rec == nil {
		rec = &catalog.GroupRecord{}
	}
	if c.Group != nil {
		rec.Group = *c.Group
	}
	if c.AllMembersGone {
		rec.Members = nil
	}
	for _, m := range c.Members {
		i, ok := slices.BinarySearchFunc(rec.Members, m.ID, func(m catalog.GroupMember, id string) int { return cmp.Compare(m.ID, id) })
		if ok {
			rec.Members[i] = m
		} else {
			rec.Members = slices.Insert(rec.Members, i, m)
		}
	}
	for _, id := range c.MembersGone {
		rec.Members = slices.DeleteFunc(rec.Members, func(m catalog.GroupMember) bool { return m.ID == id })
	}
	gone := c.OffsetsGone
	for i := range c.Offsets {
		gone = append(slices.Clip(gone), c.Offsets[i].At())
	}
	for _, p := range gone {
		rec.Offsets = slices.DeleteFunc(rec.Offsets, func(o catalog.GroupOffset) bool { return o.At() == p })
	}
	rec.Offsets = append(rec.Offsets, c.Offsets...)
	slices.SortFunc(rec.Offsets, func(a, b catalog.GroupOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return rec
}

// simTopics is a snapshot of topics. A version's topics have ids of their own if they are made anew.
type simTopics struct {
	version int64
	byName  map[string]Topic
	names   []string
}

// newSimTopics makes topics of four partitions, with ids that differ from those of other versions.
func newSimTopics(version int64, names ...string) simTopics {
	st := simTopics{version: version, byName: make(map[string]Topic), names: slices.Sorted(slices.Values(names))}
	for i, n := range st.names {
		id := catalog.TopicID{0: byte(version), 15: byte(i + 1)}
		st.byName[n] = Topic{ID: id, Name: n, Partitions: 4}
	}
	return st
}

// with is a later snapshot, that has topics more and others not.
func (st simTopics) with(made, gone []string) simTopics {
	out := newSimTopics(st.version+1, slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(st.names), made...))))...)
	gone = slices.DeleteFunc(slices.Clone(gone), func(n string) bool { return slices.Contains(made, n) })
	out.names = slices.DeleteFunc(out.names, func(n string) bool { return slices.Contains(gone, n) })
	for _, n := range gone {
		delete(out.byName, n)
	}
	for n, t := range st.byName {
		if _, ok := out.byName[n]; ok && !slices.Contains(made, n) {
			out.byName[n] = t
		}
	}
	return out
}

func (st simTopics) ByName(name string) (Topic, bool) { t, ok := st.byName[name]; return t, ok }
func (st simTopics) Names() []string                  { return st.names }
func (st simTopics) Version() int64                   { return st.version }

func (st simTopics) ByID(id catalog.TopicID) (Topic, bool) {
	for _, t := range st.byName {
		if t.ID == id {
			return t, true
		}
	}
	return Topic{}, false
}
