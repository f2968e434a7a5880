package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	catmem "github.com/streamhouse/streamhouse/catalog/memory"
	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// The catalog's clock and this machine's are ten minutes apart, either way. The tail is folded, and producers are
// forgotten, by the catalog's.
func TestAgesAreByTheCatalogsClock(t *testing.T) {
	for _, off := range []time.Duration{-10 * time.Minute, 0, 10 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ctx := t.Context()
				w := newWorld(t, 1)
				w.cat = catmem.New(func() time.Time { return time.Now().Add(off) })
				w.create(1)
				e := w.open(func(c *Config) {
					c.FoldInterval, c.ProducerExpiry, c.MergeInterval = time.Minute, 5*time.Minute, time.Second
				})
				require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 0, 10)))
				rows := func() int {
					n, _ := e.term.Load().tailSize()
					return n
				}
				<-time.After(50 * time.Second)
				require.Equal(t, 1, rows(), "not due yet")
				<-time.After(20 * time.Second)
				require.Zero(t, rows(), "due")

				producers := func() int {
					ps, err := e.Producers(ctx, w.logs[0].tp)
					require.NoError(t, err)
					return len(ps)
				}
				require.NoError(t, w.produce(ctx, e, w.logs[0], value(0, 1, 10))) // in the tail: replayed by the next process
				e.Kill()
				e = w.open(func(c *Config) { c.ProducerExpiry = 5 * time.Minute })
				require.Equal(t, 1, producers(), "nobody was silent for so long")
				e.Kill()
				<-time.After(6 * time.Minute)
				e = w.open(func(c *Config) { c.ProducerExpiry = 5 * time.Minute })
				require.Zero(t, producers(), "silent for too long")
				e.Kill()
			})
		})
	}
}

// lines keeps what is logged.
type lines struct {
	slog.Handler

	mu  sync.Mutex
	all []string
	sum map[string]int64 // of the attribute failures, by message
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sum == nil {
		l.sum = make(map[string]int64)
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "failures" {
			l.sum[r.Message] += a.Value.Int64()
		}
		text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	l.all = append(l.all, text)
	return nil
}

func (l *lines) with(part string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		if strings.Contains(s, part) {
			out = append(out, s)
		}
	}
	return out
}

// brokenStore refuses PUTs while it is told to.
type brokenStore struct {
	objstore.Store
	broken  atomic.Bool
	refused atomic.Int64
}

func (s *brokenStore) Put(ctx context.Context, key string, body objstore.Body) error {
	if s.broken.Load() && !strings.HasPrefix(key, markerPrefix) {
		s.refused.Add(1)
		return fmt.Errorf("put %s: %w", key, objstore.ErrNoSpace)
	}
	return s.Store.Put(ctx, key, body)
}

// A full disk, met on every upload slot many times a second, is a line every few seconds with a count.
func TestStoreTroubleIsLoggedSparingly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w := newWorld(t, 1)
		store := &brokenStore{Store: w.store}
		w.store = store
		log := &lines{Handler: slog.DiscardHandler}
		e := w.open(func(c *Config) { c.Logger = slog.New(log); c.FlushBytes = 200 })
		store.broken.Store(true)
		var pending []Pending
		for i := range int32(8) {
			p, err := w.send(ctx, e, w.logs[0], i, value(0, int(i), 150))
			require.NoError(t, err)
			pending = append(pending, p)
		}
		<-time.After(61 * time.Second)
		const message = "cannot store a log object, trying again"
		got := log.with(message)
		require.Greater(t, store.refused.Load(), int64(200))
		require.LessOrEqual(t, len(got), 13, "%s", strings.Join(got, "\n"))
		require.GreaterOrEqual(t, len(got), 10, "but it is said")
		require.InDelta(t, store.refused.Load(), log.sum[message], 25, "all but those of the last seconds are counted")
		require.Error(t, e.Ready())
		store.broken.Store(false)
		for _, p := range pending {
			<-p.Done()
			_, err := p.Result()
			require.NoError(t, err)
		}
		require.NoError(t, e.Ready())
		e.Kill()
	})
}

func TestHousekeepingTroubleIsLoggedSparingly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		log := &lines{Handler: slog.DiscardHandler}
		e := w.open(func(c *Config) { c.Logger = slog.New(log) })
		<-time.After(10 * time.Millisecond)
		began := time.Now()
		for range 100 {
			e.housekeep(t.Context(), "test", func(*term) error { return errors.New("no luck") })
			<-time.After(100 * time.Millisecond)
		}
		require.Equal(t, 10*time.Second, time.Since(began))
		require.Len(t, log.with("housekeeping failed"), 2)
		e.Kill()
	})
}
