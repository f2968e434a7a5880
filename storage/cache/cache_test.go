package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/slab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const block = segment.BlockSize

// fakeStore is objects in memory that records reads and can be told to fail or to wait.
type fakeStore struct {
	mu    sync.Mutex
	m     map[string][]byte
	reads []read
	err   error
	gate  chan struct{} // if set, each read takes one value or waits until it is closed
	began chan read     // if set, each read is announced
}

type read struct{ off, n int64 }

func (s *fakeStore) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	s.mu.Lock()
	b, err, gate, began := s.m[key], s.err, s.gate, s.began
	s.reads = append(s.reads, read{off, int64(len(p))})
	s.mu.Unlock()
	if began != nil {
		began <- read{off, int64(len(p))}
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	if off > int64(len(b)) || copy(p, b[off:]) < len(p) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (s *fakeStore) take() []read {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reads
	s.reads = nil
	return r
}

func (s *fakeStore) set(change func(*fakeStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// object is one extent of so many bytes per partition.
type object struct {
	id     catalog.ObjectID
	key    string
	data   []byte // the whole object
	size   int64
	footer *segment.Footer
}

var topic = catalog.TopicID{1}

func makeObject(tb testing.TB, s *fakeStore, id catalog.ObjectID, key string, sizes ...int) object {
	tb.Helper()
	var b segment.Builder
	b.Begin()
	r := rand.New(rand.NewPCG(uint64(id), 1))
	for p, size := range sizes {
		data := make([]byte, size)
		for i := 0; i+8 <= size; i += 8 {
			v := r.Uint64()
			for j := range 8 {
				data[i+j] = byte(v >> (8 * j))
			}
		}
		e := segment.Extent{TopicPartition: catalog.TopicPartition{Topic: topic, Partition: int32(p)}}
		for at := 0; at < size; at += 16 << 10 {
			e.Batches = append(e.Batches, segment.Batch{
				BaseOffset: e.End, Offsets: 10, Records: 10, Length: int32(min(16<<10, size-at)),
			})
			e.End += 10
		}
		b.Add(e, data)
	}
	o, err := b.Finish()
	require.NoError(tb, err)
	f, err := o.Footer()
	require.NoError(tb, err)
	all := bytes.Join(o.Slices, nil)
	s.m[key] = all
	return object{id: id, key: key, data: all, size: o.Size, footer: f}
}

func newStore() *fakeStore { return &fakeStore{m: map[string][]byte{}} }

func newCache(tb testing.TB, s *fakeStore, cfg Config) (*Cache, *slab.Pool) {
	tb.Helper()
	cfg.Store = s
	cfg.Pool = slab.NewPool(64 << 20)
	c := New(cfg)
	tb.Cleanup(func() {
		c.Close()
		require.Zero(tb, c.Stats().Bytes, "all references were given back")
		require.Zero(tb, cfg.Pool.InUse())
	})
	return c, cfg.Pool
}

func (o *object) read(c *Cache, off, n int64, dst *Pinned) error {
	return c.Read(context.Background(), o.id, o.key, o.size, o.footer, off, n, dst)
}

// check reads and compares.
func (o *object) check(tb testing.TB, c *Cache, off, n int64) {
	tb.Helper()
	var p Pinned
	require.NoError(tb, o.read(c, off, n, &p))
	require.True(tb, bytes.Equal(o.data[off:off+n], bytes.Join(p.Slices, nil)), "wrong bytes")
	p.Release()
	require.Empty(tb, p.Slices)
	p.Release()
}

func TestChargeIsWhatThePoolTakes(t *testing.T) {
	p := slab.NewPool(0)
	for n := 1; n <= maxChunkBlocks; n++ {
		b := p.Get(n * block)
		require.EqualValues(t, b.Cap(), chargeOf(n))
		b.Release()
		b = p.Get(n*block - block + 1)
		require.LessOrEqual(t, int64(b.Cap()), chargeOf(n))
		b.Release()
	}
}

func TestEveryRangeIsRight(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 3*block, 100, 5*block+777, 2*block)
	c, _ := newCache(t, s, Config{Bytes: 4 * block})
	r := rand.New(rand.NewPCG(1, 2))
	end := o.footer.DataEnd()
	o.check(t, c, 0, end)
	for range 150 {
		off := r.Int64N(end)
		o.check(t, c, off, r.Int64N(end-off+1))
	}
	var p Pinned
	for _, bad := range [][2]int64{{-1, 2}, {0, -1}, {0, end + 1}, {end, 1}, {1 << 62, 1 << 62}} {
		require.ErrorIs(t, o.read(c, bad[0], bad[1], &p), segment.ErrInvalid)
	}
}

func TestMissingBlocksAreOneRead(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 40*block)
	c, _ := newCache(t, s, Config{Bytes: 64 * block, ReadAhead: -1})
	o.check(t, c, 5*block+1, 10)
	require.Equal(t, []read{{5 * block, block}}, s.take())
	o.check(t, c, 3*block, 6*block)
	require.ElementsMatch(t, []read{{3 * block, 2 * block}, {6 * block, 3 * block}}, s.take())
	o.check(t, c, 3*block, 6*block)
	require.Empty(t, s.take())
	o.check(t, c, 10*block, 20*block)
	require.ElementsMatch(t, []read{{10 * block, 16 * block}, {26 * block, 4 * block}}, s.take())
}

func TestOneFlightPerMiss(t *testing.T) {
	s := newStore()
	s.gate, s.began = make(chan struct{}), make(chan read, 100)
	o := makeObject(t, s, 1, "k", 4*block)
	var hits, misses int
	var mu sync.Mutex
	c, _ := newCache(t, s, Config{ReadAhead: -1, Hooks: Hooks{
		Hit:  func(n int) { mu.Lock(); hits += n; mu.Unlock() },
		Miss: func(n int) { mu.Lock(); misses += n; mu.Unlock() },
	}})
	leader, cancel := context.WithCancel(context.Background())
	left := make(chan error)
	go func() {
		var p Pinned
		left <- c.Read(leader, o.id, o.key, o.size, o.footer, 0, 2*block, &p)
	}()
	<-s.began
	cancel()
	require.ErrorIs(t, <-left, context.Canceled, "the leader gives up while its load goes on")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { o.check(t, c, 100, block) })
	}
	close(s.gate)
	wg.Wait()
	require.Len(t, s.take(), 1)
	require.Equal(t, 18, hits+misses)
}

