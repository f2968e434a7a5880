package catalogtest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// FleetCatalog is a catalog that several brokers share.
type FleetCatalog interface {
	catalog.Catalog
	catalog.Fleet
}

// Shared is one catalog that several processes share, as [RunFleet] needs it.
type Shared struct {
	// Open returns a new handle on the catalog, as another process would have; the suite closes it, which is the end of
	// that process.
	Open func(t *testing.T) FleetCatalog
	// Drop breaks all connections of a handle from outside, as a server's restart does. The handle goes on with new ones.
	// It returns when the server knows of it.
	Drop func(t *testing.T, handle FleetCatalog)
}

// eventually bounds waits for what the server tells in its own time.
const eventually = 20 * time.Second

// RunFleet checks what a fleet needs of a catalog besides [Run]. open returns a new, empty catalog that reads the given
// clock.
func RunFleet(t *testing.T, open func(t *testing.T, now func() time.Time) Shared) {
	t.Helper()
	tests := []struct {
		name string
		run  func(*fleet)
	}{
		{"MoveLeases", testMoveLeases},
		{"MoveLeasesRefused", testMoveLeasesRefused},
		{"MoveLeasesLate", testMoveLeasesLate},
		{"MoveLeasesInEveryOrder", testMoveLeasesEveryOrder},
		{"MoveLeasesBothWays", testMoveLeasesBothWays},
		{"CommitAfterMove", testCommitAfterMove},
		{"AskMoves", testAskMoves},
		{"AskMovesIgnored", testAskMovesIgnored},
		{"RequestsEnd", testRequestsEnd},
		{"SetDraining", testSetDraining},
		{"LeasesVersion", testFleetVersions},
		{"HandlesAgree", testHandlesAgree},
		{"Merges", testFleetMerges},
		{"MembersOf", testMembersOf},
		{"Ends", testEnds},
		{"HeartbeatTails", testHeartbeatTails},
		{"Announce", testAnnounce},
		{"AnnounceCoalesced", testAnnounceCoalesced},
		{"ListenEnds", testListenEnds},
		{"ListenAgainAfterLoss", testListenLoss},
		{"Attach", testAttach},
		{"AttachTwice", testAttachTwice},
		{"AttachmentLost", testAttachmentLost},
		{"DetachedNeedsAnAttachment", testDetachedUnattached},
		{"Unfenced", testUnfenced},
		{"ClosedFleet", testClosedFleet},
		{"RestoredWhileAttached", testRestoredAttached},
		{"GroupsMoveInEveryOrder", testGroupsMoveEveryOrder},
		{"MoveAgainstGroups", testGroupsMoveRace},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fleet{suite: suite{TB: t, clock: NewClock()}, t: t}
			f.shared = open(t, f.clock.Now)
			f.a, f.b = f.open(), f.open()
			f.c = f.a
			tt.run(f)
		})
	}
}

// fleet is one test's catalog and two handles on it.
type fleet struct {
	suite

	t      *testing.T
	shared Shared
	a, b   FleetCatalog
}

// open opens another handle, closed at the end of the test; closing it before does no harm.
func (f *fleet) open() FleetCatalog {
	f.Helper()
	h := f.shared.Open(f.t)
	f.t.Cleanup(func() { require.NoError(f.t, h.Close()) })
	return h
}

// until waits for something the server tells in its own time, such as a connection that it has to find gone.
func (f *fleet) until(what string, is func() bool) {
	f.Helper()
	deadline := time.Now().Add(eventually)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		require.True(f, time.Now().Before(deadline), "waited for: %s", what)
		<-tick.C
	}
}

// held makes a topic whose leases epoch holds.
func (f *fleet) held(epoch catalog.BrokerEpoch, partitions int32) []catalog.TopicPartition {
	f.Helper()
	tps := f.topic(partitions)
	got, err := f.c.AcquireLeases(f.ctx(), epoch, tps)
	f.ok(err)
	require.Len(f, got, len(tps))
	return tps
}

func (f *fleet) version() int64 {
	f.Helper()
	set, err := f.c.LeaseSet(f.ctx(), 0)
	f.ok(err)
	return set.Version
}

// ear is a Listen under way.
type ear struct {
	f    *fleet
	end  context.CancelFunc
	done chan error

	mu    sync.Mutex
	zero  int
	heard []catalog.Announcement
}

// listen begins to listen and returns once heard of it. hold, if not nil, is called with each announcement.
func (f *fleet) listen(h FleetCatalog, hold func(catalog.Announcement)) *ear {
	f.Helper()
	ctx, end := context.WithCancel(f.ctx())
	e := &ear{f: f, end: end, done: make(chan error, 1)}
	f.t.Cleanup(end)
	go func() {
		e.done <- h.Listen(ctx, func(a catalog.Announcement) {
			e.mu.Lock()
			if a == (catalog.Announcement{}) {
				e.zero++
			} else {
				e.heard = append(e.heard, a)
			}
			e.mu.Unlock()
			if hold != nil && a != (catalog.Announcement{}) {
				hold(a)
			}
		})
	}()
	f.until("listening", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.zero == 1
	})
	return e
}

// of is what was heard of one broker epoch, merged.
func (e *ear) of(from catalog.BrokerEpoch) (all catalog.Announcement, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all.From = from
	for _, a := range e.heard {
		if a.From == from {
			all = all.Merge(a)
			n++
		}
	}
	return all, n
}

// ended waits for Listen's answer.
func (e *ear) ended() error {
	e.f.Helper()
	select {
	case err := <-e.done:
		return err
	case <-time.After(eventually):
		e.f.t.Fatal("Listen did not return")
		return errors.New("unreachable")
	}
}
