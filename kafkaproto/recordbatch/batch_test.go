package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

var allCodecs = []Codec{CodecNone, CodecGzip, CodecSnappy, CodecLZ4, CodecZstd}

// makeRecords makes n records of about size bytes that compress a little.
func makeRecords(n, size int) []Record {
	rng := rand.New(rand.NewPCG(1, 2))
	records := make([]Record, n)
	for i := range records {
		v := make([]byte, size)
		for j := range v {
			v[j] = "abcdefghijklmnop"[rng.IntN(16)]
		}
		records[i] = Record{OffsetDelta: int32(i), TimestampDelta: int64(i % 7), Key: fmt.Appendf(nil, "key-%d", i), Value: v}
	}
	return records
}

func mustBuild(tb testing.TB, s Spec, records []Record) []byte {
	tb.Helper()
	b, err := Build(s, records)
	require.NoError(tb, err)
	return b
}

func collect(b []byte) ([]Record, error) {
	var out []Record
	for r, err := range Records(b, 0) {
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

// oddRecords has what implementations get wrong: null against empty, headers
// repeated and null, negative timestamp deltas, long varints.
func oddRecords() []Record {
	return []Record{
		{OffsetDelta: 0},
		{OffsetDelta: 1, TimestampDelta: -5, Key: []byte{}, Value: []byte{}},
		{OffsetDelta: 2, TimestampDelta: 1 << 40, Key: []byte("k"), Value: nil, Headers: []RecordHeader{
			{Key: "a", Value: []byte("1")}, {Key: "a"}, {Key: "", Value: []byte{}},
		}},
		{OffsetDelta: 3, Key: nil, Value: bytes.Repeat([]byte("v"), 200_000)},
	}
}

func TestBuildValidateRead(t *testing.T) {
	for _, c := range allCodecs {
		t.Run(c.String(), func(t *testing.T) {
			want := oddRecords()
			b := mustBuild(t, Spec{FirstTimestamp: 1000, Codec: c, Producer: &Producer{ID: 7, Epoch: 1, Sequence: math.MaxInt32 - 1}, Transactional: true}, want)
			h, err := Validate(b, Limits{})
			require.NoError(t, err)
			require.Equal(t, len(b), h.Size())
			require.Equal(t, c, h.Compression())
			require.True(t, h.IsTransactional())
			require.False(t, h.IsControl())
			require.EqualValues(t, 1, h.LastSequence(), "sequences wrap to 0")
			require.EqualValues(t, 1000+1<<40, h.MaxTimestamp)
			got, err := collect(b)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestRecompress(t *testing.T) {
	want := oddRecords()
	for _, from := range allCodecs {
		b := mustBuild(t, Spec{Codec: from, Producer: &Producer{ID: 1}}, want)
		for _, to := range allCodecs {
			for _, level := range []int{DefaultLevel, 1, 9, 22, -5} {
				out, err := Recompress(bytes.Clone(b), to, level, 0)
				require.NoError(t, err, "%s to %s", from, to)
				h, err := Validate(out, Limits{})
				require.NoError(t, err, "%s to %s", from, to)
				require.Equal(t, to, h.Compression())
				require.EqualValues(t, 1, h.ProducerID)
				got, err := collect(out)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		}
	}
}

func TestSetters(t *testing.T) {
	b := mustBuild(t, Spec{FirstTimestamp: 10}, makeRecords(3, 10))
	SetBaseOffset(b, 1<<40)
	SetLeaderEpoch(b, 9)
	require.True(t, ChecksumOK(b), "offset and epoch are outside the checksum")
	SetLogAppendTime(b, 555)
	require.True(t, ChecksumOK(b))
	h, err := ParseHeader(b)
	require.NoError(t, err)
	require.True(t, h.LogAppendTime())
	require.EqualValues(t, 555, h.MaxTimestamp)
	require.EqualValues(t, 10, h.FirstTimestamp)
	require.EqualValues(t, 1<<40+2, h.LastOffset())
	require.EqualValues(t, 9, h.LeaderEpoch)
	_, err = Validate(b, Limits{})
	require.Equal(t, KindInvalidRecord, KindOf(err))
	_, err = Validate(b, Limits{AllowControl: true})
	require.NoError(t, err)
}

// TestMaxTimestampRepaired: Kafka puts right what old clients leave wrong.
func TestMaxTimestampRepaired(t *testing.T) {
	b := mustBuild(t, Spec{FirstTimestamp: 100}, makeRecords(7, 10))
	setMaxTimestamp(b, 1<<50)
	h, err := Validate(b, Limits{NowMillis: 100, TimestampBeforeMaxMillis: 10, TimestampAfterMaxMillis: 10})
	require.NoError(t, err)
	require.EqualValues(t, 106, h.MaxTimestamp)
	require.True(t, ChecksumOK(b))
	again, err := ParseHeader(b)
	require.NoError(t, err)
	require.Equal(t, h, again)
}

func TestTimestampLimits(t *testing.T) {
	const now = 1_000_000
	one := func(ts int64) []byte {
		return mustBuild(t, Spec{FirstTimestamp: ts}, []Record{{Key: []byte("k")}})
	}
	l := Limits{NowMillis: now, TimestampBeforeMaxMillis: 100, TimestampAfterMaxMillis: 50}
	for ts, ok := range map[int64]bool{
		now: true, now - 100: true, now - 101: false, now + 50: true, now + 51: false,
		NoTimestamp: true, math.MaxInt64: false, math.MinInt64: false,
	} {
		_, err := Validate(one(ts), l)
		if ok {
			require.NoError(t, err, ts)
			continue
		}
		require.Equal(t, KindInvalidTimestamp, KindOf(err), ts)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, 0, e.BadRecord)
	}
	l.TimestampBeforeMaxMillis, l.TimestampAfterMaxMillis = math.MaxInt64, math.MaxInt64
	for _, ts := range []int64{0, 1, math.MaxInt64} {
		_, err := Validate(one(ts), l)
		require.NoError(t, err)
	}
	_, err := Validate(one(math.MaxInt64), Limits{NowMillis: now, LogAppendTime: true})
	require.NoError(t, err, "the broker's time will replace it")
}

// body replaces the records of a batch and makes length and checksum right.
func body(b, records []byte) []byte {
	out := append(bytes.Clone(b[:HeaderSize]), records...)
	h, _ := ParseHeader(out)
	return finish(out, h)
}

func TestValidateRefuses(t *testing.T) {
	good := mustBuild(t, Spec{}, makeRecords(3, 50))
	patch := func(at int, v ...byte) func() []byte {
		return func() []byte {
			b := bytes.Clone(good)
			copy(b[at:], v)
			setChecksum(b)
			return b
		}
	}
	i32 := func(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }
	rec := func(fields ...int64) []byte {
		var p []byte
		for i, f := range fields {
			if i == 0 {
				p = append(p, byte(f))
				continue
			}
			p = appendVarint(p, f)
		}
		return append(appendVarint(nil, int64(len(p))), p...)
	}
	single := mustBuild(t, Spec{}, []Record{{Key: []byte("k"), Value: []byte("v")}})
	of := func(p ...byte) func() []byte { return func() []byte { return body(single, p) } }
	for _, c := range []struct {
		name string
		b    func() []byte
		kind ErrorKind
		l    Limits
	}{
		{"empty", func() []byte { return nil }, KindCorrupt, Limits{}},
		{"short", func() []byte { return good[:HeaderSize-1] }, KindCorrupt, Limits{}},
		{"cut", func() []byte { return good[:len(good)-1] }, KindInvalidRecord, Limits{}},
		{"two batches", func() []byte { return append(bytes.Clone(good), good...) }, KindInvalidRecord, Limits{}},
		{"crc", func() []byte { b := bytes.Clone(good); b[len(b)-1] ^= 1; return b }, KindCorrupt, Limits{}},
		{"negative length", patch(lengthAt, i32(-1)...), KindCorrupt, Limits{}},
		{"least length", patch(lengthAt, i32(math.MinInt32)...), KindCorrupt, Limits{}},
		{"short length", patch(lengthAt, i32(48)...), KindCorrupt, Limits{}},
		{"long length", patch(lengthAt, i32(math.MaxInt32)...), KindInvalidRecord, Limits{}},
		{"magic 0", patch(magicAt, 0), KindInvalidRecord, Limits{}},
		{"magic 1", patch(magicAt, 1), KindInvalidRecord, Limits{}},
		{"magic 1, short", func() []byte { b := bytes.Clone(good[:26]); b[magicAt] = 1; return b }, KindInvalidRecord, Limits{}},
		{"magic 3", patch(magicAt, 3), KindCorrupt, Limits{}},
		{"magic -1", patch(magicAt, 255), KindCorrupt, Limits{}},
		{"codec 5", patch(attrAt+1, 5), KindUnsupportedCompression, Limits{}},
		{"codec lies", patch(attrAt+1, byte(CodecZstd)), KindInvalidRecord, Limits{}},
		{"control", patch(attrAt+1, attrControl), KindInvalidRecord, Limits{}},
		{"log append time", patch(attrAt+1, attrLogAppendTime), KindInvalidTimestamp, Limits{}},
		{"delete horizon", patch(attrAt+1, attrDeleteHorizon), KindInvalidRecord, Limits{}},
		{"attributes from the future", patch(attrAt, 1), KindInvalidRecord, Limits{}},
		{"attributes from the far future", patch(attrAt, 0x80), KindInvalidRecord, Limits{AllowControl: true}},
		{"base offset", patch(baseOffsetAt+7, 1), KindInvalidRecord, Limits{}},
		{"count low", patch(numRecordsAt, i32(2)...), KindInvalidRecord, Limits{}},
		{"count high", patch(numRecordsAt, i32(4)...), KindInvalidRecord, Limits{}},
		{"count zero", patch(numRecordsAt, i32(0)...), KindInvalidRecord, Limits{}},
		{"count negative", patch(numRecordsAt, i32(-1)...), KindInvalidRecord, Limits{}},
		{"counts agree but lie", patch(lastOffsetDeltaAt, append(append(i32(math.MaxInt32-1), good[firstTimestampAt:numRecordsAt]...), i32(math.MaxInt32)...)...), KindInvalidRecord, Limits{}},
		{"last offset delta negative", patch(lastOffsetDeltaAt, i32(-1)...), KindInvalidRecord, Limits{}},
		{"producer id", patch(producerIDAt, 0x80, 0, 0, 0, 0, 0, 0, 0), KindInvalidRecord, Limits{}},
		{"no sequence", patch(producerIDAt, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0), KindInvalidRecord, Limits{}},
		{"no epoch", patch(producerIDAt, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 0, 0, 0, 0), KindInvalidRecord, Limits{}},
		{"transactional, no producer", patch(attrAt+1, attrTransactional), KindInvalidRecord, Limits{}},
		{"too large", func() []byte { return good }, KindTooLarge, Limits{MaxBatchBytes: len(good) - 1}},
		{"no key", func() []byte { return mustBuild(t, Spec{}, []Record{{Value: []byte("v")}}) }, KindInvalidRecord, Limits{RequireKey: true}},
		{"record of no bytes", of(0), KindInvalidRecord, Limits{}},
		{"no bytes", of(), KindInvalidRecord, Limits{}},
		{"record negative", of(appendVarint(nil, -1)...), KindInvalidRecord, Limits{}},
		{"record beyond", of(appendVarint(nil, 1000)...), KindInvalidRecord, Limits{}},
		{"endless varint", of(bytes.Repeat([]byte{0xff}, 30)...), KindInvalidRecord, Limits{}},
		{"offset delta", of(rec(0, 0, 1, -1, -1, 0)...), KindInvalidRecord, Limits{}},
		{"offset delta huge", of(rec(0, 0, math.MinInt64, -1, -1, 0)...), KindInvalidRecord, Limits{}},
		{"key length", of(rec(0, 0, 0, -2, -1, 0)...), KindInvalidRecord, Limits{}},
		{"key beyond", of(rec(0, 0, 0, 50, -1, 0)...), KindInvalidRecord, Limits{}},
		{"value length", of(rec(0, 0, 0, -1, -2, 0)...), KindInvalidRecord, Limits{}},
		{"value beyond", of(rec(0, 0, 0, -1, math.MaxInt64, 0)...), KindInvalidRecord, Limits{}},
		{"headers negative", of(rec(0, 0, 0, -1, -1, -1)...), KindInvalidRecord, Limits{}},
		{"headers many", of(rec(0, 0, 0, -1, -1, math.MaxInt32)...), KindInvalidRecord, Limits{}},
		{"header key null", of(rec(0, 0, 0, -1, -1, 1, -1, -1)...), KindInvalidRecord, Limits{}},
		{"header value length", of(rec(0, 0, 0, -1, -1, 1, 0, -2)...), KindInvalidRecord, Limits{}},
		{"record longer than fields", of(rec(0, 0, 0, -1, -1, 0, 0, 0)...), KindInvalidRecord, Limits{}},
		{"record shorter than fields", of(2, 0, 0, 0, 1, 1, 0), KindInvalidRecord, Limits{}},
		{"bytes after", of(append(rec(0, 0, 0, -1, -1, 0), 0)...), KindInvalidRecord, Limits{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.b()
			before := bytes.Clone(b)
			_, err := Validate(b, c.l)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.kind, e.Kind, e.Msg)
			require.NotEmpty(t, e.Msg)
			require.Equal(t, before, b, "a refused batch is not touched")

			// The same records compressed are refused too.
			if len(b) < HeaderSize || !ChecksumOK(b) || b[attrAt+1]&attrCodec != 0 {
				return
			}
			if h, err := ParseHeader(b); err != nil || h.Size() != len(b) || c.kind == KindTooLarge {
				return
			}
			for _, codec := range allCodecs[1:] {
				z, err := compress(bytes.Clone(b[:HeaderSize]), codec, 0, b[HeaderSize:])
				require.NoError(t, err)
				h, _ := ParseHeader(b)
				h.Attributes |= int16(codec)
				_, err = Validate(finish(z, h), c.l)
				require.Equal(t, c.kind, KindOf(err), "%s: %v", codec, err)
			}
		})
	}
	_, err := Validate(bytes.Clone(good), Limits{RequireKey: true, MaxBatchBytes: len(good)})
	require.NoError(t, err)
}

// TestCompressedCut cuts compressed bodies everywhere: no panic, no success
// but where only a trailer nobody needs is missing.
func TestCompressedCut(t *testing.T) {
	for _, c := range allCodecs[1:] {
		b := mustBuild(t, Spec{Codec: c}, makeRecords(20, 40))
		for cut := HeaderSize; cut < len(b)-8; cut++ {
			_, err := Validate(body(b, b[HeaderSize:cut]), Limits{})
			require.Error(t, err, "%s cut at %d", c, cut)
		}
	}
}

func TestCompressionBomb(t *testing.T) {
	// One record whose value is 256 MiB of zeros, and 256 MiB of records.
	value := make([]byte, 32<<20)
	for _, c := range allCodecs[1:] {
		b := mustBuild(t, Spec{Codec: c}, []Record{{Value: value}})
		_, err := Validate(b, Limits{})
		require.NoError(t, err, c)
		_, err = Validate(b, Limits{MaxDecompressedBytes: 1 << 20})
		require.Equal(t, KindTooLarge, KindOf(err), "%s: %v", c, err)
		_, err = Recompress(b, CodecNone, 0, 1<<20)
		require.Equal(t, KindTooLarge, KindOf(err), "%s: %v", c, err)
		for _, err = range Records(b, 1<<20) {
			require.Equal(t, KindTooLarge, KindOf(err), "%s: %v", c, err)
		}
	}
}

// TestZstdLargeWindow: levels above 19 ask for windows no broker would hold
// for a stream, yet their batches are as small as any.
func TestZstdLargeWindow(t *testing.T) {
	plain := mustBuild(t, Spec{}, []Record{{Value: bytes.Repeat([]byte("large window "), 1<<20)}})
	for name, opts := range map[string][]zstd.EOption{
		"stream":         {zstd.WithWindowSize(64 << 20)},
		"single segment": {zstd.WithWindowSize(64 << 20), zstd.WithSingleSegment(true)},
	} {
		enc, err := zstd.NewWriter(nil, opts...)
		require.NoError(t, err)
		z := enc.EncodeAll(plain[HeaderSize:], nil)
		if name == "stream" {
			var out bytes.Buffer
			enc.Reset(&out)
			_, err = enc.Write(plain[HeaderSize:])
			require.NoError(t, err)
			require.NoError(t, enc.Close())
			z = out.Bytes()
		}
		var h zstd.Header
		require.NoError(t, h.Decode(z))
		require.True(t, h.WindowSize > zstdStreamWindow || h.SingleSegment, "the case is not what it says")
		b := bytes.Clone(plain)
		b[attrAt+1] = byte(CodecZstd)
		b = body(b, z)
		_, err = Validate(b, Limits{})
		require.NoError(t, err, name)
		_, err = Validate(b, Limits{MaxDecompressedBytes: int64(len(plain) - HeaderSize)})
		require.NoError(t, err, name)
		_, err = Validate(b, Limits{MaxDecompressedBytes: int64(len(plain) - HeaderSize - 1)})
		require.Equal(t, KindTooLarge, KindOf(err), "%s: %v", name, err)
		got, err := collect(b)
		require.NoError(t, err)
		want, err := collect(plain)
		require.NoError(t, err)
		require.Equal(t, want, got)
		_, err = Validate(body(b, z[:len(z)-9]), Limits{})
		require.Equal(t, KindInvalidRecord, KindOf(err), "%s: %v", name, err)
	}
}

// TestClaimsAllocateNothing: lengths a codec's framing claims are not believed.
func TestClaimsAllocateNothing(t *testing.T) {
	one := mustBuild(t, Spec{}, []Record{{}})
	xerial := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for name, c := range map[string]struct {
		codec Codec
		body  []byte
	}{
		"snappy raw claims 4 GiB":     {CodecSnappy, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0}},
		"snappy raw claims 100 MiB":   {CodecSnappy, binary.AppendUvarint(nil, 100<<20)},
		"snappy block claims 2 GiB":   {CodecSnappy, append(bytes.Clone(xerial), 0x7f, 0xff, 0xff, 0xff)},
		"snappy block claims -1":      {CodecSnappy, append(bytes.Clone(xerial), 0xff, 0xff, 0xff, 0xff)},
		"zstd window of 1 GiB":        {CodecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 1, 0, 0}},
		"zstd single segment, 64 GiB": {CodecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0}},
		"zstd second frame, 64 GiB": {CodecZstd, []byte{
			0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0,
			0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0,
		}},
		"lz4 legacy":       {CodecLZ4, []byte{0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0}},
		"lz4 dependent":    {CodecLZ4, []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x40, 0xc0}},
		"lz4 empty":        {CodecLZ4, nil},
		"gzip empty":       {CodecGzip, nil},
		"gzip header only": {CodecGzip, []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := body(one, c.body)
			raw[attrAt+1] = byte(c.codec)
			setChecksum(raw)
			got := testing.Benchmark(func(b *testing.B) {
				b.Helper()
				b.ReportAllocs()
				for range min(b.N, 1) {
					_, err := Validate(raw, Limits{MaxDecompressedBytes: 16 << 20})
					if KindOf(err) != KindInvalidRecord && KindOf(err) != KindTooLarge {
						b.Fatalf("error %v", err)
					}
				}
			})
			require.Less(t, got.MemBytes, uint64(20<<20))
		})
	}
}