func TestErrorsAreNotCached(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 4*block)
	c, _ := newCache(t, s, Config{})
	boom := errors.New("boom")
	s.err = boom
	p := Pinned{}
	require.ErrorIs(t, o.read(c, 0, 10, &p), boom)
	_, err := c.Footer(context.Background(), o.id, o.key, o.size)
	require.ErrorIs(t, err, boom)
	require.Zero(t, c.Stats().Bytes)
	s.set(func(s *fakeStore) { s.err = nil })
	o.check(t, c, 0, 10)
	_, err = c.Footer(context.Background(), o.id, o.key, o.size)
	require.NoError(t, err)
	s.m["k"] = o.data[:2*block] // cut short
	require.ErrorIs(t, o.read(c, 2*block, block, &p), io.ErrUnexpectedEOF)
}

func TestDamagedBlockIsRefusedItsNeighboursServed(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 8*block)
	c, _ := newCache(t, s, Config{ReadAhead: -1})
	good := o.data
	bad := append([]byte(nil), good...)
	bad[3*block+17] ^= 1
	s.m["k"] = bad
	o.check(t, c, 7*block, 8) // something before it in dst must stay
	var p Pinned
	require.NoError(t, o.read(c, 7*block, 8, &p))
	err := o.read(c, 0, 6*block, &p)
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, CorruptError{Key: "k", Block: 3}, *corrupt)
	require.ErrorIs(t, err, segment.ErrCorrupt)
	require.Len(t, p.Slices, 1)
	p.Release()
	s.take()
	o.check(t, c, 0, 3*block)
	o.check(t, c, 4*block, 2*block)
	require.Empty(t, s.take(), "the good blocks stayed")
	require.ErrorAs(t, o.read(c, 3*block+1000, 5, &p), &corrupt)
	require.Equal(t, []read{{3 * block, block}}, s.take())
	s.m["k"] = good // the network had damaged it
	o.check(t, c, 0, 6*block)
	require.Equal(t, []read{{3 * block, block}}, s.take())
}

func TestBudgetHoldsWhilePinned(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 32*block)
	c, pool := newCache(t, s, Config{Bytes: 4 * block, ReadAhead: -1})
	var p Pinned
	for i := range int64(4) {
		require.NoError(t, o.read(c, i*block, 10, &p))
	}
	require.EqualValues(t, 4*block, c.Stats().Bytes)
	s.take()
	for range 2 { // through: read each time, nothing kept
		o.check(t, c, 10*block, 2*block)
		require.Len(t, s.take(), 1)
		require.EqualValues(t, 4*block, c.Stats().Bytes)
		require.EqualValues(t, 4*block, pool.InUse())
	}
	c.Drop(1) // what is pinned still counts
	require.EqualValues(t, 4*block, c.Stats().Bytes)
	require.True(t, bytes.Equal(o.data[block:block+10], p.Slices[1]))
	p.Release()
	require.Zero(t, c.Stats().Bytes)
	o.check(t, c, 10*block, 2*block)
	o.check(t, c, 10*block, 2*block)
	require.Len(t, s.take(), 1)
	o.check(t, c, 0, 20*block) // larger than everything
	require.LessOrEqual(t, c.Stats().Bytes, int64(4*block))
}

