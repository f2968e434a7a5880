package recordbatch

import "math"

// DefaultMaxDecompressedBytes bounds what one batch may decompress to where
// the caller sets no bound.
const DefaultMaxDecompressedBytes = 128 << 20

// Limits is what a topic and the broker allow a batch from a producer. The
// zero value checks structure only.
type Limits struct {
	// MaxBatchBytes is max.message.bytes: the largest batch, compressed,
	// header included. 0 is no limit.
	MaxBatchBytes int
	// MaxDecompressedBytes bounds what the records may decompress to; it
	// bounds the time a batch can cost, for memory is bounded anyway. 0 is
	// DefaultMaxDecompressedBytes.
	MaxDecompressedBytes int64
	// RequireKey refuses records without a key (cleanup.policy=compact).
	RequireKey bool
	// NowMillis is the broker's clock, milliseconds since the epoch. 0 turns
	// the timestamp limits off.
	NowMillis int64
	// TimestampBeforeMaxMillis and TimestampAfterMaxMillis are
	// message.timestamp.before.max.ms and message.timestamp.after.max.ms: how
	// far a record may be behind or ahead of NowMillis. math.MaxInt64 is no
	// limit; 0 is no difference at all.
	TimestampBeforeMaxMillis int64
	TimestampAfterMaxMillis  int64
	// LogAppendTime says the topic's timestamps are the broker's
	// (message.timestamp.type): those of the producer are not looked at.
	LogAppendTime bool
	// AllowControl says the batch is the broker's own, a marker or a batch
	// read back from storage: it may be a control batch, have a base offset,
	// log-append time, a delete horizon, and gaps between its offsets.
	AllowControl bool
}

// Validate checks that b is exactly one batch of magic 2, whole, and one that
// a broker may append; the package comment has the table of what is checked.
// It returns the header, or an [*Error] that says which of Kafka's errors the
// producer gets.
//
// Like Kafka it repairs the one lie that has always been tolerated: where
// MaxTimestamp is not the latest timestamp of the records, Validate writes
// the right one, and the checksum, into b. The returned header shows it.
//
// Validate keeps no reference to b. For batches that are not compressed it
// allocates nothing on success; for others it uses pooled decoders. It is safe
// for concurrent use on different batches.
func Validate(b []byte, l Limits) (Header, error) {
	h, err := checkHeader(b, &l)
	if err != nil {
		return h, err
	}
	w := walk{
		firstTimestamp: h.FirstTimestamp,
		minTimestamp:   math.MinInt64,
		maxTimestamp:   math.MaxInt64,
		latest:         NoTimestamp,
		n:              h.NumRecords,
		lastDelta:      h.LastOffsetDelta,
		requireKey:     l.RequireKey && !h.IsControl(),
		gaps:           l.AllowControl,
	}
	if l.NowMillis != 0 && !l.LogAppendTime && !h.LogAppendTime() {
		w.minTimestamp, w.maxTimestamp = timestampRange(l.NowMillis, l.TimestampBeforeMaxMillis, l.TimestampAfterMaxMillis)
	}
	if c := h.Compression(); c == CodecNone || h.NumRecords == 0 {
		err = w.memory(b[HeaderSize:])
	} else {
		err = w.compressed(c, b[HeaderSize:], l.MaxDecompressedBytes)
	}
	if err != nil {
		return h, err
	}
	if w.latest != h.MaxTimestamp && !l.LogAppendTime && !h.LogAppendTime() && !l.AllowControl {
		setMaxTimestamp(b, w.latest)
		return ParseHeader(b)
	}
	return h, nil
}

// timestampRange is [now-before, now+after] without overflow.
func timestampRange(now, before, after int64) (lo, hi int64) {
	lo, hi = now-before, now+after
	if before > 0 && lo > now {
		lo = math.MinInt64
	}
	if after > 0 && hi < now {
		hi = math.MaxInt64
	}
	return lo, hi
}

