package segment

import (
	"math"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	tailVersion = 1

	// The fewest bytes one of each can take: what bounds allocations while decoding.
	minTopicSize  = 16 + 1
	minExtentSize = 4
	minBatchSize  = 4
)

// The flags of a batch.
const (
	flagTransactional = 1 << iota
	flagControl
	flagAbort
	flagRecords          // the record count differs from the offset count and follows
	flagProducer         // it has a producer
	flagSameProducer     // producer id and epoch are those of the last batch that had some
	flagNextSequence     // the base sequence follows that of the batch before in this extent
	flagCoordinatorEpoch // the coordinator epoch is not 0 and follows
)

// producerState is what producer fields are coded against.
type producerState struct {
	id    int64
	epoch int16
}

// AppendTail appends the encoded index to dst: everything about every batch. The index must be valid, as that of an
// [Object] is; End, Len and MaxTimestamp of extents and BaseOffset of batches are implied by the rest. An extent of
// one batch takes about 20 bytes, each further batch about 8 to 12.
func (ix *Index) AppendTail(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, tailVersion)
	dst = appendUvarint(dst, countTopics(ix.Extents))
	dst = appendUvarint(dst, len(ix.Extents))
	dst = appendUvarint(dst, ix.Batches())
	producer := producerState{id: -1, epoch: -1}
	pos, timestamp := int64(headerSize), int64(0)
	var epoch int32
	for i := range ix.Extents {
		e := &ix.Extents[i]
		dst = appendPlace(dst, ix.Extents, i)
		dst = appendVarint(dst, int64(e.LeaderEpoch)-int64(epoch))
		epoch = e.LeaderEpoch
		count := len(e.Batches) << 1
		if e.Pos == pos {
			dst = appendUvarint(dst, count)
		} else {
			dst = appendUvarint(dst, count|1)
			dst = appendUvarint(dst, e.Pos-pos)
		}
		pos = e.Pos + e.Len
		sequence := int32(-1)
		for j := range e.Batches {
			b := &e.Batches[j]
			dst = b.append(dst, &producer, sequence, timestamp)
			sequence, timestamp = nextSequence(b), b.MaxTimestamp
		}
	}
	return appendSum(dst, start)
}

// appendPlace appends partition and base offset, and before the first extent of a topic its id and the number of its
// extents.
func appendPlace(dst []byte, extents []Extent, i int) []byte {
	e := &extents[i]
	if i == 0 || extents[i-1].Topic != e.Topic {
		n := 1
		for n < len(extents)-i && extents[i+n].Topic == e.Topic {
			n++
		}
		dst = append(dst, e.Topic[:]...)
		dst = appendUvarint(dst, n)
		dst = appendUvarint(dst, e.Partition)
		return appendUvarint(dst, e.Base)
	}
	prev := &extents[i-1]
	dst = appendUvarint(dst, e.Partition-prev.Partition)
	if e.Partition == prev.Partition {
		return appendUvarint(dst, e.Base-prev.End)
	}
	return appendUvarint(dst, e.Base)
}

func countTopics(extents []Extent) int {
	n := 0
	for i := range extents {
		if i == 0 || extents[i-1].Topic != extents[i].Topic {
			n++
		}
	}
	return n
}

// nextSequence is the base sequence the producer of b uses next. Sequences wrap to 0 after the largest int32.
func nextSequence(b *Batch) int32 {
	if b.BaseSequence < 0 {
		return -1
	}
	return int32((int64(b.BaseSequence) + int64(b.Offsets)) & math.MaxInt32)
}