func TestStats(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 20*block)
	c, pool := newCache(t, s, Config{Bytes: 4 * block, ReadAhead: -1})
	require.Zero(t, c.Stats())
	o.check(t, c, 0, 3*block)
	o.check(t, c, 0, block)
	require.Equal(t, Stats{Bytes: 3 * block, Reads: 2}, c.Stats())
	o.check(t, c, 10*block, 2*block)
	require.Equal(t, Stats{Bytes: 2 * block, Reads: 3, Evicted: 3}, c.Stats(), "a chunk goes as a whole")
	c.Drop(1)
	require.Equal(t, Stats{Reads: 3, Evicted: 3}, c.Stats(), "not to make room")
	require.Zero(t, pool.InUse())
}

func TestClear(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 20*block)
	c, pool := newCache(t, s, Config{Bytes: 8 * block, ReadAhead: -1})
	_, err := c.Footer(context.Background(), o.id, o.key, o.size)
	require.NoError(t, err)
	o.check(t, c, 0, 3*block)
	var p Pinned
	require.NoError(t, o.read(c, 10*block, block, &p))
	s.take()
	c.Clear()
	require.EqualValues(t, block, c.Stats().Bytes, "what is pinned still counts")
	require.True(t, bytes.Equal(o.data[10*block:11*block], p.Slices[0]))
	p.Release()
	require.Zero(t, c.Stats().Bytes)
	require.Zero(t, c.Stats().Evicted)
	require.Zero(t, pool.InUse())
	_, err = c.Footer(context.Background(), o.id, o.key, o.size)
	require.NoError(t, err)
	o.check(t, c, 0, block)
	require.Len(t, s.take(), 2, "both are read again")
}

// A load that is under way when the cache is cleared still serves those who wait for it, and is forgotten.
func TestClearWhileLoading(t *testing.T) {
	s := newStore()
	s.gate, s.began = make(chan struct{}), make(chan read, 10)
	o := makeObject(t, s, 1, "k", 4*block)
	c, pool := newCache(t, s, Config{ReadAhead: -1})
	var wg sync.WaitGroup
	wg.Go(func() { o.check(t, c, 0, block) })
	<-s.began
	c.Clear()
	close(s.gate)
	wg.Wait()
	require.Zero(t, c.Stats().Bytes)
	require.Zero(t, pool.InUse())
}

func TestScanDoesNotEvictWhatWasReadTwice(t *testing.T) {
	s := newStore()
	hot := makeObject(t, s, 1, "hot", 4*block)
	scan := makeObject(t, s, 2, "scan", 100*block)
	for _, ahead := range []int{-1, block} {
		c, _ := newCache(t, s, Config{Bytes: 16 * block, ReadAhead: ahead})
		for range 2 {
			for i := range int64(4) {
				hot.check(t, c, i*block+100, 50)
			}
		}
		for off := int64(0); off+70_000 <= scan.footer.DataEnd(); off += 50_000 { // answers overlap
			scan.check(t, c, off, 70_000)
		}
		s.take()
		for i := range int64(4) {
			hot.check(t, c, i*block+100, 50)
		}
		require.Empty(t, s.take())
		c.Close()
	}
}

func TestReadAhead(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 50*block-8, 20*block)
	s.began = make(chan read, 1000)
	c, _ := newCache(t, s, Config{Bytes: 100 * block, ReadAhead: 8 * block})
	o.check(t, c, 8, 2*block) // ends in block 2
	require.Equal(t, read{0, 3 * block}, <-s.began)
	o.check(t, c, 8, 2*block)
	require.Empty(t, s.began, "the same again is no stream")
	o.check(t, c, 2*block, block)
	require.Equal(t, read{3 * block, 8 * block}, <-s.began)
	for b := int64(3); b < 50; b++ {
		o.check(t, c, b*block, block)
	}
	var last int64
	gets := 0
	for len(s.began) > 0 {
		r := <-s.began
		last = max(last, r.off+r.n)
		gets++
	}
	require.EqualValues(t, 50*block, last, "to the end of the extent, not beyond")
	require.LessOrEqual(t, gets, 8)
}

