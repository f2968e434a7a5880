//go:build unix

package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

const (
	putBytes = 8 << 20
	getBytes = 256 << 10
)

// perCall is what one call of f allocates.
func perCall(n int, f func(i int)) (allocations, bytes uint64) {
	f(0) // connections, pools
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		f(i + 1)
	}
	runtime.ReadMemStats(&after)
	return (after.Mallocs - before.Mallocs) / uint64(n), (after.TotalAlloc - before.TotalAlloc) / uint64(n)
}

// TestAllocations: neither bodies nor ranges are copied into memory of ours. What is left is the SDK's.
func TestAllocations(t *testing.T) {
	if raceEnabled { // it allocates, too
		return
	}
	s := open(t, serverNamed(t, "minio").options())
	body := objstore.NewBody(manySlices(random(1, putBytes), 16<<10)...)
	allocations, size := perCall(20, func(i int) {
		require.NoError(t, s.Put(t.Context(), "allocations/"+strconv.Itoa(i), body))
	})
	t.Logf("a put of 8 MiB in 512 slices: %d allocations, %d bytes", allocations, size)
	require.Less(t, allocations, uint64(1500))
	require.Less(t, size, uint64(160<<10))

	p := make([]byte, getBytes)
	allocations, size = perCall(50, func(int) {
		require.NoError(t, s.GetRange(t.Context(), "allocations/1", 1<<20, p))
	})
	t.Logf("a get of 256 KiB: %d allocations, %d bytes", allocations, size)
	require.Less(t, allocations, uint64(1500))
	require.Less(t, size, uint64(160<<10))
}

// cpuTime is what this process has used, in the kernel, too.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU reports how much of that an operation took: other programs on the machine disturb it less than its duration.
func reportCPU(b *testing.B, since time.Duration) {
	b.Helper()
	b.ReportMetric(float64((cpuTime()-since).Microseconds())/float64(b.N), "cpu-µs/op")
}

// benchmarkPuts keeps four uploads under way, as the engine does.
func benchmarkPuts(b *testing.B, put func(ctx context.Context, name string) error) {
	b.Helper()
	b.SetBytes(putBytes)
	b.ReportAllocs()
	b.SetParallelism(max(1, 4/runtime.GOMAXPROCS(0)))
	var n atomic.Int64
	b.ResetTimer()
	defer reportCPU(b, cpuTime())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := put(b.Context(), strconv.FormatInt(n.Add(1), 10)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkPut compares 8 MiB through the store with the SDK alone: as it comes, and told not to sign payloads and not to
// compute checksums.
func BenchmarkPut(b *testing.B) {
	require.NoError(b, errServers)
	for _, server := range servers {
		data := random(1, putBytes)
		body := objstore.NewBody(manySlices(data, 16<<10)...)
		for _, signed := range []bool{false, true} {
			o := server.options()
			o.SignedPayload = signed
			b.Run(server.name+"/store/signed="+strconv.FormatBool(signed), func(b *testing.B) {
				o.Prefix = server.options().Prefix
				s := open(b, o)
				benchmarkPuts(b, func(ctx context.Context, name string) error { return s.Put(ctx, "bench/"+name, body) })
			})
		}
		for _, bare := range []bool{false, true} {
			b.Run(server.name+"/sdk/bare="+strconv.FormatBool(bare), func(b *testing.B) {
				client := plainClient(b.Context(), server.url)
				prefix := server.options().Prefix
				benchmarkPuts(b, func(ctx context.Context, name string) error {
					_, err := client.PutObject(ctx, &sdk.PutObjectInput{
						Bucket: aws.String(testBucket), Key: aws.String(prefix + "/bench/" + name), Body: bytes.NewReader(data),
					}, func(o *sdk.Options) {
						if bare {
							o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
							o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
						}
					})
					return err
				})
			})
		}
	}
}

// BenchmarkGet compares ranges of 256 KiB.
func BenchmarkGet(b *testing.B) {
	require.NoError(b, errServers)
	for _, server := range servers {
		s := open(b, server.options())
		require.NoError(b, s.Put(b.Context(), "bench", objstore.NewBody(random(1, putBytes))))
		p := make([]byte, getBytes)
		b.Run(server.name+"/store", func(b *testing.B) {
			b.SetBytes(getBytes)
			b.ReportAllocs()
			defer reportCPU(b, cpuTime())
			for i := range b.N {
				if err := s.GetRange(b.Context(), "bench", int64(i%32)*getBytes, p); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(server.name+"/sdk", func(b *testing.B) {
			client := plainClient(b.Context(), server.url)
			b.SetBytes(getBytes)
			b.ReportAllocs()
			defer reportCPU(b, cpuTime())
			for i := range b.N {
				off := (i % 32) * getBytes
				out, err := client.GetObject(b.Context(), &sdk.GetObjectInput{
					Bucket: aws.String(testBucket), Key: aws.String(s.prefix + "bench"),
					Range: aws.String("bytes=" + strconv.Itoa(off) + "-" + strconv.Itoa(off+getBytes-1)),
				})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(out.Body, p); err != nil {
					b.Fatal(err)
				}
				out.Body.Close()
			}
		})
	}
}

// BenchmarkSums is what sums over the body of a put cost: CRC-32C, which the engine computes once, and the SHA-256 of a
// signed payload.
func BenchmarkSums(b *testing.B) {
	data := random(1, putBytes)
	b.Run("crc32c", func(b *testing.B) {
		b.SetBytes(putBytes)
		for range b.N {
			objstore.Checksum(data)
		}
	})
	b.Run("sha256", func(b *testing.B) {
		b.SetBytes(putBytes)
		for range b.N {
			sha256.Sum256(data)
		}
	})
}
