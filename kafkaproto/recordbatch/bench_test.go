package recordbatch

import (
	"fmt"
	"testing"
)

// BenchmarkValidate is what a produced MiB costs by codec and record size.
// bytes/s are those of the records before compression.
func BenchmarkValidate(b *testing.B) {
	for _, size := range []int{1024, 100} {
		for _, c := range allCodecs {
			b.Run(fmt.Sprintf("%s/%dB", c, size), func(b *testing.B) {
				batch := mustBuild(b, Spec{Codec: c}, makeRecords(1<<20/size, size))
				b.SetBytes(1 << 20)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Validate(batch, Limits{NowMillis: 1, TimestampBeforeMaxMillis: 100, TimestampAfterMaxMillis: 100}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestValidateAllocations: the path every produced byte takes.
func TestValidateAllocations(t *testing.T) {
	for _, c := range allCodecs {
		batch := mustBuild(t, Spec{Codec: c}, makeRecords(200, 100))
		got := testing.AllocsPerRun(200, func() {
			if _, err := Validate(batch, Limits{}); err != nil {
				t.Fatal(err)
			}
		})
		// A pool may be emptied between two runs, and the race detector
		// empties pools on purpose: then only the absolute zero is asserted.
		allowed := 0.0
		if c != CodecNone {
			allowed = pooledAllocations
		}
		if got > allowed {
			t.Errorf("%s: %.1f allocations a batch, want at most %.1f", c, got, allowed)
		}
	}
}
