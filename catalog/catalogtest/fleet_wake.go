package catalogtest

import (
	"context"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func testAnnounce(f *fleet) {
	c := f.open()
	atA, atB, atC := f.listen(f.a, nil), f.listen(f.b, nil), f.listen(c, nil)
	want := catalog.Announcement{From: 5, Last: 1 << 40, Leases: true, Topics: true, Leaving: true}
	f.ok(f.a.Announce(f.ctx(), want))
	for _, e := range []*ear{atB, atC} {
		f.until("the announcement", func() bool {
			got, n := e.of(5)
			return n == 1 && got == want
		})
	}
	// Each field alone, and nothing at all.
	for i, a := range []catalog.Announcement{{Last: 3}, {Leases: true}, {Topics: true}, {Leaving: true}} {
		a.From = catalog.BrokerEpoch(10 + i)
		f.ok(f.b.Announce(f.ctx(), a))
		for _, e := range []*ear{atA, atC} {
			f.until("the announcement", func() bool {
				got, n := e.of(a.From)
				return n == 1 && got == a
			})
		}
	}
	// Announcements come in order, so what a handle announced itself would have been heard by now.
	_, n := atA.of(5)
	require.Zero(f, n, "a handle does not hear itself")
	_, n = atB.of(10)
	require.Zero(f, n, "a handle does not hear itself")
}

// testAnnounceCoalesced: a listener that is busy does not hold up those who announce, and misses nothing.
func testAnnounceCoalesced(f *fleet) {
	release, entered := make(chan struct{}), make(chan struct{})
	var once sync.Once
	e := f.listen(f.b, func(catalog.Announcement) {
		once.Do(func() {
			close(entered)
			<-release
		})
	})
	f.ok(f.a.Announce(f.ctx(), catalog.Announcement{From: 1, Last: 1}))
	select {
	case <-entered:
	case <-time.After(eventually):
		f.t.Fatal("nothing was heard")
	}
	const last = 300
	for seq := catalog.Sequence(2); seq <= last; seq++ {
		f.ok(f.a.Announce(f.ctx(), catalog.Announcement{From: 1, Last: seq, Topics: seq == 7}))
		f.ok(f.a.Announce(f.ctx(), catalog.Announcement{From: 2, Leases: true, Last: seq / 2}))
	}
	close(release)
	f.until("all of it", func() bool {
		one, _ := e.of(1)
		two, _ := e.of(2)
		return one == catalog.Announcement{From: 1, Last: last, Topics: true} && two == catalog.Announcement{From: 2, Last: last / 2, Leases: true}
	})
	_, n := e.of(1)
	require.LessOrEqual(f, n, last)
}

func testListenEnds(f *fleet) {
	e := f.listen(f.b, nil)
	e.end()
	f.is(e.ended(), context.Canceled)
	f.ok(f.a.Announce(f.ctx(), catalog.Announcement{From: 1, Last: 1}), "nobody listens")

	again := f.listen(f.b, nil)
	f.ok(f.a.Announce(f.ctx(), catalog.Announcement{From: 2, Last: 2}))
	f.until("the second", func() bool {
		_, n := again.of(2)
		return n == 1
	})
	f.ok(f.b.Close())
	require.Error(f, again.ended(), "the handle was closed")
	f.ok(f.a.Announce(f.ctx(), catalog.Announcement{From: 1, Last: 1}))
	ended, cancel := context.WithCancel(f.ctx())
	cancel()
	require.Error(f, f.a.Listen(ended, func(catalog.Announcement) {}))
}

// testListenLoss: the loss of a listener's connection is told, and listening again works.
func testListenLoss(f *fleet) {
	e := f.listen(f.b, nil)
	f.shared.Drop(f.t, f.b)
	err := e.ended()
	require.Error(f, err)
	require.NotErrorIs(f, err, context.Canceled)
	var again *ear
	f.until("listening again", func() bool {
		ctx, end := context.WithTimeout(f.ctx(), eventually)
		defer end()
		if f.b.Ping(ctx) != nil {
			return false
		}
		again = f.listen(f.b, nil)
		return true
	})
	f.ok(f.a.Announce(f.ctx(), catalog.Announcement{From: 3, Last: 9}))
	f.until("the announcement", func() bool {
		got, _ := again.of(3)
		return got.Last == 9
	})
}

// attach attaches, trying again while the handle's connections are being made anew.
func (f *fleet) attach(h FleetCatalog, epoch catalog.BrokerEpoch) (detach func(), lost <-chan struct{}) {
	f.Helper()
	f.until("attached", func() bool {
		var err error
		detach, lost, err = h.Attach(f.ctx(), epoch)
		if err != nil {
			f.is(err, catalog.ErrUnavailable)
		}
		return err == nil
	})
	f.t.Cleanup(detach)
	return detach, lost
}

func (f *fleet) detached(h FleetCatalog, epochs ...catalog.BrokerEpoch) []catalog.BrokerEpoch {
	f.Helper()
	out, err := h.Detached(f.ctx(), epochs)
	f.ok(err)
	return out
}

func (f *fleet) closed(what string, ch <-chan struct{}) {
	f.Helper()
	select {
	case <-ch:
	case <-time.After(eventually):
		f.t.Fatalf("waited for: %s", what)
	}
}

func (f *fleet) notClosed(what string, ch <-chan struct{}) {
	f.Helper()
	select {
	case <-ch:
		f.t.Fatal(what)
	default:
	}
}

func testAttach(f *fleet) {
	a, b := f.register(), f.register()
	nobody := b + 100
	f.attach(f.a, a)
	require.ElementsMatch(f, []catalog.BrokerEpoch{b, nobody}, f.detached(f.a, a, b, nobody))
	detach, lost := f.attach(f.b, b)
	require.Empty(f, f.detached(f.a, a, b))
	require.Empty(f, f.detached(f.b, a, b))
	require.Empty(f, f.detached(f.a), "none asked for")
	f.notClosed("it stands", lost)

	detach()
	detach()
	f.until("detached", func() bool { return len(f.detached(f.a, a, b)) == 1 })
	require.Equal(f, []catalog.BrokerEpoch{b}, f.detached(f.a, a, b))
	_, lost = f.attach(f.b, b)
	require.Empty(f, f.detached(f.a, a, b), "attached again, the same epoch")

	// The end of a process: nobody says goodbye.
	f.ok(f.b.Close())
	f.closed("the attachment's loss", lost)
	f.until("detached", func() bool { return len(f.detached(f.a, a, b)) == 1 })
	c := f.open()
	f.attach(c, b)
	require.Empty(f, f.detached(f.a, a, b))

	f.fence(b)
	require.Empty(f, f.detached(f.a, a, b), "a fence is another matter")
}

// testAttachTwice: a process that lost sight of its attachment makes another one, and the first may end later.
func testAttachTwice(f *fleet) {
	a, b := f.register(), f.register()
	f.attach(f.a, a)
	first, _ := f.attach(f.b, b)
	second, lost := f.attach(f.b, b)
	c := f.open()
	f.attach(c, b)
	first()
	require.Empty(f, f.detached(f.a, b))
	f.notClosed("it was another's", lost)
	f.ok(c.Close())
	require.Empty(f, f.detached(f.a, b))
	second()
	f.until("detached", func() bool { return len(f.detached(f.a, b)) == 1 })
	f.attach(f.b, b)
	require.Empty(f, f.detached(f.a, b))
}

// testAttachmentLost: the holder of an attachment is told of its loss and can attach again with the same epoch.
func testAttachmentLost(f *fleet) {
	a, b := f.register(), f.register()
	_, stands := f.attach(f.a, a)
	_, lost := f.attach(f.b, b)
	f.shared.Drop(f.t, f.b)
	f.closed("the attachment's loss", lost)
	require.Equal(f, []catalog.BrokerEpoch{b}, f.detached(f.a, a, b))
	f.notClosed("nothing happened to it", stands)
	_, lost = f.attach(f.b, b)
	require.Empty(f, f.detached(f.a, a, b))
	f.notClosed("it stands", lost)
}

// testDetachedUnattached: who was not attached all the time cannot tell who came or went.
func testDetachedUnattached(f *fleet) {
	a, b := f.register(), f.register()
	_, lost := f.attach(f.b, b)
	_, err := f.a.Detached(f.ctx(), []catalog.BrokerEpoch{b})
	f.is(err, catalog.ErrUnavailable)
	detach, _ := f.attach(f.a, a)
	require.Empty(f, f.detached(f.a, b))
	detach()
	_, err = f.a.Detached(f.ctx(), []catalog.BrokerEpoch{b})
	f.is(err, catalog.ErrUnavailable)
	f.shared.Drop(f.t, f.b)
	f.closed("the attachment's loss", lost)
	_, err = f.b.Detached(f.ctx(), []catalog.BrokerEpoch{a, b})
	f.is(err, catalog.ErrUnavailable)
}

func testClosedFleet(f *fleet) {
	a, b := f.register(), f.register()
	f.ok(f.a.Close())
	_, err := f.a.MoveLeases(f.ctx(), a, b, nil)
	f.is(err, catalog.ErrClosed)
	f.is(f.a.AskMoves(f.ctx(), a, nil), catalog.ErrClosed)
	f.is(f.a.SetDraining(f.ctx(), 1, true), catalog.ErrClosed)
	_, err = f.a.ReadMerges(f.ctx(), a, 0, 1)
	f.is(err, catalog.ErrClosed)
	f.is(f.a.Announce(f.ctx(), catalog.Announcement{}), catalog.ErrClosed)
	f.is(f.a.Listen(f.ctx(), func(catalog.Announcement) {}), catalog.ErrClosed)
	_, _, err = f.a.Attach(f.ctx(), a)
	f.is(err, catalog.ErrClosed)
	_, err = f.a.Detached(f.ctx(), nil)
	f.is(err, catalog.ErrClosed)
	f.is(f.a.Unfenced(f.ctx(), a), catalog.ErrClosed)
	_, err = f.b.Heartbeat(f.ctx(), a)
	f.ok(err, "other handles go on")
}

// testUnfenced: what one handle fenced is known to another as soon as the fence returned, folded or not, attached or not.
func testUnfenced(f *fleet) {
	a, b, idle := f.register(), f.register(), f.register()
	f.held(a, 1)
	f.commit(a, 1, 1)
	for _, epoch := range []catalog.BrokerEpoch{a, b, idle} {
		f.ok(f.a.Unfenced(f.ctx(), epoch), "also without being attached")
		f.ok(f.b.Unfenced(f.ctx(), epoch), "anybody may ask")
	}
	f.attach(f.a, a)
	f.attach(f.b, b)
	f.ok(f.a.Unfenced(f.ctx(), a))
	f.ok(f.b.FenceBroker(f.ctx(), a, catalog.FenceProvenDead))
	f.is(f.a.Unfenced(f.ctx(), a), catalog.ErrFenced)
	f.ok(f.b.FenceBroker(f.ctx(), idle, catalog.FenceResigned))
	f.is(f.a.Unfenced(f.ctx(), idle), catalog.ErrFenced)
	f.is(f.a.Unfenced(f.ctx(), idle+100), catalog.ErrFenced)
	f.is(f.a.Unfenced(f.ctx(), 0), catalog.ErrFenced)
	f.ok(f.b.Unfenced(f.ctx(), b), "nothing happened to it")

	before, err := f.b.ListBrokers(f.ctx())
	f.ok(err)
	f.clock.Advance(time.Second)
	f.ok(f.b.Unfenced(f.ctx(), b))
	after, err := f.b.ListBrokers(f.ctx())
	f.ok(err)
	require.Equal(f, before, after, "it renews nothing")

	// Across a loss of all connections.
	f.shared.Drop(f.t, f.b)
	f.until("asked again", func() bool {
		err := f.b.Unfenced(f.ctx(), b)
		if err != nil {
			f.is(err, catalog.ErrUnavailable)
		}
		return err == nil
	})
	ended, cancel := context.WithCancel(f.ctx())
	cancel()
	require.Error(f, f.b.Unfenced(ended, b))
}
