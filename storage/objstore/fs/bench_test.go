package fs

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// BenchmarkPut says how fast durable Puts are: go test -run '^$' -bench Put -benchtime 2s ./storage/objstore/fs.
// The folder of TMPDIR must be on the disk to be measured, not in memory.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{8 << 20, 64 << 10, 1 << 10} {
		for _, inFlight := range []int{1, 4} {
			b.Run(fmt.Sprintf("bytes=%d/inflight=%d", size, inFlight), func(b *testing.B) {
				s, err := Open(b.TempDir(), Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				slice := min(size, 64<<10)
				slices := make([][]byte, size/slice)
				for i := range slices {
					slices[i] = make([]byte, slice)
					for j := range slices[i] {
						slices[i][j] = byte(i + j)
					}
				}
				body := objstore.NewBody(slices...)
				b.SetBytes(body.Size)
				b.ReportAllocs()
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
							key := fmt.Sprintf("log/hour/%d", n)
							if err := s.Put(b.Context(), key, body); err != nil {
								b.Error(err)
								return
							}
							if n > 64 && size > 1<<20 { // keep the disk from filling
								_ = s.Delete(b.Context(), []string{fmt.Sprintf("log/hour/%d", n-64)})
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			})
		}
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
