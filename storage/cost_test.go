package storage

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/slab"
)

var update = flag.Bool("update", false, "write golden files anew")

// costs counts what an operation asks of store and catalog.
type costs struct {
	puts, gets                           atomic.Int64
	commits, commitRows, folds, foldRows atomic.Int64
	partitionRows, mergeTails, edits     atomic.Int64
	loads, packedRows, packedSpans       atomic.Int64
}

func (c *costs) String() string {
	var b strings.Builder
	for _, f := range []struct {
		name string
		n    *atomic.Int64
	}{
		{"put", &c.puts},
		{"get", &c.gets},
		{"commit", &c.commits},
		{"tail row", &c.commitRows},
		{"merge tail", &c.mergeTails},
		{"fold", &c.folds},
		{"packed row", &c.foldRows},
		{"partition row", &c.partitionRows},
		{"edit", &c.edits},
		{"load partitions", &c.loads},
		{"read packed rows", &c.packedRows},
		{"read packed rows of many", &c.packedSpans},
	} {
		if n := f.n.Swap(0); n > 0 {
			fmt.Fprintf(&b, "  %s: %d\n", f.name, n)
		}
	}
	return b.String()
}

type countingStore struct {
	objstore.Store
	c *costs
}

func (s countingStore) Put(ctx context.Context, key string, body objstore.Body) error {
	s.c.puts.Add(1)
	return s.Store.Put(ctx, key, body)
}

func (s countingStore) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	s.c.gets.Add(1)
	return s.Store.GetRange(ctx, key, off, p)
}

type countingCatalog struct {
	catalog.Catalog
	c *costs
}

func (s countingCatalog) Commit(ctx context.Context, epoch catalog.BrokerEpoch, rows []catalog.TailEntry) (time.Time, error) {
	s.c.commits.Add(1)
	s.c.commitRows.Add(int64(len(rows)))
	return s.Catalog.Commit(ctx, epoch, rows)
}

func (s countingCatalog) MergeTail(ctx context.Context, epoch catalog.BrokerEpoch, m catalog.TailMerge) error {
	s.c.mergeTails.Add(1)
	return s.Catalog.MergeTail(ctx, epoch, m)
}

func (s countingCatalog) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	s.c.folds.Add(1)
	s.c.foldRows.Add(int64(len(f.Rows)))
	s.c.partitionRows.Add(int64(len(f.Partitions)))
	return s.Catalog.Fold(ctx, epoch, f)
}

func (s countingCatalog) LoadPartitions(ctx context.Context, tps []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	s.c.loads.Add(1)
	return s.Catalog.LoadPartitions(ctx, tps)
}

func (s countingCatalog) SettledPartitions(ctx context.Context, tps []catalog.TopicPartition) ([]catalog.PartitionState, error) {
	s.c.loads.Add(1)
	return s.Catalog.SettledPartitions(ctx, tps)
}

func (s countingCatalog) PackedRows(ctx context.Context, tp catalog.TopicPartition, from int64, limit int) ([]catalog.PackedRow, error) {
	s.c.packedRows.Add(1)
	return s.Catalog.PackedRows(ctx, tp, from, limit)
}

func (s countingCatalog) PackedSpans(ctx context.Context, spans []catalog.Span, limit int) ([]catalog.PackedRow, error) {
	s.c.packedSpans.Add(1)
	return s.Catalog.PackedSpans(ctx, spans, limit)
}

func (s countingCatalog) Edit(ctx context.Context, epoch catalog.BrokerEpoch, e catalog.Edit) error {
	s.c.edits.Add(1)
	return s.Catalog.Edit(ctx, epoch, e)
}

// TestCostOfPartitions is a golden transcript: what 64 flushes of the same bytes, spread over more and more
// partitions, ask of store and catalog. A new round trip or row is a red diff.
func TestCostOfPartitions(t *testing.T) {
	ctx := t.Context()
	var out strings.Builder
	for _, n := range []int32{1, 6, 100, 10_000} {
		w := newWorld(t, n)
		c := &costs{}
		gate := make(chan struct{})
		store := &gatedStore{Store: countingStore{w.store, c}, gate: gate}
		w.store = store
		w.cat = countingCatalog{w.cat, c}
		e := w.open(func(c *Config) { c.UploadSlots = 1; c.Pool = slab.NewPool(64 << 20) })
		_ = c.String() // what the start cost
		// The first append goes out alone and waits at the gate; all the others gather in one object behind it.
		first, err := w.send(ctx, e, w.logs[0], 0, nil)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(e.term.Load().slots) == 1 }, 10*time.Second, time.Millisecond)
		var last Pending
		const batches = 10_000
		for i := range int32(batches) {
			l := w.logs[i%n]
			seq := i/n + 1 - min(i%n, 1)
			last, err = w.send(ctx, e, l, seq, []byte("some bytes"))
			require.NoError(t, err)
		}
		gate <- struct{}{} // one object at a time, so that the commits are counted one by one
		<-first.Done()
		close(gate)
		<-last.Done()
		_, err = last.Result()
		require.NoError(t, err)
		fmt.Fprintf(&out, "1 + %d batches over %d partitions\n%s", batches, n, c)
		require.NoError(t, e.Tidy(ctx))
		fmt.Fprintf(&out, " tidied\n%s", c)
		// Each partition has a packed row by now, which the next fold appends to, and a merge reads.
		gate = make(chan struct{})
		store.gate = gate
		next := func(i int32) Pending {
			p, err := w.send(ctx, e, w.logs[i], (batches-1-i)/n+2-min(i, 1), []byte("some bytes"))
			require.NoError(t, err)
			return p
		}
		// The last upload gives its slot back a moment after its commit.
		require.Eventually(t, func() bool { return len(e.term.Load().slots) == 0 }, 10*time.Second, time.Millisecond)
		first = next(0)
		require.Eventually(t, func() bool { return len(e.term.Load().slots) == 1 }, 10*time.Second, time.Millisecond)
		last = first
		for i := int32(1); i < n; i++ {
			last = next(i)
		}
		gate <- struct{}{}
		<-first.Done()
		close(gate)
		<-last.Done()
		_, err = last.Result()
		require.NoError(t, err)
		_ = c.String()
		tm := e.term.Load()
		e.rewrite <- struct{}{}
		require.NoError(t, tm.tidyTail(ctx, true))
		fmt.Fprintf(&out, " folded once more\n%s", c)
		_, err = tm.mergeSegments(ctx)
		<-e.rewrite
		require.NoError(t, err)
		fmt.Fprintf(&out, " segments merged\n%s", c)
		e.Kill()
	}
	golden := filepath.Join("testdata", "cost.txt")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), out.String())
}
