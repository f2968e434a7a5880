package lease

import (
	"context"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// attacher keeps this process attached, in a goroutine of its own: whoever is not attached again within the time to confirm
// counts as dead, and the deciding goroutine may be waiting that long for an answer of the catalog, to whatever else.
type attacher struct {
	bell chan struct{} // capacity 1: want changed

	mu struct {
		sync.Mutex
		want catalog.BrokerEpoch // whose process is to be shown to live; 0: nobody's
		presence
	}
}

// presence tells one attachment from the next.
type presence struct {
	standing bool
	nth      int // grows before each try to attach
}

func (a *attacher) init() { a.bell = make(chan struct{}, 1) }

// attach has the process attached as epoch, and no longer as another.
func (a *attacher) attach(epoch catalog.BrokerEpoch) {
	a.mu.Lock()
	if a.mu.want != epoch {
		a.mu.want = epoch
		a.mu.standing = false
	}
	a.mu.Unlock()
	select {
	case a.bell <- struct{}{}:
	default:
	}
}

// now is the presence at this moment. Two that are equal and standing, one before a successful [catalog.Fleet.Detached] and one
// after, say that the attachment that stood was this one: a later one is made only after the loss of it was noted here.
func (a *attacher) now() presence {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.presence
}

// begin notes that there is no attachment and returns as whom there should be one.
func (a *attacher) begin() catalog.BrokerEpoch {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.standing = false
	a.mu.nth++
	return a.mu.want
}

// made notes an attachment, unless another is wanted by now.
func (a *attacher) made(as catalog.BrokerEpoch) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.standing = a.mu.want == as
	return a.mu.standing
}

// is tells whether an attachment as an epoch is what is wanted.
func (a *attacher) is(as catalog.BrokerEpoch) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.want == as
}

// keepAttached attaches this process, again after each loss, until ctx ends.
func (m *Manager) keepAttached(ctx context.Context) {
	a := &m.attacher
	for failures := 0; ctx.Err() == nil; {
		epoch := a.begin()
		if epoch == 0 {
			failures = 0
			select {
			case <-ctx.Done():
			case <-a.bell:
			}
			continue
		}
		calling, cancel := context.WithTimeout(ctx, m.cfg.CallTimeout)
		detach, lost, err := m.cfg.Fleet.Attach(calling, epoch)
		cancel()
		m.post(func() { m.call("attach", err) })
		if err != nil {
			failures++
			select {
			case <-ctx.Done():
			case <-a.bell:
			case <-time.After(backoff(m.cfg.Retry, failures) / 5):
			}
			continue
		}
		failures = 0
		if a.made(epoch) {
			m.ring() // somebody may be looked for now
		}
		for standing := true; standing && a.is(epoch); {
			select {
			case <-ctx.Done():
				standing = false
			case <-a.bell:
			case <-lost:
				m.log.Info("this broker's attachment to the catalog was lost", "broker_epoch", epoch)
				standing = false
			}
		}
		detach()
	}
}
