package catalogtest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// testEveryOrder runs commit, fence, release and acquire of one epoch in each order one after the other, and started
// in each order without waiting for each other. Each call is either refused or visible, and nothing of the epoch is
// applied once the fence has returned.
func testEveryOrder(s *suite) {
	names := []string{"commit", "fence", "release", "acquire"}
	for _, order := range permutations(len(names)) {
		for _, together := range []bool{false, true} {
			what := fmt.Sprintf("%v of %v, together: %t", order, names, together)
			tps := s.topic(2)
			epoch, next := s.register(), s.register()
			_, err := s.c.AcquireLeases(s.ctx(), epoch, tps[:1])
			s.ok(err)
			entry := s.entry(epoch, 1)
			errs := make([]error, len(names))
			var lastAtFence catalog.Sequence
			calls := []func() error{
				func() error {
					_, err := s.c.Commit(s.ctx(), epoch, []catalog.TailEntry{entry})
					return err
				},
				func() error {
					if err := s.c.FenceBroker(s.ctx(), epoch, catalog.FenceProvenDead); err != nil {
						return err
					}
					rows, err := s.c.ReadTail(s.ctx(), epoch, 0, 10)
					lastAtFence = catalog.Sequence(len(rows))
					return err
				},
				func() error { return s.c.ReleaseLeases(s.ctx(), epoch, tps[:1]) },
				func() error {
					_, err := s.c.AcquireLeases(s.ctx(), epoch, tps[1:])
					return err
				},
			}
			var wg sync.WaitGroup
			fenced := false
			for _, i := range order {
				if together {
					wg.Go(func() { errs[i] = calls[i]() })
					continue
				}
				errs[i] = calls[i]()
				if fenced {
					s.is(errs[i], catalog.ErrFenced, what)
				} else {
					s.ok(errs[i], what)
				}
				fenced = fenced || names[i] == "fence"
			}
			wg.Wait()
			s.ok(errs[1], what)
			for i, err := range errs {
				if err != nil {
					s.is(err, catalog.ErrFenced, "%s: %s", what, names[i])
				}
			}
			rows := s.tail(epoch)
			require.Equal(s, errs[0] == nil, len(rows) == 1, what)
			require.Len(s, rows, int(lastAtFence), what)
			for tp, l := range s.leases() {
				require.NotEqual(s, epoch, l.Holder, "%s: %s", what, tp)
			}
			taken, err := s.c.AcquireLeases(s.ctx(), next, tps)
			s.ok(err)
			require.Len(s, taken, 2, what)
			s.fence(next)
		}
	}
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for _, p := range permutations(n - 1) {
		for at := range n {
			q := append([]int(nil), p[:at]...)
			out = append(out, append(append(q, n-1), p[at:]...))
		}
	}
	return out
}

