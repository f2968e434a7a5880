package storage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// bigBatch is a batch of about size bytes of 1 KiB records.
func (w *world) bigBatch(size int) ([]byte, recordbatch.Header) {
	records := make([]recordbatch.Record, size/1024)
	for i := range records {
		records[i] = recordbatch.Record{OffsetDelta: int32(i), Value: make([]byte, 1000)}
	}
	b, err := recordbatch.Build(recordbatch.Spec{FirstTimestamp: 1000}, records)
	require.NoError(w.t, err)
	h, err := recordbatch.ParseHeader(b)
	require.NoError(w.t, err)
	return b, h
}

// rig drives appends and reads of one partition as the broker does.
type rig struct {
	w     *world
	e     *Engine
	batch []byte
	h     recordbatch.Header
	ring  []Pending
}

func newRig(tb testing.TB, size int) *rig {
	tb.Helper()
	w := newWorld(tb, 1)
	r := &rig{w: w}
	r.e = w.open(func(c *Config) {
		c.Pool = slab.NewPool(64 << 20)
		c.TailCacheBytes = 32 << 20
		c.FlushInterval = time.Millisecond
	})
	r.batch, r.h = w.bigBatch(size)
	return r
}

// append sends one batch, with at most 32 under way.
func (r *rig) append(tb testing.TB) {
	tb.Helper()
	frame := r.e.cfg.Pool.Get(len(r.batch))
	copy(frame.Bytes(), r.batch)
	p, err := r.e.Append(tb.Context(), r.w.logs[0].tp, frame.Bytes(), r.h, frame)
	frame.Release()
	if err != nil {
		tb.Fatal(err)
	}
	r.ring = append(r.ring, p)
	if len(r.ring) == 32 {
		<-r.ring[0].Done()
		copy(r.ring, r.ring[1:])
		r.ring = r.ring[:31]
	}
}

func (r *rig) drain() {
	for _, p := range r.ring {
		<-p.Done()
	}
	r.ring = r.ring[:0]
}

// BenchmarkAppend measures the engine alone: catalog and store are in memory.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{16 << 10, 512 << 10} {
		b.Run(byteCount(size), func(b *testing.B) {
			r := newRig(b, size)
			b.SetBytes(int64(len(r.batch)))
			b.ReportAllocs()
			for b.Loop() {
				r.append(b)
			}
			r.drain()
		})
	}
}

// BenchmarkReadTail measures reads from the tail cache.
func BenchmarkReadTail(b *testing.B) {
	r := newRig(b, 64<<10)
	for range 64 {
		r.append(b)
	}
	r.drain()
	var out Read
	b.ReportAllocs()
	for b.Loop() {
		if err := r.e.Read(b.Context(), ReadRequest{TP: r.w.logs[0].tp, Offset: 0, MaxBytes: 1 << 20, MinOne: true}, &out); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(out.Bytes))
		out.Release()
	}
}

func byteCount(n int) string {
	if n >= 1<<20 {
		return "1MiB"
	}
	return map[int]string{16 << 10: "16KiB", 512 << 10: "512KiB"}[n]
}

// TestAllocations asserts what the hot paths allocate per batch, flushes and commits included: a regression here is a
// regression of the whole broker.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("counts differ under the race detector: asserted by the run without it")
		return
	}
	const batches = 2000
	r := newRig(t, 16<<10)
	for range 200 {
		r.append(t)
	}
	perAppend := testing.AllocsPerRun(1, func() {
		for range batches {
			r.append(t)
		}
		r.drain()
	}) / batches
	t.Logf("%.2f allocations per appended batch", perAppend)
	require.Less(t, perAppend, 5.0)

	var out Read
	req := ReadRequest{TP: r.w.logs[0].tp, MaxBytes: 1 << 20, MinOne: true}
	off, err := r.e.Offsets(t.Context(), req.TP)
	require.NoError(t, err)
	req.Offset = off.HighWatermark - 64*int64(r.h.NumRecords)
	n := 0
	perRead := testing.AllocsPerRun(100, func() {
		require.NoError(t, r.e.Read(t.Context(), req, &out))
		n = len(out.Records)
		out.Release()
	}) / float64(max(n, 1))
	t.Logf("%.3f allocations per batch read from the tail, %d batches a read", perRead, n)
	require.Less(t, perRead, 0.1)
}
