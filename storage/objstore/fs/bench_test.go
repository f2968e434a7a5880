package fs

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// BenchmarkPut says how fast durable Puts are: go test -run '^$' -bench Put -benchtime 2s ./storage/objstore/fs.
// The folder of TMPDIR must be on the disk to be measured, not in memory.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{8 << 20, 64 << 10, 16 << 10, 1 << 10} {
		for _, inFlight := range []int{1, 4} {
			for _, way := range []string{"files", "volumes"} {
				if way == "volumes" && size >= DefaultVolumeObjectBytes {
					continue
				}
				b.Run(fmt.Sprintf("bytes=%d/inflight=%d/%s", size, inFlight, way), func(b *testing.B) {
					benchmarkPut(b, size, inFlight, way)
				})
			}
		}
	}
}

func benchmarkPut(b *testing.B, size, inFlight int, way string) {
	b.Helper()
	opts := Options{}
	if way == "files" {
		opts.VolumeObjectBytes = -1
	} else {
		opts.tune = func(v *volumes) {
			for range 2 {
				if err := v.prepare(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	s, err := Open(b.TempDir(), opts)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	slice := min(size, 64<<10)
	parts := make([][]byte, size/slice)
	for i := range parts {
		parts[i] = make([]byte, slice)
		for j := range parts[i] {
			parts[i][j] = byte(i + j)
		}
	}
	body := objstore.NewBody(parts...)
	b.SetBytes(body.Size)
	b.ReportAllocs()
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range inFlight {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				start := time.Now()
				if err := s.Put(b.Context(), fmt.Sprintf("log/hour/%d", n), body); err != nil {
					b.Error(err)
					return
				}
				took[n-1] = time.Since(start)
				// As a log does, whose objects are merged into larger ones: what is old goes. Keeps the disk from filling.
				if keep := int64(max(64, 64<<20/size)); n > keep {
					_ = s.Delete(b.Context(), []string{fmt.Sprintf("log/hour/%d", n-keep)})
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkOpen says how long it takes to find 256 MiB of small objects, all but one of the volumes sealed.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			s, err := Open(b.TempDir(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			v := s.volumes
			v.stop()
			<-v.tended
			v.sync = func(*os.File) error { return nil }
			body := objstore.NewBody(make([]byte, size))
			n := 0
			for range 16 {
				if err := v.prepare(b.Context()); err != nil {
					b.Fatal(err)
				}
				for v.mu.active == nil || len(v.mu.ready) > 0 || v.mu.active.size-v.mu.active.next > recordSpace(20, body.Size) {
					if err := s.Put(b.Context(), fmt.Sprintf("log/hour/%08d", n), body); err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			v.maxRecords = n
			for v.step(b.Context()) {
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				// Nothing in the background, whose end Close would wait for.
				if s, err = Open(s.root, Options{tune: func(v *volumes) { v.maxRecords, v.mu.troubled = n, true }}); err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n), "objects")
		})
	}
}

func BenchmarkGetRange(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Put(b.Context(), "k", objstore.NewBody(make([]byte, 8<<20))); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 1<<20)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := s.GetRange(b.Context(), "k", int64(i%8)<<20, p); err != nil {
			b.Fatal(err)
		}
	}
}
