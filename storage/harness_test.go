package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/catalog"
	catmem "github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/objstore"
	storemem "github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/slab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a catalog, a store, and what producers were told.
type world struct {
	t     testing.TB
	cat   catalog.Catalog
	store objstore.Store
	topic catalog.TopicID
	logs  []*plog
	pid   int64

	// For life: called before each record, and when all that goes on in the background is to end. May be nil.
	before func(e *Engine)
	settle func()
}

// plog is what a partition's log must hold, from its producer's point of view.
type plog struct {
	tp       catalog.TopicPartition
	acked    [][]byte // one record a batch: its value, by offset
	maybe    [][]byte // sent, never answered: may or may not follow
	seq      int32
	logStart int64
	deleting int64 // a log start asked for: it may be in force although its answer was lost
	hw       int64 // the highest seen
}

func newWorld(tb testing.TB, partitions int32) *world {
	tb.Helper()
	w := &world{t: tb, cat: catmem.New(nil), store: storemem.New(), pid: 1}
	w.create(partitions)
	return w
}

func (w *world) create(partitions int32) {
	_, err := rand.Read(w.topic[:])
	require.NoError(w.t, err)
	_, err = w.cat.CreateTopic(w.t.Context(), catalog.TopicSpec{ID: w.topic, Name: "t-" + w.topic.String()[:8], Partitions: partitions, ReplicationFactor: 1})
	require.NoError(w.t, err)
	w.logs = nil
	for p := range partitions {
		w.logs = append(w.logs, &plog{tp: catalog.TopicPartition{Topic: w.topic, Partition: p}})
	}
}

func (w *world) config() Config {
	c := Config{
		Catalog: w.cat, Store: w.store, Logger: slog.New(slog.DiscardHandler), Pool: slab.NewPool(1 << 20),
		Registration: catalog.Registration{ID: 1, TTL: time.Minute}, PredecessorsDead: true,
		FlushInterval: time.Millisecond / 4, ObjectGrace: time.Nanosecond, TailCacheBytes: 1 << 20, MergeFanIn: 2,
	}
	_, _ = rand.Read(c.Process[:])
	return c
}

func (w *world) open(change ...func(*Config)) *Engine {
	w.t.Helper()
	c := w.config()
	for _, f := range change {
		f(&c)
	}
	e, err := Open(w.t.Context(), c)
	require.NoError(w.t, err)
	w.t.Cleanup(e.Kill)
	return e
}

// batch builds an idempotent batch of one record.
func (w *world) batch(seq int32, value []byte) ([]byte, recordbatch.Header) {
	b, err := recordbatch.Build(recordbatch.Spec{
		FirstTimestamp: 1000 + int64(seq), Producer: &recordbatch.Producer{ID: w.pid, Sequence: seq},
	}, []recordbatch.Record{{Value: value}})
	require.NoError(w.t, err)
	h, err := recordbatch.Validate(b, recordbatch.Limits{MaxBatchBytes: 1 << 20, NowMillis: 1000, TimestampAfterMaxMillis: 1 << 40, TimestampBeforeMaxMillis: 1 << 40})
	require.NoError(w.t, err)
	return b, h
}

// send appends without waiting.
func (w *world) send(ctx context.Context, e *Engine, l *plog, seq int32, value []byte) (Pending, error) {
	b, h := w.batch(seq, value)
	frame := e.cfg.Pool.Get(len(b))
	copy(frame.Bytes(), b)
	defer frame.Release()
	return e.Append(ctx, l.tp, frame.Bytes(), h, frame)
}

