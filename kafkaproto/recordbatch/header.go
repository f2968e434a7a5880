package recordbatch

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// HeaderSize is the number of bytes before the first record of a batch.
const HeaderSize = 61

// NoTimestamp is the timestamp of a record that was given none, and the
// FirstTimestamp of a batch that compaction emptied.
const NoTimestamp = -1

// NoProducerID is the producer id of a batch that is not idempotent.
const NoProducerID = -1

// Where the fields of the header are. Everything from attrAt on is covered by
// the checksum; the leader epoch and the base offset are not, so that a broker
// can set them without reading the batch again.
const (
	baseOffsetAt      = 0
	lengthAt          = 8
	leaderEpochAt     = 12
	magicAt           = 16
	crcAt             = 17
	attrAt            = 21
	lastOffsetDeltaAt = 23
	firstTimestampAt  = 27
	maxTimestampAt    = 35
	producerIDAt      = 43
	producerEpochAt   = 51
	baseSequenceAt    = 53
	numRecordsAt      = 57

	// logOverhead is what Length does not count: the base offset and itself.
	logOverhead = 12
	// magicV2 is the only record format stored.
	magicV2 = 2
)

// The bits of Attributes.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40 // KIP-534: FirstTimestamp is a delete horizon
	attrKnown         = 0x7f
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the fixed part of a record batch of magic 2, field by field as on
// the wire. It is a plain value: copying it is free of the bytes it came from.
type Header struct {
	BaseOffset      int64
	Length          int32 // bytes that follow this field
	LeaderEpoch     int32
	Magic           int8
	CRC             uint32 // CRC-32C of everything from Attributes on
	Attributes      int16
	LastOffsetDelta int32
	FirstTimestamp  int64 // milliseconds since the epoch
	MaxTimestamp    int64 // milliseconds since the epoch
	ProducerID      int64
	ProducerEpoch   int16
	BaseSequence    int32
	NumRecords      int32
}

// ParseHeader reads the header of the batch b starts with. It allocates
// nothing on success and checks only that b holds a whole header; what the
// fields claim is for [Validate] (a batch from outside) or [Next] (a run of
// batches) to judge.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, newError(KindCorrupt, "a record batch has at least %d bytes; %d were given", HeaderSize, len(b))
	}
	return parseHeader((*[HeaderSize]byte)(b)), nil
}