// testFenceRace fences an epoch in the midst of its writes of all kinds. What the fence's caller then reads must be
// all there ever is.
func testFenceRace(s *suite) {
	for round := range 5 {
		tps := s.topic(2)
		epoch, judge := s.register(), s.register()
		s.seed(epoch, tps[0])
		var wg sync.WaitGroup
		var acknowledged catalog.Sequence = 1
		started := make(chan struct{})
		failures := make(chan error, 4)
		until := func(call func() error) {
			wg.Go(func() {
				for {
					if err := call(); err != nil {
						if !errors.Is(err, catalog.ErrFenced) {
							failures <- err
						}
						return
					}
				}
			})
		}
		until(func() error {
			e := entryOf(epoch, acknowledged+1, catalog.ObjectID(1_000_000*(round+1))+catalog.ObjectID(acknowledged))
			if _, err := s.c.Commit(s.ctx(), epoch, []catalog.TailEntry{e}); err != nil {
				return err
			}
			acknowledged++
			if acknowledged == 10 {
				close(started)
			}
			return nil
		})
		until(func() error {
			if _, err := s.c.AcquireLeases(s.ctx(), epoch, tps); err != nil {
				return err
			}
			return s.c.ReleaseLeases(s.ctx(), epoch, tps[:1])
		})
		offset := int64(0)
		until(func() error {
			offset++
			_, err := s.c.SetLogStart(s.ctx(), epoch, tps[1], offset)
			return err
		})
		until(func() error {
			_, err := s.c.Heartbeat(s.ctx(), epoch)
			return err
		})
		select {
		case <-started:
		case err := <-failures:
			s.ok(err)
		}
		s.fence(epoch)
		tail, leases, start := s.tail(epoch), s.leases(), s.load(tps[1]).LogStart
		last := s.brokerTail(epoch).Last
		wg.Wait()
		close(failures)
		s.ok(<-failures)
		require.Equal(s, acknowledged, last, "what was acknowledged is visible, and nothing else")
		require.Equal(s, tail, s.tail(epoch))
		require.Len(s, tail, int(acknowledged)-1)
		require.Equal(s, leases, s.leases())
		require.Equal(s, start, s.load(tps[1]).LogStart)
		for _, l := range leases {
			require.NotEqual(s, epoch, l.Holder)
		}
		s.ok(s.c.Fold(s.ctx(), judge, foldOf(tail, 1)))
		s.fence(judge)
	}
}

// testConcurrentCommits: commits of several epochs and a defective second committer of one do not disturb each
// other, and leave no holes.
func testConcurrentCommits(s *suite) {
	const each = 40
	var wg sync.WaitGroup
	failures := make(chan error, 1024)
	epochs := []catalog.BrokerEpoch{s.register(), s.register(), s.register()}
	for n, epoch := range epochs {
		for twin := range 2 { // both try every sequence; one of them wins it
			wg.Go(func() {
				for seq := catalog.Sequence(1); seq <= each; {
					id := catalog.ObjectID(n*10_000 + twin*1_000 + int(seq))
					_, err := s.c.Commit(s.ctx(), epoch, []catalog.TailEntry{entryOf(epoch, seq, id)})
					switch {
					case err == nil:
						seq++
					case errors.Is(err, catalog.ErrSequence):
						bt, err := s.c.BrokerTails(s.ctx())
						if err != nil {
							failures <- err
							return
						}
						seq = bt[n].Last + 1
					default:
						failures <- err
						return
					}
				}
			})
		}
	}
	wg.Wait()
	close(failures)
	s.ok(<-failures)
	for _, epoch := range epochs {
		rows := s.tail(epoch)
		require.Len(s, rows, each)
		for i, r := range rows {
			require.EqualValues(s, i+1, r.First)
			if i > 0 {
				require.False(s, r.CommittedAt.Before(rows[i-1].CommittedAt))
			}
		}
	}
}

// testConcurrentLeases: a lease has one holder, and its epoch grows with each.
func testConcurrentLeases(s *suite) {
	tps := s.topic(3)
	var mu sync.Mutex
	holders := make(map[catalog.Lease]catalog.BrokerEpoch) // by lease without holder
	failures := make(chan error, 1024)
	var wg sync.WaitGroup
	for range 4 {
		epoch := s.register()
		wg.Go(func() {
			for range 25 {
				got, err := s.c.AcquireLeases(s.ctx(), epoch, tps)
				if err != nil {
					failures <- err
					return
				}
				mu.Lock()
				for _, l := range got {
					key := catalog.Lease{TopicPartition: l.TopicPartition, Epoch: l.Epoch}
					if by, ok := holders[key]; ok && by != epoch {
						failures <- fmt.Errorf("%s epoch %d is held by %d and %d", l.TopicPartition, l.Epoch, by, epoch)
					}
					holders[key] = epoch
				}
				mu.Unlock()
				if err := s.c.ReleaseLeases(s.ctx(), epoch, tps); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failures)
	s.ok(<-failures)
}
