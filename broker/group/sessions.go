package group

import (
	"container/heap"
	"time"
)

// sessions are the clocks of a group's members: who is not heard of until its deadline is thrown out. To hear of a member costs
// nothing but noting the new deadline: the heap is put in order only when the old one is due.
type sessions struct{ heap sessionHeap }

// session is one member's clock.
type session struct {
	id       string        // of the member
	span     time.Duration // that it was last given
	deadline time.Time
	sorted   time.Time // what the heap goes by: never later than deadline
	index    int       // in the heap; -1: the clock does not run
}

// newSession makes a clock that does not run yet.
func newSession(id string) *session { return &session{id: id, index: -1} }

// extend gives a session a span from now on; it starts the clock of one that did not run.
func (ss *sessions) extend(s *session, now time.Time, span time.Duration) {
	s.span, s.deadline = span, now.Add(span)
	switch {
	case s.index < 0:
		s.sorted = s.deadline
		heap.Push(&ss.heap, s)
	case s.deadline.Before(s.sorted):
		s.sorted = s.deadline
		heap.Fix(&ss.heap, s.index)
	}
}

// stop ends a session's clock.
func (ss *sessions) stop(s *session) {
	if s.index >= 0 {
		heap.Remove(&ss.heap, s.index)
	}
}

// runs says whether a session's clock runs.
func (s *session) runs() bool { return s.index >= 0 }

// next is a time before which no session is over; zero: never.
func (ss *sessions) next() time.Time {
	if len(ss.heap) == 0 {
		return time.Time{}
	}
	return ss.heap[0].sorted
}

// over stops and returns a session whose deadline has come; nil if there is none.
func (ss *sessions) over(now time.Time) *session {
	for len(ss.heap) > 0 && !now.Before(ss.heap[0].sorted) {
		s := ss.heap[0]
		if !now.Before(s.deadline) {
			ss.stop(s)
			return s
		}
		s.sorted = s.deadline
		heap.Fix(&ss.heap, 0)
	}
	return nil
}

// restart gives all sessions that run their full span from now on.
func (ss *sessions) restart(now time.Time) {
	for _, s := range ss.heap {
		s.deadline = now.Add(s.span)
		s.sorted = s.deadline
	}
	heap.Init(&ss.heap)
}

// sessionHeap is a heap.Interface, by time and then by member.
type sessionHeap []*session //nolint:recvcheck // Push and Pop change the slice, as container/heap wants it

func (h sessionHeap) Len() int { return len(h) }

func (h sessionHeap) Less(i, j int) bool {
	if h[i].sorted.Equal(h[j].sorted) {
		return h[i].id < h[j].id
	}
	return h[i].sorted.Before(h[j].sorted)
}

func (h sessionHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is heap.Interface's.
func (h *sessionHeap) Push(x any) {
	s := x.(*session)
	s.index = len(*h)
	*h = append(*h, s)
}

// Pop is heap.Interface's.
func (h *sessionHeap) Pop() any {
	n := len(*h) - 1
	s := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	s.index = -1
	return s
}
