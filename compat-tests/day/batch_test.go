package day_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions   = 6
	rate         = 10_000 // records a second of the day that is played
	batchRecords = 1000
	valueSize    = 100
	// firstTimestamp is the day's first millisecond; a batch of one partition
	// comes every batchMillis.
	firstTimestamp = 1_700_000_000_000
	batchMillis    = batchRecords * partitions * 1000 / rate
)

// Where things are in a batch.
const (
	atBaseOffset   = 0
	atLength       = 8
	atLeaderEpoch  = 12
	atMagic        = 16
	atChecksum     = 17
	atAttributes   = 21 // what the checksum covers begins here
	atLastDelta    = 23
	atFirstTime    = 27
	atMaxTime      = 35
	atProducer     = 43
	atProducerTerm = 51
	atSequence     = 53
	atCount        = 57
	headerSize     = 61
)

// template is one partition's batch, of which every other one of the partition
// differs only in its header.
type template struct {
	batch    []byte
	raw      int // bytes of the records before compression
	producer int64
	epoch    int16
}

// newTemplate makes the batch of partition p: zstd on even partitions, lz4 on
// odd ones.
func newTemplate(tb testing.TB, p int32) *template {
	tb.Helper()
	codec := kgo.ZstdCompression()
	if p%2 == 1 {
		codec = kgo.Lz4Compression()
	}
	compressor, err := kgo.DefaultCompressor(codec)
	require.NoError(tb, err)
	var records []byte
	for i := range batchRecords {
		records = appendRecord(records, i, value(p, i))
	}
	packed, kind := compressor.Compress(new(bytes.Buffer), records)
	b := make([]byte, headerSize, headerSize+len(packed))
	b = append(b, packed...)
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-atLeaderEpoch))
	b[atMagic] = 2
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(kind))
	binary.BigEndian.PutUint32(b[atLastDelta:], batchRecords-1)
	binary.BigEndian.PutUint32(b[atCount:], batchRecords)
	return &template{batch: b, raw: len(records)}
}

// value is that of record i of every batch of partition p: a line as logs are
// made of, most of it alike, some of it not.
func value(p int32, i int) []byte {
	rng := rand.New(rand.NewPCG(uint64(p), uint64(i)))
	line := fmt.Appendf(nil, `{"level":"info","service":"checkout","partition":%d,"user":%08x,"took_us":%03d,"path":"/v1/orders","status":200}`,
		p, rng.Uint32(), rng.IntN(1000))
	return line[:valueSize]
}

func appendRecord(dst []byte, i int, value []byte) []byte {
	body := []byte{0} // attributes
	body = binary.AppendVarint(body, timeDelta(i))
	body = binary.AppendVarint(body, int64(i))
	body = binary.AppendVarint(body, -1) // no key
	body = binary.AppendVarint(body, int64(len(value)))
	body = append(body, value...)
	body = binary.AppendVarint(body, 0) // no headers
	dst = binary.AppendVarint(dst, int64(len(body)))
	return append(dst, body...)
}

// timeDelta is the timestamp of record i of a batch, in milliseconds after the
// first.
func timeDelta(i int) int64 { return int64(i) * batchMillis / batchRecords }

// patch makes b, a copy of the template's bytes, the n-th batch of the
// partition as it is sent.
func (m *template) patch(b []byte, n int64) {
	first := firstTimestamp + n*batchMillis
	binary.BigEndian.PutUint64(b[atFirstTime:], uint64(first))
	binary.BigEndian.PutUint64(b[atMaxTime:], uint64(first+timeDelta(batchRecords-1)))
	binary.BigEndian.PutUint64(b[atProducer:], uint64(m.producer))
	binary.BigEndian.PutUint16(b[atProducerTerm:], uint16(m.epoch))
	binary.BigEndian.PutUint32(b[atSequence:], uint32(n*batchRecords))
	binary.BigEndian.PutUint32(b[atChecksum:], crc32.Checksum(b[atAttributes:], castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stored makes b the n-th batch as it must be read back; the leader epoch is the
// broker's and taken from got.
func (m *template) stored(b, got []byte, n int64) {
	m.patch(b, n)
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(n*batchRecords))
	copy(b[atLeaderEpoch:atMagic], got[atLeaderEpoch:atMagic])
}
