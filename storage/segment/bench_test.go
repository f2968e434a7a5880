package segment

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// benchExtents is a log object of 8 MiB: 500 batches of 16 KiB over 100 partitions.
func benchExtents() (extents []Extent, data [][][]byte) {
	buffer := make([]byte, 16<<10)
	for p := range 100 {
		e := Extent{TopicPartition: catalog.TopicPartition{Topic: topic(1), Partition: int32(p)}, Base: 50_000_000, End: 50_000_000}
		var slices [][]byte
		for i := range 5 {
			e.Batches = append(e.Batches, Batch{
				BaseOffset: e.End, Offsets: 160, Records: 160, Length: int32(len(buffer)), MaxTimestamp: 1_760_000_000_000 + int64(i),
				ProducerID: 4000 + int64(p%7), ProducerEpoch: 1, BaseSequence: int32(e.End),
			})
			e.End += 160
			slices = append(slices, buffer)
		}
		extents, data = append(extents, e), append(data, slices)
	}
	return extents, data
}

func buildBench(b *Builder, extents []Extent, data [][][]byte) (Object, error) {
	b.Begin()
	for i := range extents {
		b.Add(extents[i], data[i]...)
	}
	return b.Finish()
}

// TestBuilderDoesNotCopy: record slices come out as they went in, and an object costs a handful of allocations
// however many batches it has.
func TestBuilderDoesNotCopy(t *testing.T) {
	extents, data := benchExtents()
	var b Builder
	o, err := buildBench(&b, extents, data)
	require.NoError(t, err)
	i := 1
	for _, slices := range data {
		for _, s := range slices {
			require.Same(t, &s[0], &o.Slices[i][0])
			i++
		}
	}
	require.Len(t, o.Slices, i+1)
	n := testing.AllocsPerRun(20, func() {
		if _, err := buildBench(&b, extents, data); err != nil {
			t.Error(err)
		}
	})
	require.LessOrEqual(t, n, 4.0)
}

func TestFinishedObjectsOutliveTheirBuilder(t *testing.T) {
	extents, data := benchExtents()
	var b Builder
	first, err := buildBench(&b, extents, data)
	require.NoError(t, err)
	before := first.join()
	_, err = buildBench(&b, extents[3:9], data[3:9])
	require.NoError(t, err)
	require.Equal(t, before, first.join())
	require.Len(t, first.Index.Extents, 100)
}

func BenchmarkBuilder(b *testing.B) {
	extents, data := benchExtents()
	var bu Builder
	b.SetBytes(500 * 16 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := buildBench(&bu, extents, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTail(b *testing.B) {
	extents, data := benchExtents()
	var bu Builder
	o, err := buildBench(&bu, extents, data)
	require.NoError(b, err)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = o.Index.AppendTail(buf[:0])
	}
	b.ReportMetric(float64(len(buf))/500, "bytes/batch")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/batch")
}

func BenchmarkDecodeTail(b *testing.B) {
	extents, data := benchExtents()
	var bu Builder
	o, err := buildBench(&bu, extents, data)
	require.NoError(b, err)
	buf := o.Index.AppendTail(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeTail(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/batch")
}
