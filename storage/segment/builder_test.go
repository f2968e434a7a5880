package segment

import (
	"context"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func TestObjectIsWhatItsFooterSays(t *testing.T) {
	for seed := range uint64(30) {
		r := seeded(seed)
		o, err := buildSome(r, 1+int(seed%3), 1+int(seed%5), 1+int(seed)*3, 20+int(seed)*100)
		require.NoError(t, err)
		b := o.join()
		require.EqualValues(t, len(b), o.Size)
		require.Equal(t, crc32.Checksum(b, castagnoli), o.Checksum)
		f, err := ReadFooter(context.Background(), store(b), "k", o.Size)
		require.NoError(t, err)
		own, err := o.Footer()
		require.NoError(t, err)
		require.Equal(t, own.Extents(), f.Extents())
		require.Equal(t, len(o.Index.Extents), f.Len())
		for i := range f.Blocks() {
			block := b[i*BlockSize : min((i+1)*BlockSize, int(f.DataEnd()))]
			require.Equal(t, crc32.Checksum(block, castagnoli), f.BlockSum(i))
		}
		for i, e := range o.Index.Extents {
			fe := f.Extent(i)
			require.Equal(t, e.TopicPartition, fe.TopicPartition)
			require.Equal(t, []int64{e.Base, e.End, e.Pos, e.Len, e.MaxTimestamp, int64(e.LeaderEpoch)},
				[]int64{fe.Base, fe.End, fe.Pos, fe.Len, fe.MaxTimestamp, int64(fe.LeaderEpoch)})
			require.Equal(t, e.Pos+e.Len, f.ExtentEnd(e.Pos))
			require.Equal(t, e.Pos+e.Len, f.ExtentEnd(e.Pos+e.Len-1))
			checkLookups(t, f, e)
		}
	}
}

// checkLookups compares Find and FindTime with a walk over the batches.
func checkLookups(t *testing.T, f *Footer, e Extent) {
	t.Helper()
	pos := e.Pos
	first := map[int64]Batch{} // by timestamp: the first batch that reaches it
	for _, b := range e.Batches {
		for _, offset := range []int64{b.BaseOffset, b.BaseOffset + int64(b.Offsets) - 1} {
			from, end, ok := f.Find(e.TopicPartition, offset)
			require.True(t, ok)
			require.LessOrEqual(t, from, pos)
			require.Less(t, pos-from, int64(RunBytes))
			require.Equal(t, e.Pos+e.Len, end)
			run, ok := f.FindRun(e.TopicPartition, offset)
			require.True(t, ok)
			require.True(t, run.Base <= offset && offset < run.End)
		}
		for _, ts := range []int64{b.MaxTimestamp, b.MaxTimestamp + 1} {
			if _, ok := first[ts]; !ok {
				for _, c := range e.Batches {
					if c.MaxTimestamp >= ts {
						first[ts] = c
						break
					}
				}
			}
			run, ok := f.FindTime(e.TopicPartition, e.Base, e.End, ts)
			want, some := first[ts]
			require.Equal(t, some, ok)
			if ok {
				require.True(t, run.Base <= want.BaseOffset && want.BaseOffset < run.End)
				require.GreaterOrEqual(t, run.MaxTimestamp, ts)
			}
		}
		pos += int64(b.Length)
	}
	for _, tp := range []catalog.TopicPartition{
		{Topic: e.Topic, Partition: e.Partition + 1},
		{Topic: topic(200), Partition: e.Partition},
		{Topic: topic(0), Partition: e.Partition},
	} {
		_, _, ok := f.Find(tp, e.Base)
		require.False(t, ok)
		_, ok = f.FindTime(tp, 0, 1<<62, 0)
		require.False(t, ok)
	}
}

func TestTimeBoundsOfALookup(t *testing.T) {
	tp := catalog.TopicPartition{Topic: topic(1)}
	e := Extent{TopicPartition: tp, Base: 100, End: 100}
	for i := range 1000 { // timestamps rise, then fall
		b := Batch{BaseOffset: e.End, Offsets: 1, Records: 1, Length: RunBytes, MaxTimestamp: int64(min(i, 1000-i))}
		e.Batches = append(e.Batches, b)
		e.End++
	}
	var b Builder
	b.Begin()
	b.Add(e, make([]byte, 1000*RunBytes))
	o, err := b.Finish()
	require.NoError(t, err)
	f, err := o.Footer()
	require.NoError(t, err)
	run, ok := f.FindTime(tp, 0, 1<<62, 300)
	require.True(t, ok)
	require.EqualValues(t, 400, run.Base)
	run, ok = f.FindTime(tp, 650, 1<<62, 300)
	require.True(t, ok)
	require.EqualValues(t, 650, run.Base)
	_, ok = f.FindTime(tp, 0, 400, 300)
	require.False(t, ok, "beyond end")
	_, ok = f.FindTime(tp, 850, 1<<62, 300)
	require.False(t, ok)
	_, ok = f.FindTime(tp, 0, 1<<62, 501)
	require.False(t, ok)
}

func TestBuilderRefusesWhatBreaksInvariants(t *testing.T) {
	good := func() Extent {
		return Extent{TopicPartition: catalog.TopicPartition{Topic: topic(3), Partition: 4}, Base: 10, End: 14, Batches: []Batch{
			{BaseOffset: 10, Offsets: 3, Records: 3, Length: 70}, {BaseOffset: 13, Offsets: 1, Records: 1, Length: 30},
		}}
	}
	for name, change := range map[string]func(*Extent){
		"gap":                func(e *Extent) { e.Batches[1].BaseOffset++ },
		"end":                func(e *Extent) { e.End++ },
		"no batches":         func(e *Extent) { e.Batches = nil },
		"length":             func(e *Extent) { e.Batches[0].Length++ },
		"negative length":    func(e *Extent) { e.Batches[0].Length = -1 },
		"no offsets":         func(e *Extent) { e.Batches[0].Offsets = 0 },
		"negative base":      func(e *Extent) { e.Base = -1 },
		"negative partition": func(e *Extent) { e.Partition = -1 },
		"order":              func(e *Extent) { e.Topic = topic(2) },
		"overlap":            func(e *Extent) { e.Partition = 3 },
	} {
		var b Builder
		b.Begin()
		before := good()
		before.Partition = 3
		b.Add(before, make([]byte, 100))
		e := good()
		change(&e)
		b.Add(e, make([]byte, 40), make([]byte, 60))
		_, err := b.Finish()
		require.ErrorIs(t, err, ErrInvalid, name)
		b.Begin()
		b.Add(good(), make([]byte, 100))
		_, err = b.Finish()
		require.NoError(t, err, "a builder is usable after an error")
	}
	var b Builder
	b.Add(good(), make([]byte, 100))
	_, err := b.Finish()
	require.ErrorIs(t, err, ErrInvalid)
	b.Begin()
	_, err = b.Finish()
	require.ErrorIs(t, err, ErrInvalid, "no extents")
}

func TestFooterCost(t *testing.T) {
	small, err := buildSome(seeded(1), 2, 10, 5, 2000)
	require.NoError(t, err)
	s := store(small.join())
	_, err = ReadFooter(context.Background(), s, "k", small.Size)
	require.NoError(t, err)
	require.Equal(t, 1, s.gets)

	// 256 MiB of one partition in batches of 4 KiB, without the bytes: the footer alone.
	var b Builder
	b.Begin()
	e := Extent{TopicPartition: catalog.TopicPartition{Topic: topic(1)}, Len: 256 << 20, Pos: headerSize}
	for range 65536 {
		e.Batches = append(e.Batches, Batch{BaseOffset: e.End, Offsets: 40, Records: 40, Length: 4096, MaxTimestamp: e.End / 100})
		e.End += 40
	}
	chunk := make([]byte, 1<<20)
	var slices [][]byte
	for range 256 {
		slices = append(slices, chunk)
	}
	b.Add(e, slices...)
	o, err := b.Finish()
	require.NoError(t, err)
	f, err := o.Footer()
	require.NoError(t, err)
	require.Equal(t, 65536, f.runs)
	require.Less(t, f.MemBytes(), int64(512<<10))
	t.Logf("footer of 65,536 entries: %d bytes in memory", f.MemBytes())
	require.Zero(t, testing.AllocsPerRun(100, func() { f.Find(e.TopicPartition, 1_234_567) }))
}

func TestLargeFooterTakesTwoReads(t *testing.T) {
	o, err := buildSome(seeded(1), 1, 10, 3000, 10)
	require.NoError(t, err)
	require.Greater(t, len(o.Slices[len(o.Slices)-1]), 1000)
	many, err := buildSome(seeded(1), 3, 2500, 1, 10)
	require.NoError(t, err)
	require.Greater(t, len(many.Slices[len(many.Slices)-1]), footerGuess)
	s := store(many.join())
	f, err := ReadFooter(context.Background(), s, "k", many.Size)
	require.NoError(t, err)
	require.Equal(t, 2, s.gets)
	require.Equal(t, len(many.Index.Extents), f.Len())
}

func TestDamagedFooterIsRefused(t *testing.T) {
	o, err := buildSome(seeded(5), 2, 2, 4, 300)
	require.NoError(t, err)
	b := o.join()
	f, err := o.Footer()
	require.NoError(t, err)
	for i := int(f.DataEnd()); i < len(b); i++ {
		bad := append([]byte(nil), b...)
		bad[i] ^= 0x10
		_, err := ReadFooter(context.Background(), store(bad), "k", o.Size)
		require.Error(t, err, "byte %d", i)
	}
	for _, size := range []int64{0, 1, 39, o.Size - 1} {
		_, err := ReadFooter(context.Background(), store(b), "k", size)
		require.ErrorIs(t, err, ErrCorrupt)
	}
	_, err = ReadFooter(context.Background(), store(b), "k", o.Size+1)
	require.Error(t, err)
}
