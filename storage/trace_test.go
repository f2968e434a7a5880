package storage

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

type whoKey struct{}

// flushes follows appends whose context names somebody, and keeps what it is told.
type flushes struct {
	mu  sync.Mutex
	all []*tracedFlush
}

type tracedFlush struct {
	followed   []any
	sealed     Sealed
	key        string
	bytes      int64
	partitions int
	tries      int
	ended      chan error
}

func (*flushes) Following(ctx context.Context) any { return ctx.Value(whoKey{}) }

func (f *flushes) Sealed(followed []any, o Sealed) FlushTrace {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := &tracedFlush{followed: followed, sealed: o, ended: make(chan error, 2)}
	f.all = append(f.all, one)
	return one
}

func (f *tracedFlush) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, whoKey{}, f)
}

func (f *tracedFlush) Stored(key string, bytes int64, partitions, tries int) {
	f.key, f.bytes, f.partitions, f.tries = key, bytes, partitions, tries
}

func (f *tracedFlush) Ended(err error) { f.ended <- err }

// tracedStore fails the first PUT made for somebody, and notes for whom PUTs are made.
type tracedStore struct {
	objstore.Store
	mu    sync.Mutex
	puts  []any
	block bool
}

func (s *tracedStore) Put(ctx context.Context, key string, body objstore.Body) error {
	who := ctx.Value(whoKey{})
	s.mu.Lock()
	first := len(s.puts) == 0 && who != nil
	if who != nil {
		s.puts = append(s.puts, who)
	}
	block := s.block && who != nil
	s.mu.Unlock()
	if block {
		<-ctx.Done()
		return ctx.Err()
	}
	if first {
		return errors.New("try again")
	}
	return s.Store.Put(ctx, key, body)
}

func TestFollowedAppendsAreToldOfTheirLogObject(t *testing.T) {
	w := newWorld(t, 2)
	f, s := &flushes{}, &tracedStore{Store: w.store}
	w.store = s
	e := w.open(func(c *Config) { c.Tracer, c.FlushInterval = f, 50*time.Millisecond })
	ctx := func(who string) context.Context { return context.WithValue(t.Context(), whoKey{}, who) }
	require.NoError(t, w.produce(t.Context(), e, w.logs[0], []byte("nobody follows this")))
	require.Empty(t, f.all)

	// All within one flush interval, the next seal being 50 ms away.
	var last Pending
	for i, who := range []string{"a", "a", "b", "a"} {
		p, err := w.send(ctx(who), e, w.logs[i%2], w.logs[i%2].seq, []byte("followed"))
		require.NoError(t, err)
		w.logs[i%2].seq++
		last = p
	}
	<-last.Done()
	var batches int
	seen := map[any]bool{}
	for _, one := range f.all { // one, or more on a slow machine
		require.NoError(t, <-one.ended)
		batches += one.sealed.Batches
		for i, who := range one.followed {
			seen[who] = true
			require.True(t, i == 0 || one.followed[i-1] != who, "noted once in a row")
		}
		require.Contains(t, objects(t, w.store), one.key)
		require.Greater(t, one.bytes, one.sealed.Bytes)
		require.WithinDuration(t, time.Now(), one.sealed.At, time.Minute)
		require.Positive(t, one.partitions)
		require.Empty(t, one.ended, "told once")
		require.Contains(t, s.puts, any(one))
	}
	require.Equal(t, 4, batches)
	require.Equal(t, map[any]bool{"a": true, "b": true}, seen)
	require.Equal(t, 2, f.all[0].tries)
}

func TestALogObjectThatIsNotCommittedEndsItsTrace(t *testing.T) {
	w := newWorld(t, 1)
	f := &flushes{}
	s := &tracedStore{Store: w.store, block: true}
	w.store = s
	e := w.open(func(c *Config) { c.Tracer = f })
	p, err := w.send(context.WithValue(t.Context(), whoKey{}, "a"), e, w.logs[0], 0, []byte("x"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.puts) > 0
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, w.cat.FenceBroker(t.Context(), e.term.Load().epoch, catalog.FenceResigned))
	e.term.Load().fail(catalog.ErrFenced)
	<-p.Done()
	require.ErrorIs(t, <-f.all[0].ended, ErrNotLeader)
	require.Empty(t, f.all[0].key)
}