func TestReadAheadIsBoundedAndCancelled(t *testing.T) {
	s := newStore()
	var objects []object
	for i := range 6 {
		objects = append(objects, makeObject(t, s, catalog.ObjectID(i+1), string(rune('a'+i)), 20*block))
	}
	c, _ := newCache(t, s, Config{Bytes: 200 * block, ReadAhead: 4 * block, ReadAheadFlights: 2})
	for _, o := range objects {
		o.check(t, c, 0, 2*block)
	}
	s.set(func(s *fakeStore) { s.gate, s.began = make(chan struct{}), make(chan read, 100) })
	for _, o := range objects {
		o.check(t, c, block, block) // cached; what follows is read ahead
	}
	<-s.began
	<-s.began
	require.Empty(t, s.began)
	waiting := make(chan error)
	go func() { // waits for a read-ahead
		var p Pinned
		waiting <- objects[0].read(c, 3*block, 8, &p)
	}()
	c.Close()
	require.ErrorIs(t, <-waiting, ErrClosed)
	var p Pinned
	require.ErrorIs(t, objects[0].read(c, 0, 1, &p), ErrClosed)
	_, err := c.Footer(context.Background(), 9, "a", objects[0].size)
	require.ErrorIs(t, err, ErrClosed)
	c.Close()
}

func TestFooters(t *testing.T) {
	s := newStore()
	a := makeObject(t, s, 1, "a", 8*block)
	b := makeObject(t, s, 2, "b", 8*block)
	ctx := context.Background()
	c, _ := newCache(t, s, Config{FooterBytes: a.footer.MemBytes() + 100})
	f, err := c.Footer(ctx, 1, "a", a.size)
	require.NoError(t, err)
	again, err := c.Footer(ctx, 1, "a", a.size)
	require.NoError(t, err)
	require.Same(t, f, again)
	require.Len(t, s.take(), 1)
	_, err = c.Footer(ctx, 2, "b", b.size)
	require.NoError(t, err)
	_, err = c.Footer(ctx, 1, "a", a.size)
	require.NoError(t, err)
	require.Len(t, s.take(), 2, "only one has room")
	c.Drop(1)
	_, err = c.Footer(ctx, 1, "a", a.size)
	require.NoError(t, err)
	require.Len(t, s.take(), 1)

	s.set(func(s *fakeStore) { s.gate = make(chan struct{}) })
	leader, cancel := context.WithCancel(ctx)
	cancel()
	_, err = c.Footer(leader, 2, "b", b.size)
	require.ErrorIs(t, err, context.Canceled)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := c.Footer(ctx, 2, "b", b.size); err != nil {
				t.Error(err)
			}
		})
	}
	close(s.gate)
	wg.Wait()
	require.Len(t, s.take(), 1)
}

func TestConcurrentReadersDropsAndFailures(t *testing.T) {
	s := newStore()
	var objects []object
	for i := range 4 {
		objects = append(objects, makeObject(t, s, catalog.ObjectID(i+1), string(rune('a'+i)), 10*block, 10*block))
	}
	c, _ := newCache(t, s, Config{Bytes: 12 * block, ReadAhead: 4 * block, ReadAheadFlights: 2})
	boom := errors.New("boom")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			var p Pinned
			for i := range 300 {
				o := &objects[r.IntN(len(objects))]
				off := r.Int64N(o.footer.DataEnd())
				n := r.Int64N(min(o.footer.DataEnd()-off, 5*block) + 1)
				ctx, cancel := context.WithCancel(context.Background())
				if r.IntN(8) == 0 {
					cancel()
				}
				err := c.Read(ctx, o.id, o.key, o.size, o.footer, off, n, &p)
				cancel()
				switch {
				case err == nil:
					if !bytes.Equal(o.data[off:off+n], bytes.Join(p.Slices, nil)) {
						t.Error("wrong bytes")
					}
				case !errors.Is(err, boom) && !errors.Is(err, context.Canceled):
					t.Error(err)
				}
				if used := c.Stats().Bytes; used > 12*block {
					t.Errorf("%d bytes used", used)
				}
				if i%50 == 0 {
					c.Drop(o.id)
					s.set(func(s *fakeStore) { s.err = nil })
				}
				if i%50 == 25 {
					s.set(func(s *fakeStore) { s.err = boom })
				}
				p.Release()
			}
		})
	}
	wg.Wait()
}

// A footer asked for while the cache is closed must not hold it up: the two took the locks in different orders.
func TestFootersWhileClosing(t *testing.T) {
	for range 200 {
		c, _ := newCache(t, newStore(), Config{})
		var begun, wg sync.WaitGroup
		for i := range 8 {
			begun.Add(1)
			wg.Go(func() {
				once, closed := sync.OnceFunc(begun.Done), 0
				for id := catalog.ObjectID(i); closed < 50; id += 8 { // some after it was closed, too
					if _, err := c.Footer(t.Context(), id, "no such object", 1000); errors.Is(err, ErrClosed) {
						closed++
					}
					once()
				}
			})
		}
		begun.Wait()
		c.Close()
		wg.Wait()
	}
}
