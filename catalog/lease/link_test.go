package lease_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/memory"
)

// link is one process's connection to the catalog, which can be cut, frozen, or lose answers. Safe for concurrent use.
type link struct {
	*memory.Catalog

	over chan struct{} // closed with the process
	end  func()

	mu struct {
		sync.Mutex
		cut    chan struct{} // closed when the cut heals; nil: not cut
		frozen chan struct{} // closed when the process goes on; nil: it runs
		stuck  chan struct{} // closed when reads of the leases are answered again; nil: they are
		down   bool          // the server refuses connections
		deaf   bool          // announcements to it are lost
		slow   time.Duration // that it takes to read the leases
		lose   float64       // share of answers that are lost, of calls that may be
		rng    *rand.Rand
	}
}

func newLink(c *memory.Catalog, seed uint64) *link {
	l := &link{Catalog: c, over: make(chan struct{})}
	l.end = sync.OnceFunc(func() { close(l.over) })
	l.mu.rng = rand.New(rand.NewPCG(seed, 99))
	return l
}

// gate holds a call up for as long as the process is stopped, whatever ctx says, or the network is cut.
func (l *link) gate(ctx context.Context) error {
	for {
		l.mu.Lock()
		frozen, cut, down := l.mu.frozen, l.mu.cut, l.mu.down
		l.mu.Unlock()
		switch {
		case frozen != nil:
			<-frozen
		case cut != nil:
			select {
			case <-cut:
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", catalog.ErrUnavailable, ctx.Err())
			}
		case down:
			return fmt.Errorf("connection refused: %w", catalog.ErrUnavailable)
		default:
			return nil
		}
	}
}

// Close ends the process's use of the catalog.
func (l *link) Close() error {
	l.end()
	return l.Catalog.Close()
}

// tidings passes on that an attachment was lost, once the process can know.
func (l *link) tidings(lost <-chan struct{}) <-chan struct{} {
	told := make(chan struct{})
	go func() {
		defer close(told)
		<-lost
		for {
			l.mu.Lock()
			frozen, cut := l.mu.frozen, l.mu.cut
			l.mu.Unlock()
			switch {
			case frozen != nil:
				<-frozen
			case cut != nil:
				select {
				case <-cut:
				case <-l.over:
					return
				}
			default:
				return
			}
		}
	}()
	return told
}

// lost tells whether an answer is to be lost.
func (l *link) lost() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.rng.Float64() < l.mu.lose {
		return fmt.Errorf("the answer was lost: %w", catalog.ErrUnavailable)
	}
	return nil
}

func (l *link) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *link) cutOff() {
	l.set(func() {
		if l.mu.cut == nil {
			l.mu.cut = make(chan struct{})
		}
	})
}

func (l *link) heal() {
	l.set(func() {
		if l.mu.cut != nil {
			close(l.mu.cut)
			l.mu.cut = nil
		}
		l.mu.deaf, l.mu.down, l.mu.lose = false, false, 0
	})
}

func (l *link) freeze() {
	l.set(func() {
		if l.mu.frozen == nil {
			l.mu.frozen = make(chan struct{})
		}
	})
}

func (l *link) resume() {
	l.set(func() {
		if l.mu.frozen != nil {
			close(l.mu.frozen)
			l.mu.frozen = nil
		}
	})
}

func (l *link) LeaseSet(ctx context.Context, version int64) (catalog.LeaseSet, error) {
	if err := l.gate(ctx); err != nil {
		return catalog.LeaseSet{}, err
	}
	l.mu.Lock()
	stuck, slow := l.mu.stuck, l.mu.slow
	l.mu.Unlock()
	if stuck != nil {
		select {
		case <-stuck:
		case <-ctx.Done():
			return catalog.LeaseSet{}, fmt.Errorf("%w: %w", catalog.ErrUnavailable, ctx.Err())
		}
	}
	if !pause(ctx, slow) {
		return catalog.LeaseSet{}, fmt.Errorf("%w: %w", catalog.ErrUnavailable, ctx.Err())
	}
	return l.Catalog.LeaseSet(ctx, version)
}

