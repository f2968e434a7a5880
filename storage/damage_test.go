package storage

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

// meddler is a catalog in which somebody changes what folds write of one partition.
type meddler struct {
	catalog.Catalog
	tp     catalog.TopicPartition
	change func(*catalog.PartitionState)
	rows   func(*catalog.PackedRow)
}

func (m *meddler) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	for i := range f.Partitions {
		if st := &f.Partitions[i]; m.change != nil && st.TopicPartition == m.tp {
			m.change(st)
		}
	}
	for i := range f.Rows {
		if m.rows != nil && f.Rows[i].TopicPartition == m.tp {
			m.rows(&f.Rows[i])
		}
	}
	return m.Catalog.Fold(ctx, epoch, f)
}

func (m *meddler) snapshot(tb testing.TB) []byte {
	tb.Helper()
	states, err := m.LoadPartitions(tb.Context(), []catalog.TopicPartition{m.tp})
	require.NoError(tb, err)
	return states[0].Producers
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 0x10
	return b
}

// plain appends a batch without a producer id and waits.
func (w *world) plain(ctx context.Context, e *Engine, l *plog, value []byte) error {
	b, err := recordbatch.Build(recordbatch.Spec{FirstTimestamp: 1000}, []recordbatch.Record{{Value: value}})
	require.NoError(w.t, err)
	h, err := recordbatch.ParseHeader(b)
	require.NoError(w.t, err)
	p, err := e.Append(ctx, l.tp, b, h, nil)
	if err != nil {
		return err
	}
	<-p.Done()
	a, err := p.Result()
	if err == nil {
		require.EqualValues(w.t, len(l.acked), a.BaseOffset)
		l.acked = append(l.acked, value)
	}
	return err
}

// A damaged producer snapshot costs its own partition the idempotent writes, once it has to be loaded, and nobody anything
// else: tails are folded, brokers start, other partitions are written to.
func TestDamagedSnapshotCostsItsPartitionOnly(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 2)
	m := &meddler{Catalog: w.cat, tp: w.logs[0].tp}
	w.cat = m
	hurt, sound := w.logs[0], w.logs[1]
	next := 0
	both := func(e *Engine) {
		t.Helper()
		for _, l := range w.logs {
			require.NoError(t, w.produce(ctx, e, l, value(int(l.tp.Partition), next, 50)))
		}
		next++
	}
	e := w.open()
	both(e)
	m.change = func(st *catalog.PartitionState) { st.Producers = flip(st.Producers) }
	require.NoError(t, e.Tidy(ctx))
	m.change = nil
	damaged := m.snapshot(t)
	require.NotEmpty(t, damaged)

	both(e) // who leads knows its producers
	require.NoError(t, e.Tidy(ctx))
	rows, _ := e.term.Load().tailSize()
	require.Zero(t, rows, "the tail is folded")
	require.Equal(t, damaged, m.snapshot(t), "carried over as it was: it must never look sound again")
	both(e)
	e.Kill()

	var log bytes.Buffer
	e = w.open(func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	require.NoError(t, w.produce(ctx, e, sound, value(1, next, 50)))
	require.ErrorIs(t, w.produce(ctx, e, hurt, value(0, next, 50)), ErrCorrupt, "a resend could not be told from a new batch")
	hurt.maybe = nil
	_, err := e.Producers(ctx, hurt.tp)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NoError(t, w.plain(ctx, e, hurt, value(0, next, 50)))
	next++
	w.check(ctx, e)
	require.NoError(t, e.Tidy(ctx))
	rows, _ = e.term.Load().tailSize()
	require.Zero(t, rows)
	require.Equal(t, damaged, m.snapshot(t))
	w.check(ctx, e)
	require.NoError(t, e.Close(ctx))
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("msg=\"the producer snapshot")), "one line, not one for each try: %s", log.String())

	// What an operator does: clear it, when no producer can send again what it sent before.
	e = w.open()
	m.change = func(st *catalog.PartitionState) { st.Producers = nil }
	require.NoError(t, w.plain(ctx, e, hurt, value(0, next, 50)))
	require.NoError(t, e.Tidy(ctx))
	m.change = nil
	require.NoError(t, e.Close(ctx))
	e = w.open()
	both(e)
	w.check(ctx, e)
}

// A snapshot of a later version is not damaged: folding over it would lose what its producers sent, unnoticed by the later
// binary that reads it.
func TestSnapshotOfALaterVersionIsNotFoldedOver(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 1)
	m := &meddler{Catalog: w.cat, tp: w.logs[0].tp}
	w.cat = m
	e := w.open()
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 0, 50)))
	m.change = func(st *catalog.PartitionState) {
		st.Producers[0] = producersVersion + 1
		st.Producers = appendChecksum(st.Producers[:len(st.Producers)-4])
	}
	require.NoError(t, e.Tidy(ctx))
	m.change = nil
	require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 1, 50)))
	require.ErrorContains(t, e.Tidy(ctx), "has version 2")
}

// A damaged packed row costs the reads of what it names: what comes after it goes to a row of its own.
func TestDamagedPackedRowIsNotAppendedTo(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 2)
	m := &meddler{Catalog: w.cat, tp: w.logs[0].tp}
	w.cat = m
	e := w.open()
	fill := func(i int) {
		for p, l := range w.logs {
			require.NoError(t, w.produce(ctx, e, l, value(p, i, 50)))
		}
	}
	fill(0)
	m.rows = func(r *catalog.PackedRow) { r.Extents = flip(r.Extents) }
	require.NoError(t, e.Tidy(ctx))
	m.rows = nil
	fill(1)
	require.NoError(t, e.term.Load().tidyTail(ctx, true))
	rows, _ := e.term.Load().tailSize()
	require.Zero(t, rows)
	w.checkLog(ctx, e, w.logs[1])
	var r Read
	require.ErrorIs(t, e.Read(ctx, ReadRequest{TP: w.logs[0].tp, MaxBytes: 1000, MinOne: true}, &r), ErrCorrupt)
	require.NoError(t, e.Read(ctx, ReadRequest{TP: w.logs[0].tp, Offset: 1, MaxBytes: 1000, MinOne: true}, &r))
	require.NotZero(t, r.Bytes)
	r.Release()
}
