package record

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"sort"
	"strings"
)

// Digest is one partition reduced. First is the offset of the first record, or
// -1 when there is none; Next is one past the last. Bytes is the size of all
// keys and values. Content covers offset, key, value and headers; Full covers
// the timestamp, too. Both are hex SHA-256.
type Digest struct {
	Count   int64  `json:"count"`
	First   int64  `json:"first"`
	Next    int64  `json:"next"`
	Bytes   int64  `json:"bytes"`
	Content string `json:"content"`
	Full    string `json:"full"`
}

// Digests is a topic reduced, by partition.
type Digests map[int32]Digest

// Bytes is the size of all keys and values of all partitions.
func (d Digests) Bytes() int64 {
	var n int64
	for _, p := range d {
		n += p.Bytes
	}
	return n
}

// Total is the number of records of all partitions.
func (d Digests) Total() int64 {
	var n int64
	for _, p := range d {
		n += p.Count
	}
	return n
}

// WithoutTimestamps returns d with Full cleared, for comparison with what a
// client sent that cannot choose its timestamps.
func (d Digests) WithoutTimestamps() Digests {
	out := make(Digests, len(d))
	for p, v := range d {
		v.Full = ""
		out[p] = v
	}
	return out
}

// String lists the partitions in order, one a line, sums shortened.
func (d Digests) String() string {
	ids := make([]int, 0, len(d))
	for p := range d {
		ids = append(ids, int(p))
	}
	sort.Ints(ids)
	var b strings.Builder
	for _, p := range ids {
		v := d[int32(p)]
		fmt.Fprintf(&b, "partition %d: %d records [%d, %d) of %d B, content %.12s full %.12s\n",
			p, v.Count, v.First, v.Next, v.Bytes, v.Content, v.Full)
	}
	return b.String()
}

// Summer digests one partition as its records arrive, in offset order. It is
// not safe for concurrent use.
type Summer struct {
	content, full hash.Hash
	count         int64
	first, next   int64
	bytes         int64
	buf           []byte
}

// NewSummer returns a Summer that has seen nothing.
func NewSummer() *Summer {
	return &Summer{content: sha256.New(), full: sha256.New(), first: -1}
}

// Add takes the next record.
func (s *Summer) Add(offset int64, r *Record) {
	s.buf = AppendCanonical(s.buf[:0], offset, r)
	s.content.Write(s.buf)
	s.full.Write(s.buf)
	var ts [8]byte
	binary.BigEndian.PutUint64(ts[:], uint64(r.Timestamp))
	s.full.Write(ts[:])
	if s.first < 0 {
		s.first = offset
	}
	s.next = offset + 1
	s.count++
	s.bytes += int64(len(r.Key) + len(r.Value))
}

// Next is one past the last offset added.
func (s *Summer) Next() int64 { return s.next }

// Digest is what was added so far.
func (s *Summer) Digest() Digest {
	return Digest{
		Count:   s.count,
		First:   s.first,
		Next:    s.next,
		Bytes:   s.bytes,
		Content: hex.EncodeToString(s.content.Sum(nil)),
		Full:    hex.EncodeToString(s.full.Sum(nil)),
	}
}

// AppendCanonical appends offset (int64), key, value, header count (int32) and
// headers, big endian; each byte string is led by its length as an int32, -1
// for null.
func AppendCanonical(b []byte, offset int64, r *Record) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	b = appendBytes(b, r.Key)
	b = appendBytes(b, r.Value)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	for _, h := range r.Headers {
		b = binary.BigEndian.AppendUint32(b, uint32(len(h.Key)))
		b = append(b, h.Key...)
		b = appendBytes(b, h.Value)
	}
	return b
}

func appendBytes(b, v []byte) []byte {
	if v == nil {
		return binary.BigEndian.AppendUint32(b, 0xffffffff)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}
