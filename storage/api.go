package storage

import (
	"errors"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// The engine's errors. The broker translates each to one Kafka error code.
var (
	// ErrNotLeader: this broker holds no trusted lease of the partition, or lost it before the append was
	// committed. The client finds the leader and sends again. NOT_LEADER_OR_FOLLOWER.
	ErrNotLeader = errors.New("partition is not led by this broker")
	// ErrUnknownPartition: the topic was deleted, or has fewer partitions. UNKNOWN_TOPIC_OR_PARTITION.
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrOffsetOutOfRange: below the log start or above the high watermark. OFFSET_OUT_OF_RANGE.
	ErrOffsetOutOfRange = errors.New("offset is out of range")
	// ErrOutOfOrderSequence: a gap in a producer's sequence numbers. OUT_OF_ORDER_SEQUENCE_NUMBER.
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrInvalidProducerEpoch: an older epoch of the producer id. INVALID_PRODUCER_EPOCH.
	ErrInvalidProducerEpoch = errors.New("producer epoch is fenced")
	// ErrCorrupt: bytes read do not match their checksum or position. KAFKA_STORAGE_ERROR. Never wrong bytes.
	ErrCorrupt = errors.New("stored bytes are corrupt")
	// ErrUnavailable: object store or catalog do not answer. KAFKA_STORAGE_ERROR, retriable.
	ErrUnavailable = errors.New("storage is unavailable")
	// ErrOverloaded: no room was found for the append within the context's time. REQUEST_TIMED_OUT.
	ErrOverloaded = errors.New("too much is waiting to be stored")
	// ErrClosed: the engine is closed.
	ErrClosed = errors.New("storage engine is closed")
)

// Appended is the outcome of a committed append.
type Appended struct {
	BaseOffset int64
	LogStart   int64
}

// Offsets of a partition; see Kafka's meaning of each in the architecture's words.
type Offsets struct {
	LogStart      int64
	HighWatermark int64
	LastStable    int64
	LeaderEpoch   int32
	// LogStartEpoch is the leader epoch of the record at the log start; -1 when the log is empty.
	LogStartEpoch int32
}

// TimestampOffset is a record found by time. Offset is -1 when there is none.
type TimestampOffset struct {
	Offset      int64
	Timestamp   int64 // milliseconds since 1970
	LeaderEpoch int32
}

// EpochEnd answers OffsetForLeaderEpoch: the largest epoch not above the one asked for, and the offset after its
// last record. -1, -1 when unknown.
type EpochEnd struct {
	Epoch int32
	End   int64
}

// AbortedTxn is one aborted transaction that overlaps a read.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset int64
}

// ProducerState is what DescribeProducers tells of one idempotent producer.
type ProducerState struct {
	ProducerID       int64
	Epoch            int16
	LastSequence     int32
	LastTimestamp    time.Time // of its last commit, by the catalog's clock
	CoordinatorEpoch int32
	TxnStartOffset   int64 // -1: none open
}

// ReadRequest asks for whole batches of one partition.
type ReadRequest struct {
	TP       catalog.TopicPartition
	Offset   int64
	MaxBytes int
	// MinOne: return the first batch even if it is larger than MaxBytes (Kafka: at least one batch per request).
	MinOne bool
	// Until ends a read early, with what it has: after it, catalog and store are asked for the batch of MinOne only. Zero:
	// never. A log of small objects that no cache holds can take longer to read than its client waits, and then again.
	Until time.Time
	// ReadCommitted: stop at the last stable offset.
	ReadCommitted bool
}

// Read is the outcome of a read. It may be used again after Release.
type Read struct {
	// Records are consecutive slices of the log: whole batches in order, though a batch may be cut over two slices.
	// They are valid until Release.
	Records       [][]byte
	Bytes         int
	HighWatermark int64
	LastStable    int64
	LogStart      int64
	Aborted       []AbortedTxn

	pins []releaser
}

type releaser interface{ Release() }

// Release lets go of the memory behind Records. Call it once the bytes have been written out.
func (r *Read) Release() {
	for i, p := range r.pins {
		p.Release()
		r.pins[i] = nil
	}
	clear(r.Records)
	r.pins, r.Records, r.Bytes, r.Aborted = r.pins[:0], r.Records[:0], 0, nil
}

// flight is the fate of one log object: shared by all appends that went into it.
type flight struct {
	done chan struct{}
	err  error // set before done is closed
}

// Pending is an append on its way to durability.
type Pending struct {
	flight *flight
	base   int64
	start  int64
}

// Done is closed when the append is committed or has failed.
func (p Pending) Done() <-chan struct{} { return p.flight.done }

// Result is the outcome; valid once Done is closed.
func (p Pending) Result() (Appended, error) {
	if err := p.flight.err; err != nil {
		return Appended{BaseOffset: -1, LogStart: -1}, err
	}
	return Appended{BaseOffset: p.base, LogStart: p.start}, nil
}

// Settled returns a Pending whose outcome is known: for tests of what stands above the engine.
func Settled(base, logStart int64, err error) Pending {
	f := &flight{done: make(chan struct{}), err: err}
	close(f.done)
	return Pending{flight: f, base: base, start: logStart}
}
