package segment

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

// realExtent gives batches of the sizes asked for, or a little more.
func realExtent(tb testing.TB, tp catalog.TopicPartition, sizes ...int) (Extent, []byte) {
	tb.Helper()
	e := Extent{TopicPartition: tp, LeaderEpoch: 3, Base: 70, End: 70}
	var data []byte
	for i, size := range sizes {
		raw, err := recordbatch.Build(recordbatch.Spec{BaseOffset: e.End, LeaderEpoch: 3, FirstTimestamp: int64(1000 + i*7%50)},
			[]recordbatch.Record{{Value: make([]byte, size)}})
		require.NoError(tb, err)
		e.Batches = append(e.Batches, batchOf(tb, raw))
		e.End++
		data = append(data, raw...)
	}
	return e, data
}

func TestVerifyAcrossWindows(t *testing.T) {
	sizes := []int{1, 5 << 20, 100, 9 << 20, 3000, 3000, 3000}
	for i := range 2000 {
		sizes = append(sizes, i*3)
	}
	var b Builder
	b.Begin()
	e, data := realExtent(t, catalog.TopicPartition{Topic: topic(1)}, sizes...)
	b.Add(e, data)
	e, data = realExtent(t, catalog.TopicPartition{Topic: topic(1), Partition: 9}, 10)
	b.Add(e, data)
	o, err := b.Finish()
	require.NoError(t, err)
	var done []int64
	v, err := VerifyObject(context.Background(), store(o.join()), "k", o.Size, func(n int64) { done = append(done, n) })
	require.NoError(t, err)
	require.Equal(t, Verified{Checksum: o.Checksum, Extents: 2, Batches: 2008, Records: 2008}, v)
	require.Equal(t, o.Size, done[len(done)-1])
}

func TestVerifyFindsEveryDamage(t *testing.T) {
	o := goldenObject(t)
	b := o.join()
	for i := 0; i < len(b); i += 1 + i%7 {
		bad := append([]byte(nil), b...)
		bad[i] ^= 0x20
		_, err := VerifyObject(context.Background(), store(bad), "k", o.Size, nil)
		require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion), "byte %d: %v", i, err)
	}
	newer := append([]byte(nil), b...)
	newer[4] = 2
	_, err := VerifyObject(context.Background(), store(newer), "k", o.Size, nil)
	require.ErrorIs(t, err, ErrVersion)
}

// Right sums over a wrong index: a defect of the writer, not of the store.
func TestVerifyComparesBatchesWithTheIndex(t *testing.T) {
	for name, change := range map[string]func(*Extent, []byte){
		"offset":     func(_ *Extent, b []byte) { recordbatch.SetBaseOffset(b, 71) },
		"epoch":      func(_ *Extent, b []byte) { recordbatch.SetLeaderEpoch(b, 4) },
		"crc":        func(_ *Extent, b []byte) { b[62] ^= 1 },
		"length":     func(_ *Extent, b []byte) { b[11]++ },
		"magic":      func(_ *Extent, b []byte) { b[16] = 1 },
		"timestamp":  func(e *Extent, _ []byte) { e.Batches[0].MaxTimestamp += 1000 },
		"more":       func(e *Extent, _ []byte) { e.Batches[1].Offsets++; e.End++ },
		"boundaries": func(e *Extent, _ []byte) { e.Batches[0].Length++; e.Batches[1].Length-- },
	} {
		e, data := realExtent(t, catalog.TopicPartition{Topic: topic(1)}, RunBytes, RunBytes)
		change(&e, data)
		var b Builder
		b.Begin()
		b.Add(e, data)
		o, err := b.Finish()
		require.NoError(t, err)
		_, err = VerifyObject(context.Background(), store(o.join()), "k", o.Size, nil)
		require.ErrorIs(t, err, ErrCorrupt, name)
	}
}

func TestDescribe(t *testing.T) {
	o := goldenObject(t)
	s := store(o.join())
	d, err := Describe(context.Background(), s, "k", o.Size)
	require.NoError(t, err)
	require.Nil(t, d.Parsed)
	require.Equal(t, []int{1, 2, 2, 3}, []int{d.Blocks, d.Topics, d.Partitions, len(d.Extents)})
	require.Equal(t, o.Size, d.DataBytes+d.FooterBytes)
	_, err = Describe(context.Background(), s, "k", 20)
	require.ErrorIs(t, err, ErrCorrupt)
}
