package chaos_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

// scraper watches which broker exports the lag of which group.
type scraper struct {
	stack *stack.Stack
	http  http.Client
	end   context.CancelFunc
	going sync.WaitGroup

	mu   sync.Mutex
	seen map[string][]sight       // by group, as they ended
	none map[string]time.Duration // longest without any, by group
	last map[string]time.Time     // when any exported it last
}

// sight is one scrape of a broker that showed a group.
type sight struct {
	broker   int32
	from, to time.Time
}

func newScraper(s *stack.Stack) *scraper {
	return &scraper{
		stack: s, http: http.Client{Timeout: 10 * time.Second}, end: func() {},
		seen: map[string][]sight{}, none: map[string]time.Duration{}, last: map[string]time.Time{},
	}
}

var lagSeries = regexp.MustCompile(`(?m)^streamhouse_consumer_lag_records\{group_id="([^"]*)"`)

// scrape is which groups a broker exports the lag of.
func (s *scraper) scrape(ctx context.Context, b *stack.Broker) (map[string]bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.HTTP+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scrape: status %d, %w", resp.StatusCode, err)
	}
	groups := map[string]bool{}
	for _, m := range lagSeries.FindAllSubmatch(body, -1) {
		groups[string(m[1])] = true
	}
	return groups, nil
}

// exporters are the brokers that export the lag of each group.
func (s *scraper) exporters(ctx context.Context) map[string][]int32 {
	out := map[string][]int32{}
	for _, b := range s.stack.Brokers {
		groups, err := s.scrape(ctx, b)
		if err != nil {
			continue // it does not run
		}
		for g := range groups {
			out[g] = append(out[g], b.ID)
		}
	}
	return out
}

// exportedOnce says an error unless each group is exported by one broker soon: brokers on two busy processors take their time.
func (s *scraper) exportedOnce(ctx context.Context, c *cast) error {
	var now map[string][]int32
	wrong := ""
	err := until(ctx, 20*time.Second, "the lag of each group is exported by one broker", func() bool {
		now = s.exporters(ctx)
		i := slices.IndexFunc(c.groups, func(g *troupe) bool { return len(now[g.history.Group]) != 1 })
		if i >= 0 {
			wrong = fmt.Sprintf("%s by %v", c.groups[i].history.Group, now[c.groups[i].history.Group])
		}
		return i < 0
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, wrong)
	}
	return nil
}

// start scrapes every broker again and again until stop. It returns after the first time.
func (s *scraper) start(ctx context.Context, c *cast) error {
	ctx, s.end = context.WithCancel(ctx)
	begin := time.Now()
	for _, g := range c.groups {
		s.last[g.history.Group] = begin
	}
	for _, b := range slices.Clone(s.stack.Brokers) {
		groups, err := s.scrape(ctx, b)
		if err != nil {
			return err
		}
		s.saw(b.ID, groups, begin, time.Now())
		s.going.Go(func() {
			for ctx.Err() == nil {
				from := time.Now()
				if groups, err := s.scrape(ctx, b); err == nil {
					s.saw(b.ID, groups, from, time.Now())
				}
				pause(ctx, 50*time.Millisecond)
			}
		})
	}
	return nil
}

// stop ends that; it may be called again.
func (s *scraper) stop() {
	s.end()
	s.going.Wait()
}

func (s *scraper) saw(broker int32, groups map[string]bool, from, to time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for g := range groups {
		s.seen[g] = append(s.seen[g], sight{broker, from, to})
		if last, ok := s.last[g]; ok {
			s.none[g] = max(s.none[g], to.Sub(last))
			s.last[g] = to
		}
	}
}

// judge stops the scrapes. Each group must be exported once now, and when it moved, the old coordinator's series must have been
// gone within a second of the new one's first.
func (s *scraper) judge(r *groupRound) error {
	pause(r.ctx, 200*time.Millisecond)
	s.stop()
	if err := s.exportedOnce(r.ctx, r.cast); err != nil {
		return fmt.Errorf("after the fault: %w", err)
	}
	var overlap, none time.Duration
	moved := 0
	for _, g := range r.cast.groups {
		sights := s.seen[g.history.Group]
		if slices.ContainsFunc(sights, func(a sight) bool { return a.broker != sights[0].broker }) {
			moved++
		}
		overlap = max(overlap, both(sights))
		none = max(none, s.none[g.history.Group])
	}
	r.note("lag of %d groups exported by another broker, by both for %s, by none for %s", moved, overlap.Round(time.Millisecond), none.Round(time.Millisecond))
	if overlap > time.Second {
		return fmt.Errorf("two brokers exported the lag of one group for %s", overlap)
	}
	return nil
}

// both is for how long two brokers took turns to export one group. One that had it, lost it and got it back took no turn with
// the other, who did not show it before the first and after it.
func both(sights []sight) (longest time.Duration) {
	brokers := map[int32]bool{}
	for _, a := range sights {
		brokers[a.broker] = true
	}
	for a := range brokers {
		for b := range brokers {
			if a >= b {
				continue
			}
			from, to := within(sights, a, b), within(sights, b, a)
			if len(from) > 0 && len(to) > 0 {
				longest = max(longest, slices.MaxFunc(append(from, to...), later).Sub(slices.MinFunc(append(from, to...), later)))
			}
		}
	}
	return longest
}

func later(a, b time.Time) int { return a.Compare(b) }

// within are the scrapes of one broker that began after one of another had ended, and ended before one of that began.
func within(sights []sight, one, other int32) (at []time.Time) {
	var first, last time.Time
	for _, a := range sights {
		if a.broker == other {
			if first.IsZero() || a.to.Before(first) {
				first = a.to
			}
			if a.from.After(last) {
				last = a.from
			}
		}
	}
	for _, a := range sights {
		if a.broker == one && !first.IsZero() && a.from.After(first) && a.to.Before(last) {
			at = append(at, a.from)
		}
	}
	return at
}
