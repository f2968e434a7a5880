package coordinator

import (
	"container/heap"
	"time"
)

// timers are the groups of a shard that want a Tick, the next one first.
type timers []*entry //nolint:recvcheck // as container/heap has it

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }

func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

// Push implements heap.Interface.
func (t *timers) Push(x any) {
	e := x.(*entry)
	e.place = len(*t)
	*t = append(*t, e)
}

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	old := *t
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	e.place = -1
	return e
}

// set has the entry wait until due; zero: not at all.
func (t *timers) set(e *entry, due time.Time) {
	e.due = due
	switch {
	case due.IsZero() && e.place >= 0:
		heap.Remove(t, e.place)
	case due.IsZero():
	case e.place >= 0:
		heap.Fix(t, e.place)
	default:
		heap.Push(t, e)
	}
}
