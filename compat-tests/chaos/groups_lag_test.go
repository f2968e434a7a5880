package chaos_test

import (
	"context"
	"fmt"
	"io"
	"maps"
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
	seen map[string]map[int32]*span // by group, broker
	none map[string]time.Duration   // longest without any, by group
	last map[string]time.Time       // when any exported it last
}

// span is when a broker exported something: from the end of the first scrape that showed it to the begin of the last.
type span struct{ first, last time.Time }

func newScraper(s *stack.Stack) *scraper {
	return &scraper{
		stack: s, http: http.Client{Timeout: 2 * time.Second}, end: func() {},
		seen: map[string]map[int32]*span{}, none: map[string]time.Duration{}, last: map[string]time.Time{},
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

// exportedOnce says an error unless each group is exported by one broker within a moment.
func (s *scraper) exportedOnce(ctx context.Context, c *cast) error {
	var now map[string][]int32
	wrong := ""
	err := until(ctx, 5*time.Second, "the lag of each group is exported by one broker", func() bool {
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
		if s.seen[g] == nil {
			s.seen[g] = map[int32]*span{}
		}
		at := s.seen[g][broker]
		if at == nil {
			at = &span{first: to}
			s.seen[g][broker] = at
		}
		at.last = from
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
		spans := s.seen[g.history.Group]
		ids := slices.SortedFunc(maps.Keys(spans), func(a, b int32) int { return spans[a].first.Compare(spans[b].first) })
		if len(ids) > 1 {
			moved++
		}
		for i, id := range ids[:max(len(ids)-1, 0)] {
			overlap = max(overlap, spans[id].last.Sub(spans[ids[i+1]].first))
		}
		none = max(none, s.none[g.history.Group])
	}
	r.note("lag of %d groups exported by another broker, by both for %s, by none for %s", moved, max(overlap, 0).Round(time.Millisecond), none.Round(time.Millisecond))
	if overlap > time.Second {
		return fmt.Errorf("two brokers exported the lag of one group for %s", overlap)
	}
	return nil
}
