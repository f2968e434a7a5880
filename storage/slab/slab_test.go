package slab

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClassIsAtMostAQuarterLarger(t *testing.T) {
	for n := minClass; n < 40<<20; n += n/7 + 1 {
		c := classOf(n)
		require.GreaterOrEqual(t, c, n)
		require.LessOrEqual(t, c, n+n/4+1)
		require.Equal(t, c, classOf(c), "a class is its own class")
	}
}

func TestLastReleaseGivesBack(t *testing.T) {
	p := NewPool(1 << 20)
	b := p.Get(5000)
	require.Len(t, b.Bytes(), 5000)
	b.Retain()
	b.Release()
	require.True(t, b.TryRetain())
	b.Release()
	require.EqualValues(t, b.Cap(), p.InUse())
	first := &b.Bytes()[0]
	b.Release()
	require.Zero(t, p.InUse())
	require.False(t, b.TryRetain())
	require.Panics(t, b.Release)
	require.Panics(t, func() { b.Retain() })
	require.Same(t, first, &p.Get(4990).Bytes()[0], "memory is used again")
}

func TestIdleIsBoundedAndOldClassesMakeRoom(t *testing.T) {
	p := NewPool(64 << 10)
	var bufs []*Buf
	for range 16 {
		bufs = append(bufs, p.Get(8<<10))
	}
	for _, b := range bufs {
		b.Release()
	}
	require.LessOrEqual(t, p.mu.idle, int64(64<<10))
	big := p.Get(32 << 10)
	big.Release()
	require.LessOrEqual(t, p.mu.idle, int64(64<<10))
	require.Len(t, p.mu.free[32<<10], 1)
	p.Get(1 << 20).Release() // larger than the pool: not kept
	require.LessOrEqual(t, p.mu.idle, int64(64<<10))
}

func TestTrimLetsGoOfWhatIsIdle(t *testing.T) {
	p := NewPool(1 << 20)
	out := p.Get(8 << 10)
	p.Get(16 << 10).Release()
	require.NotZero(t, p.mu.idle)
	p.Trim()
	require.Zero(t, p.mu.idle)
	require.Empty(t, p.mu.free)
	require.EqualValues(t, out.Cap(), p.InUse(), "what is handed out is not touched")
	first := &out.Bytes()[0]
	out.Release()
	require.Same(t, first, &p.Get(8 << 10).Bytes()[0], "and is kept when it comes back")
}

func TestConcurrentUse(t *testing.T) {
	p := NewPool(1 << 20)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				b := p.Get(4096 + i*7%30000)
				b.Bytes()[0] = byte(g)
				b.Retain()
				b.Release()
				if b.Bytes()[0] != byte(g) {
					t.Error("buffer shared")
				}
				b.Release()
			}
		})
	}
	wg.Wait()
	require.Zero(t, p.InUse())
}
