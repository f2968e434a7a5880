package assignor_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
	"github.com/streamhouse/streamhouse/catalog"
)

// id makes topic ids that sort by n.
func id(n int) (t catalog.TopicID) {
	binary.BigEndian.PutUint64(t[8:], uint64(n)+1)
	return t
}

func part(topic int, ps ...int32) assignor.Partitions {
	return assignor.Partitions{Topic: id(topic), Partitions: ps}
}

func topics(partitions ...int32) []assignor.Topic {
	out := make([]assignor.Topic, len(partitions))
	for i, n := range partitions {
		out[i] = assignor.Topic{ID: id(i), Partitions: n}
	}
	return out
}

func members(n int, subscribed ...int32) []assignor.Member {
	out := make([]assignor.Member, n)
	for i := range out {
		out[i] = assignor.Member{ID: fmt.Sprintf("m%04d", i), Topics: subscribed}
	}
	return out
}

func TestRange(t *testing.T) {
	for _, c := range []struct {
		name    string
		topics  []assignor.Topic
		members []assignor.Member
		want    []assignor.Assignment
	}{
		{
			"co-partitioned", topics(3, 3), members(2, 0, 1),
			[]assignor.Assignment{{part(0, 0, 1), part(1, 0, 1)}, {part(0, 2), part(1, 2)}},
		},
		{
			"more members than partitions", topics(2), members(3, 0),
			[]assignor.Assignment{{part(0, 0)}, {part(0, 1)}, nil},
		},
		{
			"members with an instance id first, by that", topics(3),
			[]assignor.Member{
				{ID: "a", Topics: []int32{0}},
				{ID: "b", InstanceID: "z", Topics: []int32{0}},
				{ID: "c", InstanceID: "y", Topics: []int32{0}},
			},
			[]assignor.Assignment{{part(0, 2)}, {part(0, 1)}, {part(0, 0)}},
		},
		{
			"different subscriptions", topics(3, 3, 3),
			[]assignor.Member{
				{ID: "a", Topics: []int32{0, 1}}, {ID: "b", Topics: []int32{2}}, {ID: "c", Topics: []int32{1, 2}},
			},
			[]assignor.Assignment{
				{part(0, 0, 1, 2), part(1, 0, 1)}, {part(2, 0, 1)}, {part(1, 2), part(2, 2)},
			},
		},
		{"nobody", topics(3), nil, []assignor.Assignment{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := assignor.Range(c.topics, c.members)
			if !slices.EqualFunc(got, c.want, assignor.Assignment.Equal) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// world is a random group whose subscriptions and topics change.
type world struct {
	rng     *rand.Rand
	topics  []assignor.Topic
	members []assignor.Member
	nextID  int
}

func (w *world) subscription(same bool) []int32 {
	if same && len(w.members) > 0 {
		return w.members[0].Topics
	}
	var s []int32
	for t := range w.topics {
		if w.rng.IntN(3) > 0 {
			s = append(s, int32(t))
		}
	}
	return s
}

func (w *world) join(same bool) {
	m := assignor.Member{ID: fmt.Sprintf("m%05d", w.nextID), Topics: w.subscription(same)}
	w.nextID++
	if w.rng.IntN(4) == 0 {
		m.InstanceID = fmt.Sprintf("i%d", w.rng.IntN(100000))
	}
	w.members = append(w.members, m)
}

// check checks what every assignor has to keep, and returns each member's load.
func check(t *testing.T, topics []assignor.Topic, members []assignor.Member, got []assignor.Assignment) (loads []int) {
	t.Helper()
	if len(got) != len(members) {
		t.Fatalf("assignments of %d members for %d", len(got), len(members))
	}
	type partition struct {
		topic catalog.TopicID
		n     int32
	}
	owner := map[partition]string{}
	subscribed := map[catalog.TopicID]bool{}
	for i, m := range members {
		mine := map[catalog.TopicID]int32{}
		for _, x := range m.Topics {
			mine[topics[x].ID] = topics[x].Partitions
			subscribed[topics[x].ID] = true
		}
		if !slices.IsSortedFunc(got[i], func(a, b assignor.Partitions) int { return assignor.Compare(a.Topic, b.Topic) }) {
			t.Errorf("%s: topics are not in order", m.ID)
		}
		for _, ps := range got[i] {
			if len(ps.Partitions) == 0 || !slices.IsSorted(ps.Partitions) {
				t.Errorf("%s: partitions %v", m.ID, ps.Partitions)
			}
			for _, p := range ps.Partitions {
				if p < 0 || p >= mine[ps.Topic] {
					t.Errorf("%s owns partition %d of a topic with %d that it may have", m.ID, p, mine[ps.Topic])
				}
				if of, ok := owner[partition{ps.Topic, p}]; ok {
					t.Errorf("partition %d is of %s and %s", p, of, m.ID)
				}
				owner[partition{ps.Topic, p}] = m.ID
			}
		}
		loads = append(loads, got[i].Len())
	}
	for _, topic := range topics {
		for p := range topic.Partitions {
			if _, ok := owner[partition{topic.ID, p}]; ok != subscribed[topic.ID] {
				t.Errorf("partition %d of %x is owned: %v; subscribed to: %v", p, topic.ID[15], ok, subscribed[topic.ID])
			}
		}
	}
	return loads
}

// kept is how many partitions stay with their owner.
func kept(before []assignor.Member, after []assignor.Assignment) int {
	n := 0
	for i := range before {
		n += before[i].Target.And(after[i]).Len()
	}
	return n
}

// TestUniformSame changes a group whose members subscribe to the same topics, at random: it is balanced at each step, and no
// balanced assignment would move fewer partitions.
func TestUniformSame(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{rng: rand.New(rand.NewPCG(seed, 1))}
		for i := range 1 + w.rng.IntN(4) {
			w.topics = append(w.topics, assignor.Topic{ID: id(i), Partitions: int32(w.rng.IntN(12))})
		}
		for range 1 + w.rng.IntN(6) {
			w.join(true)
		}
		for range 20 {
			switch {
			case w.rng.IntN(2) == 0:
				w.join(true)
			case len(w.members) > 1:
				i := w.rng.IntN(len(w.members))
				w.members = slices.Delete(w.members, i, i+1)
			}
			if i := w.rng.IntN(len(w.topics)); w.rng.IntN(4) == 0 {
				w.topics[i].Partitions += int32(w.rng.IntN(3))
			}
			got := assignor.Uniform(w.topics, w.members)
			loads := check(t, w.topics, w.members, got)
			if slices.Max(loads)-slices.Min(loads) > 1 {
				t.Fatalf("seed %d: loads %v", seed, loads)
			}
			total := 0
			var had []int
			for i := range w.members {
				total += loads[i]
				had = append(had, w.members[i].Target.Len())
			}
			slices.SortFunc(had, func(a, b int) int { return b - a })
			best, extra := 0, total%len(had)
			for i, n := range had { // those who have most get the extra ones: nothing keeps more
				quota := total / len(had)
				if i < extra {
					quota++
				}
				best += min(n, quota)
			}
			if got := kept(w.members, got); got != best {
				t.Fatalf("seed %d: kept %d, possible are %d", seed, got, best)
			}
			for i := range w.members {
				w.members[i].Target = got[i]
			}
			if again := assignor.Uniform(w.topics, w.members); !slices.EqualFunc(got, again, assignor.Assignment.Equal) {
				t.Fatalf("seed %d: a balanced target is not kept", seed)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestMixed changes a group whose members subscribe to different topics: after each step of uniform no partition could move to a
// member that has two fewer, and a balanced target stays as it is.
func TestMixed(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{rng: rand.New(rand.NewPCG(seed, 2))}
		for i := range 1 + w.rng.IntN(6) {
			w.topics = append(w.topics, assignor.Topic{ID: id(i), Partitions: int32(w.rng.IntN(9))})
		}
		for range 1 + w.rng.IntN(6) {
			w.join(false)
		}
		for range 20 {
			switch {
			case w.rng.IntN(2) == 0:
				w.join(false)
			case len(w.members) > 1:
				i := w.rng.IntN(len(w.members))
				w.members = slices.Delete(w.members, i, i+1)
			}
			if i := w.rng.IntN(len(w.members)); w.rng.IntN(2) == 0 {
				w.members[i].Topics = w.subscription(false)
			}
			check(t, w.topics, w.members, assignor.Range(w.topics, w.members))
			got := assignor.Uniform(w.topics, w.members)
			loads := check(t, w.topics, w.members, got)
			for i := range w.members {
				for j := range w.members {
					for _, x := range w.members[j].Topics {
						if got[i].Topic(w.topics[x].ID) != nil && loads[i] > loads[j]+1 {
							t.Fatalf("seed %d: %s has %d and shares a topic of it with %s, which has %d",
								seed, w.members[i].ID, loads[i], w.members[j].ID, loads[j])
						}
					}
				}
			}
			for i := range w.members {
				w.members[i].Target = got[i]
			}
			if again := assignor.Uniform(w.topics, w.members); !slices.EqualFunc(got, again, assignor.Assignment.Equal) {
				t.Fatalf("seed %d: a balanced target is not kept", seed)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestUniformMixedStays: members that come and go move little more than what balance needs (12 of 16 could stay): topics are levelled
// one after the other, so that a member can give up one of the first and get one of the second.
func TestUniformMixedStays(t *testing.T) {
	ts := topics(8, 8)
	ms := []assignor.Member{
		{ID: "a", Topics: []int32{0, 1}}, {ID: "b", Topics: []int32{0, 1}}, {ID: "c", Topics: []int32{1}},
	}
	settle := func() []assignor.Assignment {
		got := assignor.Uniform(ts, ms)
		for i := range ms {
			ms[i].Target = got[i]
		}
		return got
	}
	settle()
	ms = append(ms, assignor.Member{ID: "d", Topics: []int32{0, 1}})
	before := slices.Clone(ms)
	if after := settle(); kept(before, after) < 11 || after[3].Len() != 4 {
		t.Errorf("d got %d of 16 partitions, %d stayed", after[3].Len(), kept(before, after))
	}
	ms = ms[:3]
	before = slices.Clone(ms)
	if after := settle(); kept(before, after) < 11 {
		t.Errorf("%d of 12 partitions stayed when another member left", kept(before, after))
	}
}

// TestDuplicates: a classic group's leader may have given one partition to two members, or one that does not exist; a target
// made from that is sound.
func TestDuplicates(t *testing.T) {
	ts := topics(3)
	ms := members(2, 0)
	ms[0].Target = assignor.Of(part(0, 0, 1, 7), part(9, 1))
	ms[1].Target = assignor.Of(part(0, 1, 2))
	got := assignor.Uniform(ts, ms)
	check(t, ts, ms, got)
	if kept(ms, got) != 3 {
		t.Errorf("got %v", got)
	}
	ms[1].Topics = []int32{}
	check(t, ts, ms, assignor.Uniform(ts, ms))
}

// TestRacks: free partitions go to members that can read them in their rack, as far as balance allows.
func TestRacks(t *testing.T) {
	names := []string{"x", "y", "z"}
	ts := topics(9)
	ts[0].Racks = func(p int32) []string { return names[p%3 : p%3+1] }
	ms := members(3, 0)
	for i := range ms {
		ms[i].Rack = names[2-i]
	}
	got := assignor.Uniform(ts, ms)
	check(t, ts, ms, got)
	for i, a := range got {
		for _, p := range a.Topic(id(0)) {
			if names[p%3] != ms[i].Rack {
				t.Errorf("partition %d, in rack %s, is of %s in rack %s", p, names[p%3], ms[i].ID, ms[i].Rack)
			}
		}
	}
	// One more member, in a rack without replicas: balance comes first. What the others give up is theirs to choose.
	for i := range ms {
		ms[i].Target = got[i]
	}
	ms = append(ms, assignor.Member{ID: "m9", Rack: "w", Topics: []int32{0}})
	got = assignor.Uniform(ts, ms)
	if loads := check(t, ts, ms, got); loads[3] != 2 || kept(ms, got) != 7 {
		t.Errorf("loads %v, kept %d", loads, kept(ms, got))
	}
}

func TestAssignment(t *testing.T) {
	a := assignor.Of(part(2, 3, 1, 3), part(1, 5), part(2, 2), part(3))
	if want := (assignor.Assignment{part(1, 5), part(2, 1, 2, 3)}); !a.Equal(want) {
		t.Fatalf("got %v", a)
	}
	b := assignor.Of(part(2, 2, 4))
	for _, c := range []struct {
		name      string
		got, want assignor.Assignment
	}{
		{"minus", a.Minus(b), assignor.Of(part(1, 5), part(2, 1, 3))},
		{"and", a.And(b), assignor.Of(part(2, 2))},
		{"plus", a.Plus(b), assignor.Of(part(1, 5), part(2, 1, 2, 3, 4))},
		{"plus nothing", a.Plus(nil), a},
		{"minus all", a.Minus(a), nil},
	} {
		if !c.got.Equal(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
	if a.Len() != 4 || !a.Has(id(2), 3) || a.Has(id(2), 4) || a.Has(id(7), 0) {
		t.Errorf("%v", a)
	}
}

func TestJSON(t *testing.T) {
	a := assignor.Of(part(0, 5), part(3, 1, 2))
	data, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"topic":"00000000000000000000000000000001","partitions":[5]},` +
		`{"topic":"00000000000000000000000000000004","partitions":[1,2]}]`
	if string(data) != want {
		t.Errorf("got %s", data)
	}
	var back assignor.Assignment
	if err := json.Unmarshal(data, &back); err != nil || !back.Equal(a) {
		t.Errorf("got %v, %v", back, err)
	}
	for _, bad := range []string{`[{"topic":"00"}]`, `[{"topic":"zz"}]`, `[{"topic":1}]`} {
		if json.Unmarshal([]byte(bad), &back) == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

// BenchmarkAssign makes the targets of 1,000 members and 10,000 partitions when one member has joined.
func BenchmarkAssign(b *testing.B) {
	const nTopics, nMembers = 100, 1000
	ts := make([]assignor.Topic, nTopics)
	all := make([]int32, nTopics)
	for i := range ts {
		ts[i] = assignor.Topic{ID: id(i), Partitions: 100}
		all[i] = int32(i)
	}
	same := members(nMembers, all...)
	mixed := members(nMembers)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range mixed {
		for t := range all {
			if rng.IntN(2) == 0 {
				mixed[i].Topics = append(mixed[i].Topics, int32(t))
			}
		}
	}
	for _, c := range []struct {
		name    string
		assign  assignor.Assignor
		members []assignor.Member
	}{
		{"range", assignor.Range, same},
		{"range/mixed", assignor.Range, mixed},
		{"uniform", assignor.Uniform, same},
		{"uniform/mixed", assignor.Uniform, mixed},
	} {
		ms := slices.Clone(c.members)
		for i, a := range c.assign(ts, ms[:nMembers-1]) {
			ms[i].Target = a
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.assign(ts, ms)
			}
		})
	}
}