func (b *Batch) append(dst []byte, producer *producerState, sequence int32, timestamp int64) []byte {
	var flags byte
	if b.Transactional {
		flags |= flagTransactional
	}
	if b.Control {
		flags |= flagControl
	}
	if b.Abort {
		flags |= flagAbort
	}
	if b.Records != b.Offsets {
		flags |= flagRecords
	}
	if b.ProducerID != -1 || b.ProducerEpoch != -1 || b.BaseSequence != -1 {
		flags |= flagProducer
		if b.ProducerID == producer.id && b.ProducerEpoch == producer.epoch {
			flags |= flagSameProducer
		}
		if b.BaseSequence == sequence {
			flags |= flagNextSequence
		}
	}
	if b.CoordinatorEpoch != 0 {
		flags |= flagCoordinatorEpoch
	}
	dst = append(dst, flags)
	dst = appendUvarint(dst, b.Offsets)
	if flags&flagRecords != 0 {
		dst = appendUvarint(dst, b.Records)
	}
	dst = appendUvarint(dst, b.Length)
	dst = appendVarint(dst, b.MaxTimestamp-timestamp)
	if flags&flagProducer != 0 {
		if flags&flagSameProducer == 0 {
			dst = appendVarint(dst, b.ProducerID-producer.id)
			dst = appendVarint(dst, int64(b.ProducerEpoch))
			*producer = producerState{id: b.ProducerID, epoch: b.ProducerEpoch}
		}
		if flags&flagNextSequence == 0 {
			dst = appendVarint(dst, int64(b.BaseSequence))
		}
	}
	if flags&flagCoordinatorEpoch != 0 {
		dst = appendVarint(dst, int64(b.CoordinatorEpoch))
	}
	return dst
}

// DecodeTail decodes what [Index.AppendTail] appended. Errors wrap [ErrCorrupt] or [ErrVersion]. b is not kept.
func DecodeTail(b []byte) (*Index, error) {
	const what = "tail index"
	d, err := open(b, tailVersion, MaxTailBytes, what)
	if err != nil {
		return nil, err
	}
	topics := d.count(minTopicSize+minExtentSize+minBatchSize, "number of topics")
	extents := d.count(minExtentSize+minBatchSize, "number of extents")
	batches := d.count(minBatchSize, "number of batches")
	if d.err != nil {
		return nil, d.closing(what)
	}
	t := tailDecoder{
		decoder:  d,
		batches:  make([]Batch, 0, batches),
		pos:      headerSize,
		producer: producerState{id: -1, epoch: -1},
	}
	places := placeDecoder{decoder: d, topics: topics}
	ix := &Index{Extents: make([]Extent, extents)}
	for i := range ix.Extents {
		e := &ix.Extents[i]
		e.TopicPartition, e.Base = places.next()
		t.extent(e)
		places.end = e.End
		if d.err != nil {
			return nil, d.closing(what)
		}
	}
	places.finish()
	if len(t.batches) != batches {
		d.fail("%d batches announced, %d found", batches, len(t.batches))
	}
	if err := d.closing(what); err != nil {
		return nil, err
	}
	return ix, nil
}

// placeDecoder reads what appendPlace wrote, and sees to the order of extents.
type placeDecoder struct {
	*decoder
	topics int   // to come
	left   int   // extents to come of the current topic
	end    int64 // end offset of the extent before; set by the caller
	tp     catalog.TopicPartition
	begun  bool
}

func (p *placeDecoder) next() (catalog.TopicPartition, int64) {
	if p.left > 0 {
		p.left--
		delta := p.bounded(int64(math.MaxInt32-p.tp.Partition), "partition")
		p.tp.Partition += int32(delta)
		if delta > 0 {
			return p.tp, p.bounded(math.MaxInt64, "base offset")
		}
		return p.tp, p.end + p.bounded(math.MaxInt64-p.end, "base offset")
	}
	if p.topics == 0 {
		p.fail("there are more extents than those of the topics")
		return p.tp, 0
	}
	p.topics--
	var topic catalog.TopicID
	copy(topic[:], p.bytes(len(topic)))
	if p.begun && string(topic[:]) <= string(p.tp.Topic[:]) {
		p.fail("topics are out of order")
	}
	p.begun = true
	p.left = p.count(minExtentSize, "number of extents of a topic") - 1
	if p.left < 0 {
		p.fail("a topic has no extents")
	}
	p.tp.Topic = topic
	p.tp.Partition = int32(p.bounded(math.MaxInt32, "partition"))
	return p.tp, p.bounded(math.MaxInt64, "base offset")
}

func (p *placeDecoder) finish() {
	if p.topics != 0 || p.left != 0 {
		p.fail("there are fewer extents than those of the topics")
	}
}

