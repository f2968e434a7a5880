package kafkaproto

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The versions of Fetch whose responses [EncodeFetch] writes.
const (
	MinFetchVersion = 4
	MaxFetchVersion = 18
)

// FetchResponse is a fetch response whose record bytes stay where they are.
type FetchResponse struct {
	// FetchResponse is everything but the records. Its Version is not used.
	// Start from kmsg's constructors: the zero values of DivergingEpoch,
	// CurrentLeader, SnapshotID and PreferredReadReplica are not "none".
	kmsg.FetchResponse
	// Records holds the record bytes of the partitions in the order they
	// appear in, through all topics: for each any number of pieces, which are
	// sent one after the other. A partition whose entry is nil or missing has
	// those of its RecordBatches field: nil there is null, and what Kafka
	// sends for a partition without records is empty and not null.
	Records [][][]byte
}

// EncodedFetch is a fetch response ready to be written.
type EncodedFetch struct {
	// Buffers is the whole frame, length prefix included, for one vectored
	// write. WriteTo consumes it, as net.Buffers says.
	Buffers net.Buffers

	size    int64
	scratch []byte
	cuts    []cutAt
	vector  net.Buffers
}

// cutAt is where record bytes go between bytes of the scratch buffer.
type cutAt struct {
	at     int
	pieces [][]byte
}

// keepScratch is the largest scratch buffer a pooled encoder keeps, in bytes,
// and keepPieces the longest vector.
const (
	keepScratch = 256 << 10
	keepPieces  = 16 << 10
)

var encodedPool = sync.Pool{New: func() any { return new(EncodedFetch) }}

// Size is the number of bytes of the frame, length prefix included.
func (e *EncodedFetch) Size() int64 { return e.size }

// Release gives the encoder's own memory back, once the frame was written or
// given up. The record bytes are not touched; whoever owns them may release
// them at the same time, not before. e and its Buffers must not be used after.
func (e *EncodedFetch) Release() {
	clear(e.cuts)
	clear(e.vector)
	e.Buffers, e.size = nil, 0
	e.scratch, e.cuts, e.vector = e.scratch[:0], e.cuts[:0], e.vector[:0]
	if cap(e.scratch) > keepScratch {
		e.scratch = nil
	}
	if cap(e.vector) > keepPieces {
		e.vector, e.cuts = nil, nil
	}
	encodedPool.Put(e)
}

// EncodeFetch encodes the whole frame of a fetch response of the given version
// ([MinFetchVersion] to [MaxFetchVersion]) without copying a record byte: the
// frame is small pieces of metadata with the slices of resp.Records between
// them, byte for byte what kmsg would encode. resp must stay unchanged until
// Release. The error is that of a version not known, of more Records than
// partitions, or of a frame over 2 GiB.
func EncodeFetch(correlationID int32, version int16, resp *FetchResponse) (*EncodedFetch, error) {
	if version < MinFetchVersion || version > MaxFetchVersion {
		return nil, fmt.Errorf("encode fetch response: %w %d", ErrUnsupportedVersion, version)
	}
	e := encodedPool.Get().(*EncodedFetch)
	w := fetchWriter{e: e, b: e.scratch[:0], version: version, flexible: version >= 12, records: resp.Records}
	w.b = append(w.b, 0, 0, 0, 0)
	w.int32(correlationID)
	if w.flexible {
		w.b = append(w.b, 0)
	}
	w.response(&resp.FetchResponse)
	e.scratch = w.b

	total := int64(len(w.b)) + w.recordBytes
	if total-4 > math.MaxInt32 || w.oversized || len(w.records) > 0 {
		e.Release()
		if !w.oversized && len(w.records) > 0 {
			return nil, fmt.Errorf("encode fetch response: records of %d partitions that are not in it", len(w.records))
		}
		return nil, fmt.Errorf("encode fetch response: %d bytes do not fit a frame", total)
	}
	binary.BigEndian.PutUint32(w.b, uint32(total-4))
	e.size = total

	// Only now, for the scratch buffer moved while it grew.
	at := 0
	for i := range e.cuts {
		c := &e.cuts[i]
		e.vector = append(e.vector, w.b[at:c.at:c.at])
		at = c.at
		for _, p := range c.pieces {
			if len(p) > 0 {
				e.vector = append(e.vector, p)
			}
		}
	}
	if at < len(w.b) {
		e.vector = append(e.vector, w.b[at:])
	}
	e.Buffers = e.vector
	return e, nil
}

type fetchWriter struct {
	e           *EncodedFetch
	b           []byte
	version     int16
	flexible    bool
	records     [][][]byte // of the partitions still to come
	recordBytes int64
	oversized   bool
}

func (w *fetchWriter) int16(v int16) { w.b = binary.BigEndian.AppendUint16(w.b, uint16(v)) }
func (w *fetchWriter) int32(v int32) { w.b = binary.BigEndian.AppendUint32(w.b, uint32(v)) }
func (w *fetchWriter) int64(v int64) { w.b = binary.BigEndian.AppendUint64(w.b, uint64(v)) }
func (w *fetchWriter) uvarint(v int) { w.b = binary.AppendUvarint(w.b, uint64(v)) }

// length writes the length of an array or of bytes; -1 is null.
func (w *fetchWriter) length(n int) {
	if w.flexible {
		w.uvarint(n + 1)
		return
	}
	w.int32(int32(n))
}

func (w *fetchWriter) string(s string) {
	if w.flexible {
		w.uvarint(len(s) + 1)
	} else {
		w.int16(int16(len(s)))
	}
	w.b = append(w.b, s...)
}

func (w *fetchWriter) tags(known int, unknown *kmsg.Tags) {
	if w.flexible {
		w.uvarint(known + unknown.Len())
	}
}

