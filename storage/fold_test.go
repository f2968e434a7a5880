package storage

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// foldLog notes how many objects each fold moves.
type foldLog struct {
	catalog.Catalog
	folds []int
}

func (c *foldLog) Fold(ctx context.Context, epoch catalog.BrokerEpoch, f catalog.Fold) error {
	c.folds = append(c.folds, len(f.Objects))
	return c.Catalog.Fold(ctx, epoch, f)
}

// A long tail is folded in parts, since commits wait behind each. This is what a process that died leaves behind: nobody
// hot merges it any more.
func TestLongTailsAreFoldedInParts(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t, 2)
	e := w.open(fanIn(1 << 20))
	const tail = 2*foldObjects + 10
	for i := range tail {
		require.NoError(t, w.produce(ctx, e, w.logs[i%2], value(i%2, i/2, 10)))
	}
	e.Kill()
	log := &foldLog{Catalog: w.cat}
	w.cat = log
	e = w.open(fanIn(1 << 20))
	require.NoError(t, e.Tidy(ctx))
	require.Equal(t, []int{foldObjects, foldObjects, 10}, log.folds)
	w.check(ctx, e)
	e.Kill()
}

// Where each object names many partitions, parts are larger: every part may name all of them again.
func TestFoldParts(t *testing.T) {
	objs := func(n int, partitions int32) []*tailObject {
		var b segment.Builder
		b.Begin()
		for p := range partitions {
			batch := []segment.Batch{{Offsets: 1, Records: 1, Length: 10, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}}
			b.Add(segment.Extent{TopicPartition: catalog.TopicPartition{Partition: p}, End: 1, Batches: batch}, make([]byte, 10))
		}
		built, err := b.Finish()
		require.NoError(t, err)
		o := &tailObject{row: catalog.TailEntry{Index: built.Index.AppendTail(nil)}}
		out := make([]*tailObject, n)
		for i := range out {
			out[i] = o
		}
		return out
	}
	require.Equal(t, 200, foldPart(objs(200, 1)))
	require.Equal(t, foldObjects, foldPart(objs(600, 1)))
	require.Equal(t, 500, foldPart(objs(600, 500)))
	require.Equal(t, 600, foldPart(objs(600, 1000)))
	broken := objs(600, 1)
	broken[0] = &tailObject{row: catalog.TailEntry{Index: []byte("?")}}
	require.Equal(t, 1, foldPart(broken))
}
