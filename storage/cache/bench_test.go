package cache

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/slab"
)

// TestHitsDoNotAllocate keeps the cost of a read that is in memory: nothing, if Pinned is used again.
func TestHitsDoNotAllocate(t *testing.T) {
	s := newStore()
	o := makeObject(t, s, 1, "k", 16*block)
	c, _ := newCache(t, s, Config{Bytes: 32 * block, ReadAhead: -1})
	ctx := context.Background()
	var p Pinned
	read := func() {
		if err := c.Read(ctx, o.id, o.key, o.size, o.footer, 1000, 4*block, &p); err != nil {
			t.Error(err)
		}
		p.Release()
	}
	read()
	require.Zero(t, testing.AllocsPerRun(100, read))
}

// fileStore reads one local file.
type fileStore struct{ f *os.File }

func (s fileStore) GetRange(_ context.Context, _ string, off int64, p []byte) error {
	_, err := s.f.ReadAt(p, off)
	return err
}

func benchmark(b *testing.B, budget int64) {
	b.Helper()
	mem := newStore()
	o := makeObject(b, mem, 1, "k", 64<<20)
	path := filepath.Join(b.TempDir(), "object")
	require.NoError(b, os.WriteFile(path, o.data, 0o600))
	f, err := os.Open(path)
	require.NoError(b, err)
	defer f.Close()
	c := New(Config{Store: fileStore{f}, Pool: slab.NewPool(64 << 20), Bytes: budget})
	defer c.Close()
	end := o.footer.DataEnd()
	const step = 1 << 20
	b.SetBytes(step)
	b.ReportAllocs()
	var p Pinned
	off := int64(0)
	for b.Loop() {
		if off+step > end {
			off = 0
		}
		if err := o.read(c, off, step, &p); err != nil {
			b.Fatal(err)
		}
		p.Release()
		off += step
	}
}

// Sequential replay in steps of 1 MiB of a file that is in the page cache.
func BenchmarkReplayCached(b *testing.B) { benchmark(b, 128<<20) }
func BenchmarkReplayMisses(b *testing.B) { benchmark(b, 16<<20) }
