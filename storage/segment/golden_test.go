package segment

import (
	"context"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
)

var update = flag.Bool("update", false, "write the golden files of the current version; those of a released version never change")

// goldenExtents gives three extents of real batches: two topics, a leader epoch change, a transaction.
func goldenExtents(tb testing.TB) (extents []Extent, data [][]byte) {
	tb.Helper()
	a, b := topic(1), topic(2)
	add := func(tp catalog.TopicPartition, epoch int32, base int64, specs ...recordbatch.Spec) {
		e := Extent{TopicPartition: tp, LeaderEpoch: epoch, Base: base, End: base}
		var bytes []byte
		for i, s := range specs {
			s.BaseOffset, s.LeaderEpoch = e.End, epoch
			s.FirstTimestamp = 1_760_000_000_000 + int64(i)*250
			records := []recordbatch.Record{{Key: []byte("key"), Value: []byte("value")}}
			if !s.Control {
				records = append(records, recordbatch.Record{OffsetDelta: 1, TimestampDelta: 40, Value: make([]byte, 3000)})
			}
			raw, err := recordbatch.Build(s, records)
			require.NoError(tb, err)
			if s.Control {
				raw, err = recordbatch.BuildEndTxnMarker(s, i%2 == 0, 7)
				require.NoError(tb, err)
			}
			batch := batchOf(tb, raw)
			if s.Control {
				batch.Abort, batch.CoordinatorEpoch = i%2 != 0, 7
			}
			e.Batches = append(e.Batches, batch)
			e.End = batch.End()
			bytes = append(bytes, raw...)
		}
		extents, data = append(extents, e), append(data, bytes)
	}
	producer := func(seq int32) *recordbatch.Producer { return &recordbatch.Producer{ID: 4000, Epoch: 2, Sequence: seq} }
	add(catalog.TopicPartition{Topic: a, Partition: 0}, 5, 1_000_000,
		recordbatch.Spec{Producer: producer(10)}, recordbatch.Spec{Producer: producer(12)}, recordbatch.Spec{})
	add(catalog.TopicPartition{Topic: a, Partition: 0}, 6, 1_000_006, recordbatch.Spec{Producer: producer(14)})
	add(catalog.TopicPartition{Topic: b, Partition: 130}, 0, 0,
		recordbatch.Spec{Producer: producer(0), Transactional: true},
		recordbatch.Spec{Producer: producer(-1), Transactional: true, Control: true})
	return extents, data
}

func batchOf(tb testing.TB, raw []byte) Batch {
	tb.Helper()
	h, err := recordbatch.ParseHeader(raw)
	require.NoError(tb, err)
	return Batch{
		BaseOffset: h.BaseOffset, Offsets: h.LastOffsetDelta + 1, Records: h.NumRecords, Length: int32(len(raw)),
		MaxTimestamp: h.MaxTimestamp, ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Transactional: h.IsTransactional(), Control: h.IsControl(),
	}
}

func goldenObject(tb testing.TB) Object {
	tb.Helper()
	var b Builder
	b.Begin()
	extents, data := goldenExtents(tb)
	for i, e := range extents {
		b.Add(e, data[i])
	}
	o, err := b.Finish()
	require.NoError(tb, err)
	return o
}

// golden compares with a file that pins version 1.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, hex.Dump(want), hex.Dump(got), "version 1 of a format never changes: add version 2")
	return want
}

func TestGoldenObject(t *testing.T) {
	o := goldenObject(t)
	b := golden(t, "object_v1.bin", o.join())
	f, err := ReadFooter(context.Background(), store(b), "k", int64(len(b)))
	require.NoError(t, err)
	require.Equal(t, 3, f.Len())
	v, err := VerifyObject(context.Background(), store(b), "k", int64(len(b)), nil)
	require.NoError(t, err)
	require.Equal(t, Verified{Checksum: o.Checksum, Extents: 3, Batches: 6, Records: 11}, v)
}

func TestGoldenTail(t *testing.T) {
	o := goldenObject(t)
	ix, err := DecodeTail(golden(t, "tail_v1.bin", o.Index.AppendTail(nil)))
	require.NoError(t, err)
	require.Equal(t, &o.Index, ix)
}

func TestGoldenPacked(t *testing.T) {
	p, err := DecodePacked(golden(t, "packed_v1.bin", AppendPacked(nil, somePacked())))
	require.NoError(t, err)
	require.Equal(t, somePacked(), p)
}

func TestGoldenKeys(t *testing.T) {
	hour := time.Date(2025, 11, 24, 1, 0, 0, 0, time.UTC)
	process := [16]byte{0: 0xab, 15: 1}
	golden(t, "keys_v1.txt", []byte(LogKey(hour, process, 7, 42, 1)+"\n"+KeyOfSegment(hour, process, 7, 3, 2)+"\n"))
}
