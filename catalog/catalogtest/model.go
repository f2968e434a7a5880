package catalogtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// Model runs one random list of operations on two empty catalogs that read the same clock: a reference, trusted for
// being simple, and a subject. Each operation must be answered alike, and both must hold the same facts after every few of
// them. Half of the operations are well-formed, the other half stale, repeated or made up.
//
// What the contract does not fix is not compared: values of versions and batch ids. Each side is given its own.
func Model(t *testing.T, seed uint64, steps int, clock *Clock, reference, subject catalog.Catalog) {
	t.Helper()
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), clock: clock, log: &strings.Builder{}, writes: make(map[shardUnder]int64),
		sides: [2]*side{{c: reference, sets: map[int64]string{}}, {c: subject, sets: map[int64]string{}}},
	}
	for step := range steps {
		name, op := m.next()
		var answers [2]string
		for i, s := range m.sides {
			answers[i] = m.run(s, op)
		}
		fmt.Fprintf(m.log, "%d %s: %s\n", step, name, answers[0])
		require.Equal(t, answers[0], answers[1], "seed %d, answer of step %d %s after\n%s", seed, step, name, tailOfLog(m.log))
		if step%7 == 0 || step == steps-1 {
			held := m.dump(m.sides[0])
			require.Equal(t, held, m.dump(m.sides[1]), "seed %d, facts after step %d %s after\n%s", seed, step, name, tailOfLog(m.log))
		}
	}
}

func tailOfLog(b *strings.Builder) string {
	lines := strings.Split(b.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// side is one catalog with what only it knows.
type side struct {
	c    catalog.Catalog
	sets map[int64]string // topic sets by version
}

type operation func(s *side) (any, error)

type model struct {
	t       *testing.T
	rng     *rand.Rand
	clock   *Clock
	log     *strings.Builder
	sides   [2]*side
	epochs  []catalog.BrokerEpoch
	topics  []catalog.TopicID
	objects catalog.ObjectID
	keys    []string
	writes  map[shardUnder]int64 // number of the last write under a lease
}

// The errors of the contract, by which answers are compared.
var contractErrors = []error{
	catalog.ErrFenced, catalog.ErrSequence, catalog.ErrConflict, catalog.ErrNotHolder, catalog.ErrTopicExists, catalog.ErrTopicCollision,
	catalog.ErrUnknownTopic, catalog.ErrPartitionCount, catalog.ErrVersionMismatch, catalog.ErrUnknownBroker, catalog.ErrNotExpired,
	catalog.ErrNotFound, catalog.ErrInvalid, catalog.ErrUnavailable, catalog.ErrNoSpace, catalog.ErrClosed,
}

// run gives the answer as text: nil and empty, and times of one instant, read the same.
func (m *model) run(s *side, op operation) string {
	m.t.Helper()
	out, err := op(s)
	if err == nil {
		return text(out)
	}
	for _, known := range contractErrors {
		if errors.Is(err, known) {
			return "error: " + known.Error()
		}
	}
	m.t.Fatalf("an error that the contract does not know: %v", err)
	return ""
}

func (m *model) chance(percent int) bool { return m.rng.IntN(100) < percent }

func pick[T any](m *model, list []T, otherwise T) T {
	if len(list) == 0 || m.chance(3) {
		return otherwise
	}
	return list[m.rng.IntN(len(list))]
}

// epoch picks a broker epoch, mostly a recent one.
func (m *model) epoch() catalog.BrokerEpoch {
	return pick(m, m.epochs[max(0, len(m.epochs)-4):], 9999)
}

func (m *model) partition() catalog.TopicPartition {
	return catalog.TopicPartition{Topic: pick(m, m.topics[max(0, len(m.topics)-5):], catalog.TopicID{0xff}), Partition: int32(m.rng.IntN(4))}
}

func (m *model) partitions() []catalog.TopicPartition {
	if m.chance(20) {
		return nil
	}
	seen := make(map[catalog.TopicPartition]bool)
	out := []catalog.TopicPartition{}
	for range m.rng.IntN(5) {
		if tp := m.partition(); !seen[tp] {
			seen[tp] = true
			out = append(out, tp)
		}
	}
	return out
}

func (m *model) object() (catalog.ObjectID, string) {
	m.objects++
	key := fmt.Sprintf("k/%d", m.objects)
	m.keys = append(m.keys, key)
	return m.objects, key
}

// next makes up an operation. It looks at the reference to make sensible ones.
func (m *model) next() (string, operation) {
	makers := []struct {
		weight int
		make   func() (string, operation)
	}{
		{3, m.createTopic},
		{1, m.deleteTopic},
		{2, m.growTopic},
		{3, m.configTopic},
		{3, m.registerBroker},
		{3, m.heartbeat},
		{2, m.fenceBroker},
		{5, m.acquire},
		{3, m.release},
		{30, m.commit},
		{8, m.mergeTail},
		{12, m.fold},
		{14, m.edit},
		{3, m.setLogStart},
		{2, m.purge},
		{2, m.forget},
		{3, m.allocate},
		{5, m.pass},
		{6, m.readTail},
		{4, m.packedRows},
		{3, m.candidates},
		{2, m.makeShards},
		{4, m.coordinate},
		{25, m.writeGroups},
		{4, m.readGroups},
	}
	total := 0
	for _, k := range makers {
		total += k.weight
	}
	n := m.rng.IntN(total)
	for _, k := range makers {
		if n -= k.weight; n < 0 {
			return k.make()
		}
	}
	panic("unreachable")
}