func TestNextAndSplit(t *testing.T) {
	a, b := mustBuild(t, Spec{}, makeRecords(2, 10)), mustBuild(t, Spec{BaseOffset: 2}, makeRecords(3, 10))
	run := append(bytes.Clone(a), b...)
	var got [][]byte
	for batch, err := range Split(run) {
		require.NoError(t, err)
		got = append(got, batch)
	}
	require.Equal(t, [][]byte{a, b}, got)

	for cut := 1; cut < len(run); cut++ {
		n := 0
		var last error
		for _, err := range Split(run[:cut]) {
			if last = err; err == nil {
				n++
			}
		}
		if cut == len(a) {
			require.NoError(t, last)
			continue
		}
		require.Error(t, last)
		require.Equal(t, KindCorrupt, KindOf(last))
	}
	for _, l := range []int32{-1, math.MinInt32, 0, 48, math.MaxInt32} {
		c := bytes.Clone(a)
		binary.BigEndian.PutUint32(c[lengthAt:], uint32(l))
		_, _, err := Next(c)
		require.Error(t, err)
	}
}

func TestCompactedAndControl(t *testing.T) {
	gaps := mustBuild(t, Spec{BaseOffset: 100, LastOffsetDelta: 9, Producer: &Producer{ID: 1}}, []Record{{OffsetDelta: 2}, {OffsetDelta: 7}})
	_, err := Validate(gaps, Limits{})
	require.Error(t, err)
	for _, c := range allCodecs {
		z, err := Recompress(gaps, c, 0, 0)
		require.NoError(t, err)
		h, err := Validate(z, Limits{AllowControl: true})
		require.NoError(t, err)
		require.EqualValues(t, 109, h.LastOffset())
	}
	empty := mustBuild(t, Spec{LastOffsetDelta: 4}, nil)
	_, err = Validate(empty, Limits{AllowControl: true})
	require.NoError(t, err)

	for _, want := range []bool{true, false} {
		m, err := BuildEndTxnMarker(Spec{Producer: &Producer{ID: 5, Epoch: 2, Sequence: -1}}, want, 77)
		require.NoError(t, err)
		_, err = Validate(m, Limits{})
		require.Equal(t, KindInvalidRecord, KindOf(err))
		h, err := Validate(m, Limits{AllowControl: true, RequireKey: true})
		require.NoError(t, err)
		require.True(t, h.IsControl() && h.IsTransactional())
		commit, epoch, ok, err := ParseEndTxnMarker(m)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want, commit)
		require.EqualValues(t, 77, epoch)
		same, err := Recompress(m, CodecZstd, 0, 0)
		require.NoError(t, err)
		require.Equal(t, m, same, "markers are not compressed")
	}
	_, _, _, err = ParseEndTxnMarker(gaps)
	require.Error(t, err)
	_, err = Build(Spec{}, []Record{{OffsetDelta: 1}, {OffsetDelta: 1}})
	require.Error(t, err)
}

func TestNames(t *testing.T) {
	for _, c := range allCodecs {
		got, ok := ParseCodec(c.String())
		require.True(t, ok)
		require.Equal(t, c, got)
	}
	_, ok := ParseCodec("producer")
	require.False(t, ok)
	for k := KindCorrupt; k <= KindInvalidRequest; k++ {
		require.NotContains(t, k.String(), "(")
	}
	require.Equal(t, KindCorrupt, KindOf(errors.New("other")))
	require.Zero(t, KindOf(nil))
}
