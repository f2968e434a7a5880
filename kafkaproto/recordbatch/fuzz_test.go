package recordbatch

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorded returns what producers of real clients sent, by client and codec; see
// ../testdata/README.md.
func recorded(tb testing.TB) map[string][]byte {
	tb.Helper()
	out := map[string][]byte{}
	dir := os.DirFS("testdata/batches")
	files, err := fs.ReadDir(dir, ".")
	require.NoError(tb, err)
	for _, f := range files {
		b, err := fs.ReadFile(dir, f.Name())
		require.NoError(tb, err)
		out[strings.TrimSuffix(f.Name(), ".bin")] = b
	}
	return out
}

// TestRecordedBatches: what real clients send is accepted as it is, and readable.
func TestRecordedBatches(t *testing.T) {
	batches := recorded(t)
	for name, b := range batches {
		t.Run(name, func(t *testing.T) {
			in := bytes.Clone(b)
			h, err := Validate(in, Limits{})
			require.NoError(t, err)
			require.Equal(t, b, in, "nothing to repair")
			codec := strings.Replace(h.Compression().String(), "uncompressed", "none", 1)
			require.Contains(t, name, "-"+codec)
			require.Equal(t, strings.HasSuffix(name, "-transactional"), h.IsTransactional())
			n := int32(0)
			for _, err := range Records(in, 1<<20) {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, h.NumRecords, n)
			require.Positive(t, n)
		})
	}
	for _, client := range []string{"franz-go", "java", "kafka-python", "kafkajs", "librdkafka-confluent", "librdkafka-kcat"} {
		for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
			require.Contains(t, batches, client+"-"+codec)
		}
	}
}

func addSeeds(f *testing.F) {
	f.Helper()
	for _, c := range allCodecs {
		f.Add(mustBuild(f, Spec{FirstTimestamp: 5, Codec: c, Producer: &Producer{ID: 1}}, makeRecords(5, 20)))
		f.Add(mustBuild(f, Spec{Codec: c, LastOffsetDelta: 9}, oddRecords()[:3]))
	}
	f.Add([]byte{})
	f.Add(make([]byte, HeaderSize))
	marker, err := BuildEndTxnMarker(Spec{Producer: &Producer{ID: 1, Sequence: -1}}, true, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(marker)
	for _, b := range recorded(f) {
		f.Add(b)
	}
}

// seal makes length and checksum right, so that fuzzing gets past them.
func seal(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) < HeaderSize {
		return b
	}
	h := parseHeader((*[HeaderSize]byte)(b))
	h.BaseOffset, h.Magic = 0, magicV2
	return finish(b, h)
}

// FuzzValidate: a batch that is accepted can be read, has the records it
// claims, and survives recompression; one that is not is left as it was.
func FuzzValidate(f *testing.F) {
	addSeeds(f)
	const most = 1 << 20
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Validate(bytes.Clone(b), Limits{})
		b = seal(b)
		for _, l := range []Limits{
			{MaxDecompressedBytes: most},
			{MaxDecompressedBytes: most, AllowControl: true},
			{MaxDecompressedBytes: most, RequireKey: true, NowMillis: 10, TimestampAfterMaxMillis: 100, TimestampBeforeMaxMillis: 100},
		} {
			in := bytes.Clone(b)
			h, err := Validate(in, l)
			if err != nil {
				if !bytes.Equal(in, b) {
					t.Fatal("a refused batch was changed")
				}
				continue
			}
			n := int32(0)
			for r, err := range Records(in, most) {
				if err != nil {
					t.Fatalf("accepted, but not readable: %v", err)
				}
				if !l.AllowControl && r.OffsetDelta != n {
					t.Fatalf("record %d has offset delta %d", n, r.OffsetDelta)
				}
				n++
			}
			if n != h.NumRecords || !ChecksumOK(in) || h.Size() != len(in) {
				t.Fatalf("%d records of %d, size %d of %d", n, h.NumRecords, h.Size(), len(in))
			}
			if h.NumRecords == 0 {
				continue
			}
			out, err := Recompress(in, CodecLZ4, 0, most)
			if err != nil {
				t.Fatalf("recompress: %v", err)
			}
			if _, err := Validate(out, l); err != nil {
				t.Fatalf("recompressed, but not accepted: %v", err)
			}
		}
	})
}

// FuzzRecords: runs of batches and their records are read without a checksum
// to vouch for them.
func FuzzRecords(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, run := range [][]byte{b, seal(b)} {
			total := 0
			for batch, err := range Split(run) {
				if err != nil {
					break
				}
				total += len(batch)
				var records []Record
				whole := true
				for r, err := range Records(batch, 1<<20) {
					if whole = err == nil; !whole {
						break
					}
					records = append(records, r)
				}
				if h, _ := ParseHeader(batch); whole && len(records) != int(max(h.NumRecords, 0)) {
					t.Fatalf("%d records of %d", len(records), h.NumRecords)
				}
				_, _, _, _ = ParseEndTxnMarker(batch)
			}
			if total > len(run) {
				t.Fatal("batches are longer than what they are in")
			}
		}
	})
}
