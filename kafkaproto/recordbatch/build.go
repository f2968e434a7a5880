package recordbatch

import "encoding/binary"

// Spec is what [Build] makes a batch with, besides the records.
type Spec struct {
	BaseOffset     int64
	LeaderEpoch    int32
	FirstTimestamp int64 // milliseconds since the epoch; deltas count from it
	// MaxTimestamp is computed from the records unless LogAppendTime is set.
	MaxTimestamp  int64
	Codec         Codec
	Level         int
	Transactional bool
	Control       bool
	LogAppendTime bool
	// Producer makes the batch idempotent; nil is none.
	Producer *Producer
	// LastOffsetDelta keeps the last offset of a batch whose last records were
	// compacted away. It counts only where it is above that of the records.
	LastOffsetDelta int32
}

// Producer is what identifies an idempotent batch.
type Producer struct {
	ID       int64
	Epoch    int16
	Sequence int32 // of the batch's base offset; -1 for control batches
}

// Build makes a batch of the records, whose offset deltas must grow from at
// least 0. The batch is a fresh slice of its own.
func Build(s Spec, records []Record) ([]byte, error) {
	if !s.Codec.known() {
		return nil, newError(KindUnsupportedCompression, "compression codec %d is not known", s.Codec)
	}
	h := Header{
		BaseOffset:      s.BaseOffset,
		LeaderEpoch:     s.LeaderEpoch,
		Magic:           magicV2,
		Attributes:      int16(s.Codec),
		LastOffsetDelta: s.LastOffsetDelta,
		FirstTimestamp:  s.FirstTimestamp,
		MaxTimestamp:    NoTimestamp,
		ProducerID:      NoProducerID,
		ProducerEpoch:   -1,
		BaseSequence:    -1,
		NumRecords:      int32(len(records)),
	}
	if s.Producer != nil {
		h.ProducerID, h.ProducerEpoch, h.BaseSequence = s.Producer.ID, s.Producer.Epoch, s.Producer.Sequence
	}
	if s.Transactional {
		h.Attributes |= attrTransactional
	}
	if s.Control {
		h.Attributes |= attrControl
	}
	size, prev := HeaderSize, int32(-1)
	for i := range records {
		r := &records[i]
		if r.OffsetDelta <= prev {
			return nil, recordError(KindInvalidRecord, i, "offset delta %d follows %d", r.OffsetDelta, prev)
		}
		prev = r.OffsetDelta
		h.MaxTimestamp = max(h.MaxTimestamp, s.FirstTimestamp+r.TimestampDelta)
		size += recordSize(r) + binary.MaxVarintLen32
	}
	h.LastOffsetDelta = max(h.LastOffsetDelta, prev)
	if s.LogAppendTime {
		h.Attributes |= attrLogAppendTime
		h.MaxTimestamp = s.MaxTimestamp
	}
	out := make([]byte, HeaderSize, size)
	for i := range records {
		out = appendRecord(out, &records[i])
	}
	if s.Codec != CodecNone {
		body := out[HeaderSize:]
		var err error
		out, err = compress(make([]byte, HeaderSize, HeaderSize+len(body)/2+64), s.Codec, s.Level, body)
		if err != nil {
			return nil, err
		}
	}
	return finish(out, h), nil
}

// The types of a control record, the second int16 of its key.
const (
	controlAbort  = 0
	controlCommit = 1
)

// BuildEndTxnMarker makes the control batch that ends a transaction of the
// producer in a partition (KIP-98). It takes one offset.
func BuildEndTxnMarker(s Spec, commit bool, coordinatorEpoch int32) ([]byte, error) {
	kind := uint16(controlAbort)
	if commit {
		kind = controlCommit
	}
	key := binary.BigEndian.AppendUint16([]byte{0, 0}, kind)
	value := binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(coordinatorEpoch))
	s.Control, s.Transactional, s.Codec = true, true, CodecNone
	return Build(s, []Record{{Key: key, Value: value}})
}

// ParseEndTxnMarker reads a control batch. ok is false for control records
// that end no transaction.
func ParseEndTxnMarker(b []byte) (commit bool, coordinatorEpoch int32, ok bool, err error) {
	h, err := ParseHeader(b)
	if err != nil {
		return false, 0, false, err
	}
	if !h.IsControl() {
		return false, 0, false, newError(KindInvalidRecord, "the batch is not a control batch")
	}
	for r, err := range Records(b, streamBufferSize) {
		if err != nil {
			return false, 0, false, err
		}
		if len(r.Key) < 4 {
			return false, 0, false, recordError(KindInvalidRecord, 0, "the key of a control record has %d bytes", len(r.Key))
		}
		kind := binary.BigEndian.Uint16(r.Key[2:])
		if kind != controlAbort && kind != controlCommit {
			return false, 0, false, nil
		}
		if len(r.Value) < 6 {
			return false, 0, false, recordError(KindInvalidRecord, 0, "the value of an end marker has %d bytes", len(r.Value))
		}
		return kind == controlCommit, int32(binary.BigEndian.Uint32(r.Value[2:])), true, nil
	}
	return false, 0, false, nil
}

func varintSize(v int64) int {
	n := 1
	for u := zigzag(v); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func appendVarint(b []byte, v int64) []byte { return binary.AppendUvarint(b, zigzag(v)) }

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return appendVarint(dst, -1)
	}
	return append(appendVarint(dst, int64(len(b))), b...)
}

// recordSize is the record's length field: the bytes that follow it.
func recordSize(r *Record) int {
	n := 1 + varintSize(r.TimestampDelta) + varintSize(int64(r.OffsetDelta)) +
		bytesSize(r.Key) + bytesSize(r.Value) + varintSize(int64(len(r.Headers)))
	for _, h := range r.Headers {
		n += varintSize(int64(len(h.Key))) + len(h.Key) + bytesSize(h.Value)
	}
	return n
}

func appendRecord(dst []byte, r *Record) []byte {
	dst = appendVarint(dst, int64(recordSize(r)))
	dst = append(dst, byte(r.Attributes))
	dst = appendVarint(dst, r.TimestampDelta)
	dst = appendVarint(dst, int64(r.OffsetDelta))
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = appendVarint(dst, int64(len(r.Headers)))
	for _, h := range r.Headers {
		dst = append(appendVarint(dst, int64(len(h.Key))), h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}