func (l *link) ListBrokers(ctx context.Context) ([]catalog.Broker, error) {
	if err := l.gate(ctx); err != nil {
		return nil, err
	}
	return l.Catalog.ListBrokers(ctx)
}

func (l *link) FenceBroker(ctx context.Context, epoch catalog.BrokerEpoch, why catalog.FenceReason) error {
	if err := l.gate(ctx); err != nil {
		return err
	}
	if err := l.Catalog.FenceBroker(ctx, epoch, why); err != nil {
		return err
	}
	return l.lost()
}

func (l *link) Heartbeat(ctx context.Context, epoch catalog.BrokerEpoch) (catalog.Heartbeat, error) {
	if err := l.gate(ctx); err != nil {
		return catalog.Heartbeat{}, err
	}
	return l.Catalog.Heartbeat(ctx, epoch)
}

func (l *link) RegisterBroker(ctx context.Context, r catalog.Registration) (catalog.Broker, error) {
	if err := l.gate(ctx); err != nil {
		return catalog.Broker{}, err
	}
	return l.Catalog.RegisterBroker(ctx, r)
}

func (l *link) AcquireLeases(ctx context.Context, epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) ([]catalog.Lease, error) {
	if err := l.gate(ctx); err != nil {
		return nil, err
	}
	leases, err := l.Catalog.AcquireLeases(ctx, epoch, tps)
	if err == nil {
		err = l.lost()
	}
	if err != nil {
		return nil, err
	}
	return leases, nil
}

func (l *link) MoveLeases(ctx context.Context, epoch, to catalog.BrokerEpoch, held []catalog.HeldLease) ([]catalog.Lease, error) {
	if err := l.gate(ctx); err != nil {
		return nil, err
	}
	leases, err := l.Catalog.MoveLeases(ctx, epoch, to, held)
	if err == nil {
		err = l.lost()
	}
	if err != nil {
		return nil, err
	}
	return leases, nil
}

func (l *link) AskMoves(ctx context.Context, asker catalog.BrokerEpoch, moves []catalog.Move) error {
	if err := l.gate(ctx); err != nil {
		return err
	}
	if err := l.Catalog.AskMoves(ctx, asker, moves); err != nil {
		return err
	}
	return l.lost()
}

func (l *link) Announce(ctx context.Context, a catalog.Announcement) error {
	if err := l.gate(ctx); err != nil {
		return err
	}
	return l.Catalog.Announce(ctx, a)
}

func (l *link) Listen(ctx context.Context, fn func(catalog.Announcement)) error {
	if err := l.gate(ctx); err != nil {
		return err
	}
	return l.Catalog.Listen(ctx, func(a catalog.Announcement) {
		l.mu.Lock()
		deaf := l.mu.deaf || l.mu.cut != nil
		l.mu.Unlock()
		if !deaf && l.gate(ctx) == nil {
			fn(a)
		}
	})
}

func (l *link) Attach(ctx context.Context, epoch catalog.BrokerEpoch) (func(), <-chan struct{}, error) {
	if err := l.gate(ctx); err != nil {
		return nil, nil, err
	}
	detach, lost, err := l.Catalog.Attach(ctx, epoch)
	if err != nil {
		return nil, nil, err
	}
	return detach, l.tidings(lost), nil
}

func (l *link) Unfenced(ctx context.Context, epoch catalog.BrokerEpoch) error {
	if err := l.gate(ctx); err != nil {
		return err
	}
	return l.Catalog.Unfenced(ctx, epoch)
}

func (l *link) Detached(ctx context.Context, epochs []catalog.BrokerEpoch) ([]catalog.BrokerEpoch, error) {
	if err := l.gate(ctx); err != nil {
		return nil, err
	}
	return l.Catalog.Detached(ctx, epochs)
}

// pause waits, or tells that ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
