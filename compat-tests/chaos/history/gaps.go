package history

import (
	"slices"
	"time"
)

// watch is a time in which gaps are measured.
type watch struct{ from time.Time }

// Gaps are the longest times without an acknowledged write, by partition.
type Gaps []time.Duration

// Watch measures gaps from now on. There is one watch at a time.
func (h *History) Watch(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.watch = &watch{from: now}
	for _, p := range h.mu.partitions {
		p.gap, p.lastAck = 0, now
	}
}

// Gaps are those since Watch, up to now.
func (h *History) Gaps(now time.Time) Gaps {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(Gaps, 0, len(h.mu.partitions))
	for _, p := range h.mu.partitions {
		out = append(out, max(p.gap, now.Sub(p.lastAck)))
	}
	return out
}

// Quiet says which partitions acknowledged nothing that was told after t.
func (h *History) Quiet(t time.Time) (quiet []int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, p := range h.mu.partitions {
		if !p.lastAck.After(t) {
			quiet = append(quiet, int32(i))
		}
	}
	return quiet
}

func (h *History) ackedAtLocked(p *partition, at time.Time) {
	if h.mu.watch != nil && at.After(p.lastAck) {
		p.gap = max(p.gap, at.Sub(p.lastAck))
	}
	if at.After(p.lastAck) {
		p.lastAck = at
	}
}

// Max is the longest gap of any partition.
func (g Gaps) Max() time.Duration {
	if len(g) == 0 {
		return 0
	}
	return slices.Max(g)
}

// Median is the gap of the partition in the middle.
func (g Gaps) Median() time.Duration {
	if len(g) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(g))
	return s[len(s)/2]
}
