package catalog

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
)

// Operator is what a catalog offers, besides [Catalog], to the commands of those who run the cluster. All
// implementations have it.
type Operator interface {
	// Now reads the catalog's clock. It changes nothing.
	Now(ctx context.Context) (time.Time, error)
	// Restored makes a catalog fit for use that was put back to an earlier state: a backup, or a standby that lags. What
	// was handed out after that state and is not known to it any more must not be handed out a second time, to somebody
	// else. So, in one transaction:
	//
	//   - all broker epochs are fenced, and their leases become free: a process that survived can do nothing any more;
	//   - the broker epoch, the epochs of all leases (also of those never held), the id blocks of each [IDKind] and all
	//     versions move forward, by [RestoreEpochs], [RestoreIDs] and [RestoreBrokerIDs].
	//
	// The log is as the earlier state has it: offsets given out since are given out again, under larger leader epochs, by
	// which consumers see that the log was cut off.
	//
	// ErrBrokerAlive, and nothing was changed, when a broker has renewed its session less than its TTL ago, by the
	// catalog's clock, or is attached. It may be repeated, also after a lost answer: everything moves forward once more.
	Restored(ctx context.Context) (Restoration, error)
}

// How far [Operator.Restored] moves numbers forward: more than any cluster hands out in the time between a backup and its
// use, and little enough to be done a thousand times.
const (
	// RestoreEpochs is for broker epochs and lease epochs. At one registration, or one move of the same lease, a second
	// it is 12 days; those of leases have 31 bits.
	RestoreEpochs = 1 << 20
	// RestoreIDs is for ids and versions. At 10,000 a second it is 79 days.
	RestoreIDs = 1 << 36
	// RestoreBrokerIDs is for ids of brokers ([IDBroker]), which have 31 bits and are for people to read.
	RestoreBrokerIDs = 1000
)

// Restoration says what [Operator.Restored] did.
type Restoration struct {
	At            time.Time     // the catalog's clock
	LastHeartbeat time.Time     // latest of those fenced; zero when there were none
	Fenced        []BrokerEpoch // by it, in order
	Before, After Marks
}

// Marks are what was handed out last, or is handed out next.
type Marks struct {
	BrokerEpoch BrokerEpoch // last one
	LeaseEpoch  LeaseEpoch  // largest of all leases of live topics; -1 when none was ever held or there are none
	NextObject  ObjectID
	NextProducer,
	TopicsVersion, LeasesVersion int64
}

// CheckRestored is for implementations of Restored: it looks at unfenced brokers and judges whether they let the catalog
// be moved forward at the time now. attached are epochs that are attached. ErrBrokerAlive.
func CheckRestored(brokers []Broker, attached []BrokerEpoch, now time.Time) error {
	var alive []string
	for i := range brokers {
		b := &brokers[i]
		if left := b.TTL - now.Sub(b.LastHeartbeat); !b.Fenced && left > 0 {
			alive = append(alive, fmt.Sprintf("broker %d (epoch %d) renewed its session %s ago, which lasts for another %s",
				b.ID, b.Epoch, now.Sub(b.LastHeartbeat).Round(time.Millisecond), left.Round(time.Millisecond)))
		}
	}
	for _, epoch := range attached {
		alive = append(alive, fmt.Sprintf("the process of broker epoch %d is connected", epoch))
	}
	if len(alive) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrBrokerAlive, strings.Join(alive, "; "))
}

// CheckRestorable tells whether lease epochs can be moved forward once more. ErrInvalid.
func CheckRestorable(largest LeaseEpoch) error {
	if largest > math.MaxInt32/2 {
		return invalid("lease epoch %d cannot be moved forward by %d: nothing would be left", largest, RestoreEpochs)
	}
	return nil
}
