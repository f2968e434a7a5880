package segment

import (
	"hash/crc32"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func TestTailRoundTrip(t *testing.T) {
	for seed := range uint64(50) {
		o, err := buildSome(seeded(seed), 1+int(seed%4), 1+int(seed%7), 1+int(seed%9), 300)
		require.NoError(t, err)
		require.NoError(t, o.Index.Validate())
		b := o.Index.AppendTail([]byte("before"))
		ix, err := DecodeTail(b[6:])
		require.NoError(t, err)
		require.Equal(t, &o.Index, ix)
		require.Equal(t, b[6:], ix.AppendTail(nil))
	}
}

func TestTailKeepsPositionGaps(t *testing.T) {
	o, err := buildSome(seeded(1), 2, 3, 3, 300)
	require.NoError(t, err)
	ix := &Index{Extents: o.Index.Extents[1:]} // a topic was deleted: its extents are left out
	got, err := DecodeTail(ix.AppendTail(nil))
	require.NoError(t, err)
	require.Equal(t, ix, got)
}

func TestEmptyTail(t *testing.T) {
	ix, err := DecodeTail((&Index{}).AppendTail(nil))
	require.NoError(t, err)
	require.Empty(t, ix.Extents)
}

func TestTailSize(t *testing.T) {
	size := func(partitions, batches int) int {
		ix := &Index{}
		pos := int64(headerSize)
		for p := range partitions {
			e := Extent{TopicPartition: catalog.TopicPartition{Topic: topic(1), Partition: int32(p)}, LeaderEpoch: 4, Pos: pos}
			e.Base = 40_000_000 + int64(p)*1000
			e.End = e.Base
			for i := range batches {
				e.Batches = append(e.Batches, Batch{
					BaseOffset: e.End, Offsets: 160, Records: 160, Length: 15_900 + int32(i), MaxTimestamp: 1_760_000_000_000 + int64(i*7%5),
					ProducerID: 5000 + int64(p%6), BaseSequence: 20_000_000 + int32(i)*160,
				})
				e.End += 160
				e.Len += 15_900 + int64(i)
				e.MaxTimestamp = max(e.MaxTimestamp, e.Batches[i].MaxTimestamp)
			}
			pos += e.Len
			ix.Extents = append(ix.Extents, e)
		}
		require.NoError(t, ix.Validate())
		b := ix.AppendTail(nil)
		require.LessOrEqual(t, len(b), TailSizeEstimate(partitions, partitions*batches))
		return len(b)
	}
	one, two := size(1000, 1), size(1000, 2)
	t.Logf("%d bytes an extent of one batch, %d the next batch", one/1000, (two-one)/1000)
	require.Less(t, one, 1000*24)
	require.Less(t, two-one, 1000*12)
}

func TestDecodersRefuseEveryDamage(t *testing.T) {
	o, err := buildSome(seeded(3), 2, 2, 3, 300)
	require.NoError(t, err)
	tail := o.Index.AppendTail(nil)
	packed := AppendPacked(nil, somePacked())
	for name, c := range map[string]struct {
		b      []byte
		decode func([]byte) error
	}{
		"tail":   {tail, func(b []byte) error { _, err := DecodeTail(b); return err }},
		"packed": {packed, func(b []byte) error { _, err := DecodePacked(b); return err }},
	} {
		for i := range c.b {
			bad := append([]byte(nil), c.b...)
			bad[i] ^= 0x41
			require.Error(t, c.decode(bad), "%s: byte %d", name, i)
			require.ErrorIs(t, c.decode(c.b[:i]), ErrCorrupt, "%s: cut at %d", name, i)
			// The same damage with a right checksum must be a clean error or another valid value, never a panic.
			body := append([]byte(nil), bad[:len(bad)-4]...)
			_ = c.decode(appendSum(body, 0))
		}
		require.ErrorIs(t, c.decode(append(append([]byte(nil), c.b...), 0)), ErrCorrupt)
		longer := append(append([]byte(nil), c.b[:len(c.b)-4]...), 0)
		require.ErrorIs(t, c.decode(appendSum(longer, 0)), ErrCorrupt, "trailing bytes")
		newer := append([]byte(nil), c.b...)
		newer[0] = 2
		require.ErrorIs(t, c.decode(newer), ErrVersion)
	}
}

func TestHugeCountsAreRefusedBeforeAllocation(t *testing.T) {
	huge := []byte{1, 0xff, 0xff, 0xff, 0xff, 0x07, 0xff, 0xff, 0xff, 0xff, 0x07, 0xff, 0xff, 0xff, 0xff, 0x07}
	huge = appendSum(huge, 0)
	for range 2 {
		n := testing.AllocsPerRun(10, func() { _, _ = DecodeTail(huge); _, _ = DecodePacked(huge) })
		require.Less(t, n, 50.0)
	}
	_, err := DecodeTail(huge)
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = DecodePacked(huge)
	require.ErrorIs(t, err, ErrCorrupt)
}

func somePacked() []PackedExtent {
	return []PackedExtent{
		{Object: 1000, Base: 5, End: 10, Pos: 8, Len: 500, LeaderEpoch: 3, MaxTimestamp: 1_760_000_000_000},
		{Object: 1001, Base: 10, End: 700, Pos: 70_000, Len: 9000, LeaderEpoch: 3, MaxTimestamp: 1_760_000_000_100},
		{Object: 999, Base: 900, End: 901, Pos: 79_000, Len: 70, LeaderEpoch: 4, MaxTimestamp: -1},
	}
}

func TestPackedRoundTrip(t *testing.T) {
	for _, extents := range [][]PackedExtent{{}, somePacked()[:1], somePacked()} {
		b := AppendPacked(nil, extents)
		got, err := DecodePacked(b)
		require.NoError(t, err)
		require.Equal(t, extents, got)
	}
	_, err := DecodePacked(AppendPacked(nil, []PackedExtent{somePacked()[1], somePacked()[0]}))
	require.ErrorIs(t, err, ErrCorrupt, "out of order")
	_, err = DecodePacked(AppendPacked(nil, []PackedExtent{{Object: 1, Base: 1, End: 1, Pos: 8, Len: 1}}))
	require.ErrorIs(t, err, ErrCorrupt, "empty")
}

func TestSequencesWrapAsKafkas(t *testing.T) {
	require.Equal(t, int32(4), nextSequence(&Batch{BaseSequence: math.MaxInt32 - 5, Offsets: 10}))
	require.Equal(t, int32(0), nextSequence(&Batch{BaseSequence: math.MaxInt32, Offsets: 1}))
	require.Equal(t, int32(-1), nextSequence(&Batch{BaseSequence: -1, Offsets: 1}))
}

func TestCombine(t *testing.T) {
	b := make([]byte, 700_000)
	for i := range b {
		b[i] = byte(i * 31 >> 3)
	}
	for _, cut := range []int{0, 1, 17, BlockSize, 500_000, len(b) - 1, len(b)} {
		got := combine(crc32.Checksum(b[:cut], castagnoli), crc32.Checksum(b[cut:], castagnoli), int64(len(b)-cut))
		require.Equal(t, crc32.Checksum(b, castagnoli), got)
	}
	require.Equal(t, crc32.Checksum(b[:2*BlockSize], castagnoli),
		combine(crc32.Checksum(b[:BlockSize], castagnoli), crc32.Checksum(b[BlockSize:2*BlockSize], castagnoli), BlockSize))
}

func TestKeys(t *testing.T) {
	hour := time.Date(2025, 11, 24, 1, 59, 3, 0, time.FixedZone("x", 3600))
	process := [16]byte{0, 0x11, 0x22, 15: 0xff}
	s := LogKey(hour, process, 7, 42, 1)
	require.Equal(t, "log/2025112400/001122000000000000000000000000ff/000000000007-000000000000042-001", s)
	k, err := ParseKey(s)
	require.NoError(t, err)
	require.Equal(t, Key{KindLog, hour.UTC().Truncate(time.Hour), process, 7, 42, 1}, k)
	require.Less(t, s, LogKey(hour, process, 7, 43, 1))
	require.Less(t, LogKey(hour, process, 7, 99, 12), LogKey(hour, process, 7, 100, 1))

	s = KeyOfSegment(hour, process, math.MaxInt64, math.MaxInt64, 1000)
	k, err = ParseKey(s)
	require.NoError(t, err)
	require.Equal(t, s, k.String())
	require.Equal(t, KindSegment, k.Kind)

	for _, bad := range []string{
		"", "log", "log/2025112400/00/1-2-3", "x" + s, s + "/", s + "0x", "other" + s[7:],
		"log/2025112400/001122000000000000000000000000FF/000000000007-000000000000042-001",
		"log/2025112400/001122000000000000000000000000ff/7-42-1",
		"log/2025112400/001122000000000000000000000000ff/+00000000007-000000000000042-001",
		"log/2025112424/001122000000000000000000000000ff/000000000007-000000000000042-001",
	} {
		_, err := ParseKey(bad)
		require.ErrorIs(t, err, ErrKey, bad)
	}
}
