package lease_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// TestChaos: whatever happens to processes, connections and answers, no two brokers commit under one lease epoch, and once
// it is over everything is led and even again.
func TestChaos(t *testing.T) {
	for seed := range long(uint64(3), uint64(200)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { newChaos(t, seed).run(long(25, 100)) })
		})
	}
}

// chaos does random ill to a simulated fleet.
type chaos struct {
	*sim

	rng *rand.Rand
	all int // processes there should be
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	c := &chaos{rng: rand.New(rand.NewPCG(seed, 41)), all: 3 + int(seed%3)}
	ids := make([]catalog.BrokerID, c.all)
	for i := range ids {
		ids[i] = catalog.BrokerID(i + 1)
	}
	c.sim = newSim(t, 60, ids...)
	c.links += seed << 32
	return c
}

func (c *chaos) run(steps int) {
	c.t.Helper()
	c.pass(settling)
	for range steps {
		n := c.nodes[c.rng.IntN(len(c.nodes))]
		switch c.rng.IntN(11) {
		case 0:
			c.crash(n)
			c.pass(time.Duration(c.rng.IntN(1000)) * time.Millisecond)
			c.start(n.id)
		case 1:
			n.link.resume()
			n.link.heal()
			if err := c.drain(n); err != nil {
				c.t.Logf("a drain amid chaos failed: %v", err)
			}
			c.start(n.id)
		case 2, 3:
			n.link.cutOff()
		case 4:
			n.link.freeze()
		case 5:
			n.link.Drop()
		case 6:
			n.link.set(func() { n.link.mu.lose = 0.3 })
		case 7:
			n.link.set(func() { n.link.mu.deaf = true })
		case 8:
			n.link.cutOff()
			n.link.Drop()
		default:
			n.link.resume()
			n.link.heal()
		}
		c.pass(time.Duration(c.rng.IntN(4000)) * time.Millisecond)
		c.sound()
	}
	for _, n := range c.nodes {
		n.link.resume()
		n.link.heal()
	}
	c.pass(time.Minute)
	require.Len(c.t, c.nodes, c.all)
	c.allLed("after it all")
	c.balanced("after it all")
	fenced := len(c.fenced())
	c.pass(time.Minute)
	require.Len(c.t, c.fenced(), fenced, "nobody is fenced any more")
}
