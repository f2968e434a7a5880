package broker

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// budget is memory shared by all connections, that can tell how much of it is taken.
type budget struct {
	*semaphore.Weighted

	size  int64
	taken atomic.Int64
}

func newBudget(size int64) *budget {
	return &budget{Weighted: semaphore.NewWeighted(size), size: size}
}

// Acquire waits for n bytes, or until ctx ends.
func (b *budget) Acquire(ctx context.Context, n int64) error {
	err := b.Weighted.Acquire(ctx, n)
	if err == nil {
		b.taken.Add(n)
	}
	return err
}

// TryAcquire takes n bytes if they are free.
func (b *budget) TryAcquire(n int64) bool {
	ok := b.Weighted.TryAcquire(n)
	if ok {
		b.taken.Add(n)
	}
	return ok
}

// Release gives n bytes back.
func (b *budget) Release(n int64) {
	b.taken.Add(-n)
	b.Weighted.Release(n)
}

// Usage is what clients make the broker hold now, and how much they may.
type Usage struct {
	Connections       int
	ConnectionsLimit  int
	InFlightRequests  int   // read and not answered
	RequestBytes      int64 // of request frames, see Limits.RequestMemoryBytes
	RequestBytesLimit int64
	AnswerBytes       int64 // of Fetch answers, see Limits.AnswerMemoryBytes
	AnswerBytesLimit  int64
}

// Usage tells what there is now. It goes through all connections: for a scrape, not for each request.
func (b *Broker) Usage() Usage {
	u := Usage{
		ConnectionsLimit: b.cfg.Limits.MaxConnections,
		RequestBytes:     b.memory.taken.Load(), RequestBytesLimit: b.memory.size,
		AnswerBytes: b.answers.taken.Load(), AnswerBytesLimit: b.answers.size,
	}
	s := &b.server
	s.mu.Lock()
	defer s.mu.Unlock()
	u.Connections = len(s.mu.conns)
	for c := range s.mu.conns {
		u.InFlightRequests += int(c.open.Load())
	}
	return u
}
