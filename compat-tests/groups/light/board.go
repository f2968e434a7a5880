package light

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Board is what the members of one group on one topic say of themselves. Safe for concurrent use.
type Board struct {
	partitions int32
	spread     atomic.Bool
	mu         struct {
		sync.Mutex
		members map[string]*state
		epochs  map[int32]int // members by epoch
		changed chan struct{} // closed at the next change
		last    time.Time     // of a change
	}
}

type state struct {
	epoch int32
	owned []int32
}

// NewBoard returns the board of a group on a topic of so many partitions.
func NewBoard(partitions int32) *Board {
	b := &Board{partitions: partitions}
	b.mu.members, b.mu.epochs, b.mu.changed = make(map[string]*state), make(map[int32]int), make(chan struct{})
	return b
}

// Spread has members of a KIP-848 group choose when in the interval they heartbeat, each at its next heartbeat: those that joined
// at once would go on in step.
func (b *Board) Spread() { b.spread.Store(true) }

// told notes what a member has now. owned must not be changed any more.
func (b *Board) told(member string, epoch int32, owned []int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaveEpoch(member)
	b.mu.members[member] = &state{epoch, owned}
	b.mu.epochs[epoch]++
	b.change()
}

// gone notes that a member is none any more.
func (b *Board) gone(member string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.members[member] == nil {
		return
	}
	b.leaveEpoch(member)
	delete(b.mu.members, member)
	b.change()
}

func (b *Board) leaveEpoch(member string) {
	if s := b.mu.members[member]; s != nil {
		if b.mu.epochs[s.epoch]--; b.mu.epochs[s.epoch] == 0 {
			delete(b.mu.epochs, s.epoch)
		}
	}
}

func (b *Board) change() {
	b.mu.last = time.Now()
	close(b.mu.changed)
	b.mu.changed = make(chan struct{})
}

// Settled waits until so many members, and no others, are in one epoch above after, own each partition once, and none owns two
// more than another; then it tells that epoch and when the last of them got there. The last condition is not idle: a
// coordinator that puts new targets off has members join at the epoch of the old one, at which the first member has everything.
func (b *Board) Settled(ctx context.Context, members int, after int32) (epoch int32, at time.Time, err error) {
	for {
		b.mu.Lock()
		epoch, at, why := b.settled(members, after)
		changed := b.mu.changed
		b.mu.Unlock()
		if why == "" {
			return epoch, at, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, time.Time{}, fmt.Errorf("%s: %w", why, ctx.Err())
		}
	}
}

// settled says why it is not so yet.
func (b *Board) settled(members int, after int32) (epoch int32, at time.Time, why string) {
	if len(b.mu.members) != members || len(b.mu.epochs) != 1 {
		return 0, time.Time{}, fmt.Sprintf("%d members in epochs %v, want %d in one", len(b.mu.members), b.mu.epochs, members)
	}
	owned, seen := 0, make([]bool, b.partitions)
	least, most := int(b.partitions), 0
	for _, s := range b.mu.members {
		epoch = s.epoch
		least, most = min(least, len(s.owned)), max(most, len(s.owned))
		for _, p := range s.owned {
			if seen[p] {
				return 0, time.Time{}, fmt.Sprintf("partition %d has two owners in epoch %d", p, epoch)
			}
			seen[p] = true
			owned++
		}
	}
	if epoch <= after || owned != int(b.partitions) {
		return 0, time.Time{}, fmt.Sprintf("epoch %d, want above %d; %d of %d partitions are owned", epoch, after, owned, b.partitions)
	}
	if most > least+1 {
		return epoch, time.Time{}, fmt.Sprintf("in epoch %d a member owns %d partitions, another one %d", epoch, most, least)
	}
	return epoch, b.mu.last, ""
}