// tailDecoder holds what fields are coded against. Its decoder is shared with a placeDecoder.
type tailDecoder struct {
	*decoder
	batches   []Batch // one allocation for all
	pos       int64
	timestamp int64
	epoch     int32
	producer  producerState
}

func (t *tailDecoder) extent(e *Extent) {
	epoch := int64(t.epoch) + t.varint()
	if epoch < math.MinInt32 || epoch > math.MaxInt32 {
		t.fail("leader epoch is %d", epoch)
	}
	t.epoch = int32(epoch)
	e.LeaderEpoch = t.epoch
	count := t.uvarint()
	e.Pos = t.pos
	if count&1 != 0 {
		e.Pos += t.bounded(MaxObjectBytes-t.pos, "position")
	}
	// The sum of all counts is bounded by the capacity that was allocated for the number announced.
	if room := uint64(cap(t.batches) - len(t.batches)); count>>1 == 0 || count>>1 > room {
		t.fail("an extent has %d batches, %d are left", count>>1, room)
		return
	}
	first := len(t.batches)
	e.End, e.MaxTimestamp = e.Base, math.MinInt64
	sequence := int32(-1)
	for range count >> 1 {
		t.batches = append(t.batches, Batch{BaseOffset: e.End})
		b := &t.batches[len(t.batches)-1]
		t.batch(b, sequence)
		if e.End > math.MaxInt64-int64(b.Offsets) {
			t.fail("offsets end beyond the largest one")
			return
		}
		e.End += int64(b.Offsets)
		e.Len += int64(b.Length)
		e.MaxTimestamp = max(e.MaxTimestamp, b.MaxTimestamp)
		sequence, t.timestamp = nextSequence(b), b.MaxTimestamp
	}
	e.Batches = t.batches[first:len(t.batches):len(t.batches)]
	if e.Pos > MaxObjectBytes-e.Len {
		t.fail("an extent ends beyond %d bytes", int64(MaxObjectBytes))
		return
	}
	t.pos = e.Pos + e.Len
}

func (t *tailDecoder) batch(b *Batch, sequence int32) {
	flags := byte(0)
	if f := t.bytes(1); f != nil {
		flags = f[0]
	}
	b.Transactional = flags&flagTransactional != 0
	b.Control = flags&flagControl != 0
	b.Abort = flags&flagAbort != 0
	b.Offsets = int32(t.bounded(math.MaxInt32, "number of offsets"))
	b.Records = b.Offsets
	if flags&flagRecords != 0 {
		b.Records = int32(t.bounded(math.MaxInt32, "number of records"))
	}
	b.Length = int32(t.bounded(math.MaxInt32, "batch length"))
	if b.Offsets == 0 || b.Length == 0 {
		t.fail("a batch has %d offsets and %d bytes", b.Offsets, b.Length)
	}
	b.MaxTimestamp = t.timestamp + t.varint()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = -1, -1, -1
	if flags&flagProducer != 0 {
		if flags&flagSameProducer == 0 {
			t.producer.id += t.varint()
			epoch := t.narrow("producer epoch")
			if epoch < math.MinInt16 || epoch > math.MaxInt16 {
				t.fail("producer epoch is %d", epoch)
			}
			t.producer.epoch = int16(epoch)
		}
		b.ProducerID, b.ProducerEpoch = t.producer.id, t.producer.epoch
		b.BaseSequence = sequence
		if flags&flagNextSequence == 0 {
			b.BaseSequence = t.narrow("base sequence")
		}
	} else if flags&(flagSameProducer|flagNextSequence) != 0 {
		t.fail("a batch without producer has producer flags")
	}
	if flags&flagCoordinatorEpoch != 0 {
		b.CoordinatorEpoch = t.narrow("coordinator epoch")
	}
}

// TailSizeEstimate estimates the bytes AppendTail will take, from above as long as topics are few against extents
// and offsets, producer ids and timestamp steps are ordinary. It decides when an object is sealed; the hard bound of
// what can be read is [MaxTailBytes], far above.
func TailSizeEstimate(extents, batches int) int {
	return 64 + extents*12 + batches*16
}
