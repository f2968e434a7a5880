package metrics

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxLabelValues bounds the distinct values of a label whose values come from a fixed vocabulary (Kafka's error names,
// statuses). Reaching it is a fault of the caller; what is above is counted as "OTHER" rather than lost.
const maxLabelValues = 256

// counterSet is a counter per value of one label, found without a lock or an allocation.
type counterSet struct {
	make    func(value string) prometheus.Counter
	current atomic.Pointer[map[string]prometheus.Counter]
	mu      sync.Mutex // serializes growth
}

func newCounterSet(mk func(value string) prometheus.Counter) *counterSet {
	s := &counterSet{make: mk}
	s.current.Store(&map[string]prometheus.Counter{})
	return s
}

func (s *counterSet) get(value string) prometheus.Counter {
	if c, ok := (*s.current.Load())[value]; ok {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.current.Load()
	if c, ok := old[value]; ok {
		return c
	}
	if len(old) >= maxLabelValues && value != "OTHER" {
		value = "OTHER"
		if c, ok := old[value]; ok {
			return c
		}
	}
	c := s.make(value)
	grown := maps.Clone(old)
	grown[value] = c
	s.current.Store(&grown)
	return c
}
