package broker

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// settleWait bounds how long a Produce waits for a partition that is on its way from one broker to another. A hand-over
// takes some tens of milliseconds; one that hangs must not hold up what else comes through the connection.
const settleWait = 500 * time.Millisecond

// appendSettled appends one batch with try, and tries once more where the partition was on its way between brokers: here
// it can be appended soon, or there is somebody to send the client to. To refuse at once would cost the client far more
// than the wait. Who gets NOT_LEADER_OR_FOLLOWER and no leader asks for metadata, which clients do at some pace only, is
// told the same broker again as long as the lease has not moved, and comes back here; who gets the new leader before that
// one leads is refused there as well.
//
// The connection's reader waits, so that what a client sends next stays behind what it sent before.
func (b *Broker) appendSettled(ctx context.Context, r *request, tp catalog.TopicPartition, try func() *failure) *failure {
	f := try()
	if f == nil || f.code != codeNotLeaderOrFollower || !b.shares || !b.settle(ctx, tp, r.received.Add(settleWait)) {
		return f
	}
	return try()
}

// settle waits until it is known who leads a partition. False when there was nothing to wait for.
func (b *Broker) settle(ctx context.Context, tp catalog.TopicPartition, until time.Time) bool {
	var timer *time.Timer
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	for {
		changed := b.cfg.Cluster.Changed()
		if _, err := b.cfg.Log.Leader(tp); err == nil {
			return true
		}
		if !b.cfg.Cluster.Settling(tp) {
			return timer != nil
		}
		if timer == nil {
			timer = time.NewTimer(time.Until(until))
		}
		select {
		case <-changed:
		case <-timer.C:
			return true
		case <-ctx.Done():
			return true
		case <-b.draining:
			return true
		}
	}
}