func parseHeader(b *[HeaderSize]byte) Header {
	return Header{
		BaseOffset:      int64(binary.BigEndian.Uint64(b[baseOffsetAt:])),
		Length:          int32(binary.BigEndian.Uint32(b[lengthAt:])),
		LeaderEpoch:     int32(binary.BigEndian.Uint32(b[leaderEpochAt:])),
		Magic:           int8(b[magicAt]),
		CRC:             binary.BigEndian.Uint32(b[crcAt:]),
		Attributes:      int16(binary.BigEndian.Uint16(b[attrAt:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[lastOffsetDeltaAt:])),
		FirstTimestamp:  int64(binary.BigEndian.Uint64(b[firstTimestampAt:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(b[maxTimestampAt:])),
		ProducerID:      int64(binary.BigEndian.Uint64(b[producerIDAt:])),
		ProducerEpoch:   int16(binary.BigEndian.Uint16(b[producerEpochAt:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[baseSequenceAt:])),
		NumRecords:      int32(binary.BigEndian.Uint32(b[numRecordsAt:])),
	}
}

// put writes the header over the first HeaderSize bytes of b, CRC included.
func (h Header) put(b []byte) {
	_ = b[HeaderSize-1]
	binary.BigEndian.PutUint64(b[baseOffsetAt:], uint64(h.BaseOffset))
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(h.Length))
	binary.BigEndian.PutUint32(b[leaderEpochAt:], uint32(h.LeaderEpoch))
	b[magicAt] = byte(h.Magic)
	binary.BigEndian.PutUint32(b[crcAt:], h.CRC)
	binary.BigEndian.PutUint16(b[attrAt:], uint16(h.Attributes))
	binary.BigEndian.PutUint32(b[lastOffsetDeltaAt:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(b[firstTimestampAt:], uint64(h.FirstTimestamp))
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(b[producerIDAt:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(b[producerEpochAt:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(b[baseSequenceAt:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(b[numRecordsAt:], uint32(h.NumRecords))
}

// Size is the number of bytes of the whole batch, as the header claims it.
// Length comes from outside: the result may be negative or absurd before the
// batch was validated.
func (h Header) Size() int { return int(h.Length) + logOverhead }

// Compression is the codec the records are compressed with.
func (h Header) Compression() Codec { return Codec(h.Attributes & attrCodec) }

// IsTransactional says whether the batch belongs to a transaction.
func (h Header) IsTransactional() bool { return h.Attributes&attrTransactional != 0 }

// IsControl says whether the batch holds a control record (a transaction
// marker) and not data.
func (h Header) IsControl() bool { return h.Attributes&attrControl != 0 }

// LogAppendTime says whether the timestamp of every record is MaxTimestamp,
// the time the broker appended the batch.
func (h Header) LogAppendTime() bool { return h.Attributes&attrLogAppendTime != 0 }

// HasProducerID says whether the batch is idempotent, so that ProducerEpoch
// and BaseSequence mean something.
func (h Header) HasProducerID() bool { return h.ProducerID > NoProducerID }

// LastOffset is the offset of the last record the batch had when it was
// written (compaction may have dropped it).
func (h Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// LastSequence is the sequence number of the last record, -1 when the batch
// has none. Sequences wrap from 2^31-1 to 0.
func (h Header) LastSequence() int32 {
	if h.BaseSequence < 0 {
		return -1
	}
	return AddSequence(h.BaseSequence, h.LastOffsetDelta)
}

// AddSequence moves a sequence number forward by n, which must not be
// negative, and wraps from 2^31-1 to 0 as Kafka's producers do.
func AddSequence(seq, n int32) int32 {
	return int32((int64(seq) + int64(n)) & math.MaxInt32)
}

// SetBaseOffset numbers the batch. The field is outside the checksum. b must
// hold at least a header, as must that of the other setters.
func SetBaseOffset(b []byte, off int64) {
	binary.BigEndian.PutUint64(b[baseOffsetAt:HeaderSize], uint64(off))
}

// SetLeaderEpoch stamps the batch with the epoch of the leader that appended
// it. The field is outside the checksum.
func SetLeaderEpoch(b []byte, e int32) {
	binary.BigEndian.PutUint32(b[leaderEpochAt:HeaderSize], uint32(e))
}

// SetLogAppendTime makes nowMillis the timestamp of every record of the whole
// batch b (message.timestamp.type=LogAppendTime): the attribute bit and the
// max timestamp are set, the first timestamp and the records keep what the
// producer said, and the checksum is computed anew.
func SetLogAppendTime(b []byte, nowMillis int64) {
	_ = b[HeaderSize-1]
	b[attrAt+1] |= attrLogAppendTime
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(nowMillis))
	setChecksum(b)
}

// setMaxTimestamp corrects the max timestamp of the whole batch b.
func setMaxTimestamp(b []byte, millis int64) {
	binary.BigEndian.PutUint64(b[maxTimestampAt:HeaderSize], uint64(millis))
	setChecksum(b)
}

// setChecksum computes the checksum of the whole batch b and stores it.
func setChecksum(b []byte) {
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[attrAt:], castagnoli))
}

// ChecksumOK says whether the checksum of the batch is that of its bytes. b
// must be exactly one batch; anything shorter than a header is not OK.
func ChecksumOK(b []byte) bool {
	return len(b) >= HeaderSize &&
		binary.BigEndian.Uint32(b[crcAt:]) == crc32.Checksum(b[attrAt:], castagnoli)
}
