package node

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/metrics"
)

// storedEvery is how often it is looked at how much each topic has stored. Bytes count for the time until the next look.
const storedEvery = 10 * time.Second

// costOf returns the recorder of what a topic stands for in the bill; nil when the topic is gone.
func (o *observer) costOf(t *topic) *metrics.TopicCost {
	if t == nil {
		return nil
	}
	return once(t, &t.cost, func(t *topic) *metrics.TopicCost { return o.m.Cost.Topic(t.name) })
}

// requested shares a request of the store out.
func (o *observer) requested(op string, id catalog.TopicID, share, bytes float64) {
	how := metrics.CostPut
	if op == "get" {
		how = metrics.CostGet
	}
	c := o.costOf(o.topics.Load().byID[id])
	if c == nil {
		c = o.nobodysCost()
	}
	c.Request(how, share, bytes)
}

// storedSeen takes over how much the topics have stored, and that they had what was told before for so long.
func (o *observer) storedSeen(stored map[catalog.TopicID]int64, since time.Duration) {
	for id, t := range o.topics.Load().byID {
		bytes, led := stored[id]
		if !led {
			if c := t.cost.Load(); c != nil {
				c.Leave()
			}
			continue
		}
		if c := o.costOf(t); c != nil {
			c.Held(since)
			c.Stored(bytes)
		}
	}
}

// measureStored looks at what is stored, at once and from then on.
func (n *Node) measureStored(ctx context.Context) {
	if !n.watch.on() {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(storedEvery)
	defer tick.Stop()
	last, failing := time.Now(), false
	for {
		stored, err := n.engine.StoredBytes(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			n.log.Warn("cannot measure how much is stored; trying again", "every", storedEvery, "error", err)
		}
		if failing = err != nil; !failing { // else the time counts with what is seen next
			now := time.Now()
			n.watch.storedSeen(stored, now.Sub(last))
			last = now
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
