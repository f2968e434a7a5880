package history_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/history"
)

// good is a history without fault: two producers, one partition, two readers,
// all records but the last read twice, one of them failed and absent.
func good(h *history.History) (ends map[int32]int64) {
	for range 3 {
		h.Send(0, 0)
		h.Send(1, 0)
	}
	now := time.Now()
	h.Acked(0, 0, 0, 0, now)
	h.Acked(1, 0, 0, 1, now)
	h.Read("a", 0, 0, rec(0, 0))
	h.HighWatermark("a", 0, 1)
	h.Acked(0, 0, 1, 2, now)
	h.Failed(1, 0, 1)
	for i, r := range []history.Record{rec(0, 0), rec(1, 0), rec(0, 1), rec(1, 2), rec(0, 2)} {
		h.Read("b", 0, int64(i), r)
	}
	h.Acked(1, 0, 2, 3, now)
	h.Acked(0, 0, 2, 4, now)
	h.Read("a", 0, 1, rec(1, 0))
	h.HighWatermark("a", 0, 5)
	return map[int32]int64{0: 5}
}

func rec(producer, number int32) history.Record {
	return history.Record{Producer: producer, Number: number, Sum: uint64(producer)<<32 | uint64(number)}
}

func TestGoodHistory(t *testing.T) {
	h := history.New(1)
	h.Close("b", good(h))
	require.Empty(t, h.Violations())
	require.EqualValues(t, 5, h.Acks())
}

// TestBrokenHistories breaks a good history in each way that the checker is
// there for: one that passed would make every fault test worthless.
func TestBrokenHistories(t *testing.T) {
	for _, c := range []struct {
		name, want string
		do         func(h *history.History, ends map[int32]int64)
	}{
		{"acknowledged and lost", "was acknowledged at 5 and is lost", func(h *history.History, _ map[int32]int64) {
			h.Acked(0, 0, h.Send(0, 0), 5, time.Now())
		}},
		{"acknowledged elsewhere, then read", "but was acknowledged at 7", func(h *history.History, ends map[int32]int64) {
			h.Acked(0, 0, h.Send(0, 0), 7, time.Now())
			h.Read("b", 0, 5, rec(0, 3))
			ends[0] = 6
		}},
		{"read, then acknowledged elsewhere", "acknowledged at offset 2, where record 1 of producer 0 was read", func(h *history.History, ends map[int32]int64) {
			n := h.Send(0, 0)
			h.Read("b", 0, 5, rec(0, 3))
			h.Acked(0, 0, n, 2, time.Now())
			ends[0] = 6
		}},
		{"twice in the log", "record 2 of producer 0 is at offset 5, after record 2", func(h *history.History, ends map[int32]int64) {
			h.Read("b", 0, 5, rec(0, 2))
			ends[0] = 6
		}},
		{"acknowledged twice", "was acknowledged at 6 after 4", func(h *history.History, _ map[int32]int64) {
			h.Acked(0, 0, 2, 6, time.Now())
		}},
		{"out of order", "without record 3 before it", func(h *history.History, ends map[int32]int64) {
			h.Send(0, 0)
			h.Acked(0, 0, h.Send(0, 0), 5, time.Now())
			h.Read("b", 0, 5, rec(0, 4))
			ends[0] = 6
		}},
		{"a hole in what one reads", "c got offset 2 where 1 is next", func(h *history.History, _ map[int32]int64) {
			h.Read("c", 0, 0, rec(0, 0))
			h.Read("c", 0, 2, rec(0, 1))
		}},
		{"two records at one offset", "another got", func(h *history.History, _ map[int32]int64) {
			h.Read("c", 0, 0, rec(1, 0))
		}},
		{"other bytes at one offset", "another got", func(h *history.History, _ map[int32]int64) {
			r := rec(0, 0)
			r.Sum++
			h.Read("c", 0, 0, r)
		}},
		{"high watermark back", "went back from 5 to 4 for a", func(h *history.History, _ map[int32]int64) {
			h.HighWatermark("a", 0, 4)
		}},
		{"lost after it was read", "b read up to 5, and the log ends at 4", func(_ *history.History, ends map[int32]int64) {
			ends[0] = 4
		}},
		{"shown and lost", "saw a high watermark of 9, and the log ends at 5", func(h *history.History, _ map[int32]int64) {
			h.HighWatermark("a", 0, 9)
		}},
		{"never sent", "was never sent", func(h *history.History, ends map[int32]int64) {
			h.Read("b", 0, 5, rec(0, 77))
			ends[0] = 6
		}},
		{"not all was read", "b read up to 5 of 6", func(_ *history.History, ends map[int32]int64) { ends[0] = 6 }},
		{"no answer to the end", "fate of record 3 of producer 1 is unknown", func(h *history.History, _ map[int32]int64) {
			h.Send(1, 0)
		}},
		{"a partition is gone", "has no end", func(_ *history.History, ends map[int32]int64) { delete(ends, 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := history.New(1)
			ends := good(h)
			c.do(h, ends)
			h.Close("b", ends)
			require.Contains(t, joined(h.Violations()), c.want)
		})
	}
}

func joined(lines []string) (s string) {
	for _, l := range lines {
		s += l + "\n"
	}
	return s
}

func TestGaps(t *testing.T) {
	h := history.New(2)
	at := time.Now()
	for range 4 {
		h.Send(0, 0)
		h.Send(0, 1)
	}
	h.Acked(0, 0, 0, 0, at)
	h.Watch(at.Add(time.Second)) // what was before counts for nothing
	h.Acked(0, 0, 1, 1, at.Add(1500*time.Millisecond))
	h.Acked(0, 0, 2, 2, at.Add(1700*time.Millisecond))
	require.Equal(t, history.Gaps{500 * time.Millisecond, 800 * time.Millisecond}, h.Gaps(at.Add(1800*time.Millisecond)))
	h.Acked(0, 1, 0, 0, at.Add(2*time.Second))
	got := h.Gaps(at.Add(2500 * time.Millisecond))
	require.Equal(t, history.Gaps{800 * time.Millisecond, time.Second}, got)
	require.Equal(t, time.Second, got.Max())
	require.Equal(t, []int32{0}, h.Quiet(at.Add(1700*time.Millisecond)))
}
