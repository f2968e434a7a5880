package chaos_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/load"
	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// TestCables cuts the network of brokers for real: each lives in a network namespace, and what a cut cable carries is lost
// without a word, connections to be made too, and packets of one direction only. (The proxies of TestRounds accept connections
// while they are silent, and deliver late what was sent meanwhile.)
func TestCables(t *testing.T) {
	onlyFull(t)
	require.NoError(t, stack.Namespaces(), "this test needs network namespaces, and to be root")
	brokers := number(t, "CHAOS_BROKERS", 3)
	s := stack.Start(t, stack.Options{Brokers: brokers, Flags: smallCaches, Cables: true})
	l := load.Start(t, s)
	seed := number(t, "CHAOS_SEED", 1)
	var all []fault
	for _, c := range []struct {
		name string
		cut  func(*stack.Cables) error
		over bool // the session ends
	}{
		{"from-all", (*stack.Cables).Cut, true},
		{"from-catalog", func(c *stack.Cables) error { return c.Catalog.Cut() }, true},
		{"from-store", func(c *stack.Cables) error { return c.Store.Cut() }, false},
		{"from-clients", func(c *stack.Cables) error { return c.Clients.Cut() }, false},
		{"to-catalog", func(c *stack.Cables) error { return c.Catalog.CutOutgoing() }, true},
		{"to-store", func(c *stack.Cables) error { return c.Store.CutOutgoing() }, false},
	} {
		all = append(all, fault{name: c.name, run: func(r *round) error { return r.pullCable(c.cut, c.over) }})
	}
	const repeat = 3
	report := report{}
	for i := range repeat * len(all) {
		newRound(t, s, l, seed, i).judge(all[i%len(all)], report)
	}
	t.Logf("%d cuts, seed %d, %d brokers: %d records, none lost, none twice, none out of order; readers got over: %s\n%s",
		repeat*len(all), seed, brokers, l.End(t, s), l.Hiccups(), report)
}

// pullCable cuts a leader off: until the others have taken over where its session ends with that, and on for a while.
func (r *round) pullCable(cut func(*stack.Cables) error, over bool) error {
	b, _, err := r.leader()
	if err != nil {
		return err
	}
	r.note("broker %d", b.ID)
	epoch, err := r.epoch(b.ID)
	if err != nil {
		return err
	}
	since := time.Now()
	if err := cut(b.Cables); err != nil {
		return err
	}
	if over {
		if err := r.othersTakeOver(epoch, since); err != nil {
			return err
		}
	}
	r.hold(time.Second, 8*time.Second, 20*time.Second)
	return b.Cables.Heal()
}