// produce sends one record and waits; what is not acknowledged may still come to be.
func (w *world) produce(ctx context.Context, e *Engine, l *plog, value []byte) error {
	if len(l.maybe) > 0 {
		return errors.New("resolve what is in doubt first")
	}
	p, err := w.send(ctx, e, l, l.seq, value)
	if err == nil {
		select {
		case <-p.Done():
		case <-ctx.Done():
			l.maybe = append(l.maybe, value)
			return ctx.Err()
		}
		var a Appended
		a, err = p.Result()
		if err == nil {
			l.ack(w.t, a.BaseOffset, value)
			return nil
		}
	}
	l.maybe = append(l.maybe, value)
	return err
}

func (l *plog) ack(tb testing.TB, offset int64, value []byte) {
	tb.Helper()
	require.EqualValues(tb, len(l.acked), offset, "offsets are dense")
	l.acked = append(l.acked, value)
	l.seq++
	l.maybe = nil
}

// resend sends again what was not answered, as an idempotent producer does.
func (w *world) resend(ctx context.Context, e *Engine, l *plog) {
	for _, value := range l.maybe {
		p, err := w.send(ctx, e, l, l.seq, value)
		require.NoError(w.t, err)
		<-p.Done()
		a, err := p.Result()
		require.NoError(w.t, err)
		l.ack(w.t, a.BaseOffset, value)
	}
}

// check reads every partition and compares: everything acknowledged is there once, in order, byte for byte.
func (w *world) check(ctx context.Context, e *Engine) {
	w.t.Helper()
	for _, l := range w.logs {
		w.checkLog(ctx, e, l)
	}
}

func (w *world) checkLog(ctx context.Context, e *Engine, l *plog) {
	w.t.Helper()
	off, err := e.Offsets(ctx, l.tp)
	require.NoError(w.t, err)
	if l.deleting > 0 && off.LogStart == l.deleting {
		l.logStart = l.deleting
	}
	require.Equal(w.t, l.logStart, off.LogStart)
	require.GreaterOrEqual(w.t, off.HighWatermark, l.hw, "the high watermark never goes back")
	l.hw = off.HighWatermark
	require.GreaterOrEqual(w.t, off.HighWatermark, int64(len(l.acked)))
	require.LessOrEqual(w.t, off.HighWatermark, int64(len(l.acked)+len(l.maybe)))
	want := append(append([][]byte(nil), l.acked...), l.maybe...)
	var r Read
	for at := off.LogStart; at < off.HighWatermark; {
		err := e.Read(ctx, ReadRequest{TP: l.tp, Offset: at, MaxBytes: 3000, MinOne: true}, &r)
		require.NoError(w.t, err)
		var raw []byte
		for _, s := range r.Records {
			raw = append(raw, s...)
		}
		require.Len(w.t, raw, r.Bytes)
		r.Release()
		require.NotEmpty(w.t, raw, "nothing at offset %d of [%d, %d)", at, off.LogStart, off.HighWatermark)
		for len(raw) > 0 {
			var b []byte
			b, raw, err = recordbatch.Next(raw)
			require.NoError(w.t, err)
			require.True(w.t, recordbatch.ChecksumOK(b))
			h, err := recordbatch.ParseHeader(b)
			require.NoError(w.t, err)
			require.Equal(w.t, at, h.BaseOffset)
			for rec, err := range recordbatch.Records(b, 1<<20) {
				require.NoError(w.t, err)
				require.Equal(w.t, want[at], rec.Value, "offset %d", at)
				at++
			}
		}
	}
}

// objects lists the keys of all objects, the cluster's note left out.
func objects(tb testing.TB, store objstore.Store) []string {
	tb.Helper()
	infos, more, err := store.List(tb.Context(), "", "", objstore.MaxList)
	require.NoError(tb, err)
	require.False(tb, more)
	var keys []string
	for _, i := range infos {
		if !strings.HasPrefix(i.Key, markerPrefix) {
			keys = append(keys, i.Key)
		}
	}
	return keys
}

func value(p, i, size int) []byte {
	v := fmt.Appendf(nil, "%d/%d/", p, i)
	for len(v) < size {
		v = append(v, byte(i+len(v)))
	}
	return v
}
