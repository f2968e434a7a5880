package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// ErrIDInUse says that a process that lives has the broker id. Kafka: DUPLICATE_BROKER_REGISTRATION.
var ErrIDInUse = errors.New("another process that lives has this broker id")

const (
	// nobody is the epoch an observer attaches as that has none: to see who is attached takes an attachment.
	nobody = catalog.BrokerEpoch(0)
	// claimPoll is how often AwaitID looks.
	claimPoll = 100 * time.Millisecond
)

// AwaitID waits until no living process has a broker id, as the catalog can tell, before this one registers it. After
// patience it gives up with [ErrIDInUse]: long enough, that should be, for a process that stops just now, and for the
// catalog's server to notice that a machine is gone. Of two that begin in the same moment both may pass; see
// [Hooks.Superseded].
func AwaitID(ctx context.Context, brokers catalog.Brokers, fleet catalog.Fleet, id catalog.BrokerID, patience time.Duration) error {
	detach, _, err := fleet.Attach(ctx, nobody)
	if err != nil {
		return fmt.Errorf("look who has broker id %d: %w", id, err)
	}
	defer detach()
	enough := time.NewTimer(patience)
	defer enough.Stop()
	tick := time.NewTicker(claimPoll)
	defer tick.Stop()
	for {
		other, err := alive(ctx, brokers, fleet, id)
		if err != nil {
			return fmt.Errorf("look who has broker id %d: %w", id, err)
		}
		if other == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("look who has broker id %d: %w", id, ctx.Err())
		case <-enough.C:
			return fmt.Errorf("broker id %d: %w: broker epoch %d, %s; stop it, or choose another id", id, ErrIDInUse, other.Epoch, addressOf(other))
		}
	}
}

// alive returns an unfenced broker epoch of the id whose process is attached; nil if there is none.
func alive(ctx context.Context, brokers catalog.Brokers, fleet catalog.Fleet, id catalog.BrokerID) (*catalog.Broker, error) {
	all, err := brokers.ListBrokers(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		b := &all[i]
		if b.ID != id || b.Fenced {
			continue
		}
		gone, err := fleet.Detached(ctx, []catalog.BrokerEpoch{b.Epoch})
		if err != nil {
			return nil, err
		}
		if len(gone) == 0 {
			return b, nil
		}
	}
	return nil, nil
}

func addressOf(b *catalog.Broker) string {
	if len(b.Listeners) == 0 {
		return "without an address"
	}
	return fmt.Sprintf("at %s:%d", b.Listeners[0].Host, b.Listeners[0].Port)
}