// lastTags writes the unknown tags after the known ones.
func (w *fetchWriter) lastTags(unknown *kmsg.Tags) {
	if w.flexible && unknown.Len() > 0 {
		w.b = unknown.AppendEach(w.b)
	}
}

func (w *fetchWriter) response(r *kmsg.FetchResponse) {
	w.int32(r.ThrottleMillis)
	if w.version >= 7 {
		w.int16(r.ErrorCode)
		w.int32(r.SessionID)
	}
	w.length(len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		if w.version >= 13 {
			w.b = append(w.b, t.TopicID[:]...)
		} else {
			w.string(t.Topic)
		}
		w.length(len(t.Partitions))
		for j := range t.Partitions {
			w.partition(&t.Partitions[j])
		}
		w.tags(0, &t.UnknownTags)
		w.lastTags(&t.UnknownTags)
	}
	if !w.flexible {
		return
	}
	known := min(len(r.Brokers), 1)
	w.tags(known, &r.UnknownTags)
	if known > 0 {
		w.brokers(r.Brokers)
	}
	w.lastTags(&r.UnknownTags)
}

func (w *fetchWriter) partition(p *kmsg.FetchResponseTopicPartition) {
	w.int32(p.Partition)
	w.int16(p.ErrorCode)
	w.int64(p.HighWatermark)
	w.int64(p.LastStableOffset)
	if w.version >= 5 {
		w.int64(p.LogStartOffset)
	}
	if p.AbortedTransactions == nil {
		w.length(-1)
	} else {
		w.length(len(p.AbortedTransactions))
	}
	for i := range p.AbortedTransactions {
		a := &p.AbortedTransactions[i]
		w.int64(a.ProducerID)
		w.int64(a.FirstOffset)
		w.tags(0, &a.UnknownTags)
		w.lastTags(&a.UnknownTags)
	}
	if w.version >= 11 {
		w.int32(p.PreferredReadReplica)
	}
	w.recordsOf(p)
	if w.flexible {
		w.partitionTags(p)
	}
}

func (w *fetchWriter) recordsOf(p *kmsg.FetchResponseTopicPartition) {
	var pieces [][]byte
	if len(w.records) > 0 {
		pieces, w.records = w.records[0], w.records[1:]
	}
	if pieces == nil {
		if p.RecordBatches == nil {
			w.length(-1)
			return
		}
		if len(p.RecordBatches) > 0 {
			pieces = [][]byte{p.RecordBatches}
		}
	}
	n := int64(0)
	for _, piece := range pieces {
		n += int64(len(piece))
	}
	if n > math.MaxInt32-1 {
		w.oversized = true
		n = 0
	}
	w.recordBytes += n
	w.length(int(n))
	if n > 0 {
		w.e.cuts = append(w.e.cuts, cutAt{at: len(w.b), pieces: pieces})
	}
}

// The tags of a partition, by number.
const (
	tagDivergingEpoch = 0
	tagCurrentLeader  = 1
	tagSnapshotID     = 2
)

func (w *fetchWriter) partitionTags(p *kmsg.FetchResponseTopicPartition) {
	d, l, s := &p.DivergingEpoch, &p.CurrentLeader, &p.SnapshotID
	hasD := d.Epoch != -1 || d.EndOffset != -1 || d.UnknownTags.Len() > 0
	hasL := l.LeaderID != -1 || l.LeaderEpoch != -1 || l.UnknownTags.Len() > 0
	hasS := s.EndOffset != -1 || s.Epoch != -1 || s.UnknownTags.Len() > 0
	known := 0
	for _, has := range [...]bool{hasD, hasL, hasS} {
		if has {
			known++
		}
	}
	w.tags(known, &p.UnknownTags)
	if hasD {
		w.sized(tagDivergingEpoch, func() {
			w.int32(d.Epoch)
			w.int64(d.EndOffset)
			w.tags(0, &d.UnknownTags)
			w.lastTags(&d.UnknownTags)
		})
	}
	if hasL {
		w.sized(tagCurrentLeader, func() {
			w.int32(l.LeaderID)
			w.int32(l.LeaderEpoch)
			w.tags(0, &l.UnknownTags)
			w.lastTags(&l.UnknownTags)
		})
	}
	if hasS {
		w.sized(tagSnapshotID, func() {
			w.int64(s.EndOffset)
			w.int32(s.Epoch)
			w.tags(0, &s.UnknownTags)
			w.lastTags(&s.UnknownTags)
		})
	}
	w.lastTags(&p.UnknownTags)
}

// brokers writes the endpoints clients may move to (KIP-951).
func (w *fetchWriter) brokers(brokers []kmsg.FetchResponseBroker) {
	w.sized(0, func() {
		w.length(len(brokers))
		for i := range brokers {
			b := &brokers[i]
			w.int32(b.NodeID)
			w.string(b.Host)
			w.int32(b.Port)
			if b.Rack == nil {
				w.uvarint(0)
			} else {
				w.string(*b.Rack)
			}
			w.tags(0, &b.UnknownTags)
			w.lastTags(&b.UnknownTags)
		}
	})
}

// sized writes a tag: number, size, content. The size is known only after the
// content, which is small and then moved by the bytes the size takes.
func (w *fetchWriter) sized(tag int, content func()) {
	w.uvarint(tag)
	at := len(w.b)
	content()
	size := len(w.b) - at
	var prefix [binary.MaxVarintLen32]byte
	n := binary.PutUvarint(prefix[:], uint64(size))
	w.b = append(w.b, prefix[:n]...)
	copy(w.b[at+n:], w.b[at:at+size])
	copy(w.b[at:], prefix[:n])
}