// checkHeader is everything that needs no look at a record. The order is
// Kafka's where a batch can be wrong in two ways.
func checkHeader(b []byte, l *Limits) (Header, error) {
	// The first 17 bytes mean the same in every format. Older formats are
	// shorter than a header of this one, so they are looked for first.
	if len(b) > magicAt && b[magicAt] < magicV2 {
		return Header{}, newError(KindInvalidRecord,
			"the records are of format version %d; only version 2 may be produced", b[magicAt])
	}
	h, err := ParseHeader(b)
	switch {
	case err != nil:
		return h, err
	case h.Magic != magicV2:
		return h, newError(KindCorrupt, "record format version %d is not known", h.Magic)
	case h.Size() < HeaderSize:
		return h, newError(KindCorrupt, "the batch claims %d bytes after its length; the header alone needs %d", h.Length, HeaderSize-logOverhead)
	case h.Size() > len(b):
		return h, newError(KindInvalidRecord, "the batch claims %d bytes but %d were sent", h.Size(), len(b))
	case h.Size() < len(b):
		return h, newError(KindInvalidRecord, "%d bytes follow the batch; a partition takes exactly one batch a request", len(b)-h.Size())
	case h.BaseOffset != 0 && !l.AllowControl:
		return h, newError(KindInvalidRecord, "the base offset of a produced batch is 0, not %d", h.BaseOffset)
	case l.MaxBatchBytes > 0 && len(b) > l.MaxBatchBytes:
		return h, newError(KindTooLarge, "the batch has %d bytes; max.message.bytes allows %d", len(b), l.MaxBatchBytes)
	case !ChecksumOK(b):
		return h, newError(KindCorrupt, "the checksum of the batch (%#08x) is not that of its bytes", h.CRC)
	}
	return h, checkFields(h, l)
}

// checkFields judges the fields the checksum vouches for.
func checkFields(h Header, l *Limits) error {
	unknown := h.Attributes &^ attrKnown
	if !l.AllowControl {
		unknown = h.Attributes &^ (attrKnown &^ attrDeleteHorizon)
	}
	switch {
	case unknown != 0:
		return newError(KindInvalidRecord, "the batch has unknown attributes %#04x", uint16(unknown))
	case !h.Compression().known():
		return newError(KindUnsupportedCompression, "compression codec %d is not known", h.Compression())
	case h.LastOffsetDelta < 0:
		return newError(KindInvalidRecord, "the last offset delta of the batch is %d", h.LastOffsetDelta)
	case h.NumRecords < 0 || h.NumRecords == 0 && !l.AllowControl:
		return newError(KindInvalidRecord, "the batch has %d records", h.NumRecords)
	case !l.AllowControl && int64(h.NumRecords) != int64(h.LastOffsetDelta)+1,
		int64(h.NumRecords) > int64(h.LastOffsetDelta)+1:
		return newError(KindInvalidRecord, "the batch has %d records but a last offset delta of %d", h.NumRecords, h.LastOffsetDelta)
	case h.BaseOffset < 0 || h.BaseOffset > math.MaxInt64-int64(h.LastOffsetDelta):
		return newError(KindInvalidRecord, "the base offset %d is out of range", h.BaseOffset)
	case h.IsControl() && !l.AllowControl:
		return newError(KindInvalidRecord, "a producer may not write control records")
	case h.LogAppendTime() && !l.AllowControl:
		return newError(KindInvalidTimestamp, "a producer may not set the timestamp type to LogAppendTime")
	case h.ProducerID < NoProducerID:
		return newError(KindInvalidRecord, "producer id %d is out of range", h.ProducerID)
	case h.HasProducerID() && h.ProducerEpoch < 0:
		return newError(KindInvalidRecord, "producer id %d has epoch %d", h.ProducerID, h.ProducerEpoch)
	case h.HasProducerID() && h.BaseSequence < 0 && !h.IsControl():
		return newError(KindInvalidRecord, "producer id %d has base sequence %d", h.ProducerID, h.BaseSequence)
	case h.IsTransactional() && !h.HasProducerID():
		return newError(KindInvalidRecord, "a transactional batch has a producer id")
	}
	return nil
}

// Next takes the first batch off a run of whole batches, as a fetch answer or
// a stored extent has them, trusting no length. An empty run gives an empty
// batch and no error. Records and checksum are not looked at.
func Next(b []byte) (batch, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, nil
	}
	h, err := ParseHeader(b)
	if err != nil {
		return nil, nil, err
	}
	size := h.Size()
	switch {
	case h.Magic != magicV2:
		return nil, nil, newError(KindCorrupt, "record format version %d is not known", h.Magic)
	case size < HeaderSize:
		return nil, nil, newError(KindCorrupt, "the batch at offset %d claims %d bytes", h.BaseOffset, size)
	case size > len(b):
		return nil, nil, newError(KindCorrupt, "the batch at offset %d claims %d bytes; %d are left", h.BaseOffset, size, len(b))
	}
	return b[:size:size], b[size:], nil
}

// Split ranges over the batches of a run. It ends after the first error, which
// comes with a nil batch.
func Split(run []byte) func(yield func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		for len(run) > 0 {
			batch, rest, err := Next(run)
			if !yield(batch, err) || err != nil {
				return
			}
			run = rest
		}
	}
}
