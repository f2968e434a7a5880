package bench

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Bounds of [Options].
const (
	MaxRecordBytes = 64 << 20
	MaxClients     = 256
	MaxPartitions  = 100_000

	// stampBytes is the smallest record of an end-to-end test: a run id and a time.
	stampBytes = 16
)

// Options say what to do. The zero value of a field with a default is not the default: the command line sets them.
type Options struct {
	Bootstrap []string
	ClientID  string

	// The topic is made when it does not exist.
	Topic             string
	Partitions        int
	ReplicationFactor int
	// CreateOnly names configs for a topic that is made, for example max.message.bytes.
	TopicConfigs map[string]*string

	// Producing.
	Producers     int           // clients
	RecordBytes   int           // of the value
	KeyBytes      int           // of the key; 0 for null keys
	Records       int64         // to produce or consume, after the warm-up; 0 for no limit
	Duration      time.Duration // of producing, after the warm-up; 0 for no limit
	WarmUp        time.Duration // not counted
	Rate          float64       // records/s of all producers; 0 for as fast as may be
	Acks          Acks
	Idempotent    bool
	Codec         Codec
	BatchMaxBytes int
	Linger        time.Duration
	MaxBuffered   int // records per client
	InFlight      int // produce requests per broker and client; 0 for the client's default
	Compressible  bool

	// Consuming.
	Consumers              int // clients; the partitions are dealt among them
	FetchMaxBytes          int
	FetchMaxPartitionBytes int
	FetchMaxWait           time.Duration
	FetchMinBytes          int
	CheckCRCs              bool
	WhileProducing         bool
	// IdleTimeout ends a test in which nothing arrives for so long, with an error.
	IdleTimeout time.Duration

	Progress io.Writer    // nil for none
	Log      *slog.Logger // of the client; nil for none
}

// Acks is what a producer waits for.
type Acks int

// The choices.
const (
	AcksAll Acks = iota
	AcksLeader
	AcksNone
)

// ParseAcks understands all (or -1), 1 and 0.
func ParseAcks(s string) (Acks, error) {
	switch s {
	case "all", "-1":
		return AcksAll, nil
	case "1", "leader":
		return AcksLeader, nil
	case "0", "none":
		return AcksNone, nil
	}
	return 0, fmt.Errorf("acks %q: want all, 1 or 0", s)
}

func (a Acks) String() string {
	switch a {
	case AcksLeader:
		return "1"
	case AcksNone:
		return "0"
	default:
		return "all"
	}
}

// Kgo returns the client's value.
func (a Acks) Kgo() kgo.Acks {
	switch a {
	case AcksLeader:
		return kgo.LeaderAck()
	case AcksNone:
		return kgo.NoAck()
	default:
		return kgo.AllISRAcks()
	}
}

// Codec is a compression codec by Kafka's name.
type Codec string

// The codecs.
const (
	CodecNone   Codec = "none"
	CodecGzip   Codec = "gzip"
	CodecSnappy Codec = "snappy"
	CodecLz4    Codec = "lz4"
	CodecZstd   Codec = "zstd"
)

// Kgo returns the client's value; false when the name is unknown.
func (c Codec) Kgo() (kgo.CompressionCodec, bool) {
	switch c {
	case CodecNone, "":
		return kgo.NoCompression(), true
	case CodecGzip:
		return kgo.GzipCompression(), true
	case CodecSnappy:
		return kgo.SnappyCompression(), true
	case CodecLz4:
		return kgo.Lz4Compression(), true
	case CodecZstd:
		return kgo.ZstdCompression(), true
	}
	return kgo.NoCompression(), false
}

// validate checks what every test needs.
func (o *Options) validate() error {
	switch {
	case len(o.Bootstrap) == 0:
		return errors.New("no broker to connect to: name one with --bootstrap")
	case o.Topic == "":
		return errors.New("no topic: name one with --topic")
	case o.Partitions < 1 || o.Partitions > MaxPartitions:
		return fmt.Errorf("--partitions %d: want 1 to %d", o.Partitions, MaxPartitions)
	case o.Records < 0:
		return fmt.Errorf("--records %d: want 0 (no limit) or more", o.Records)
	case o.Duration < 0 || o.WarmUp < 0:
		return errors.New("--duration and --warm-up cannot be negative")
	case o.Rate < 0:
		return fmt.Errorf("--rate %v: want 0 (no limit) or more", o.Rate)
	case o.IdleTimeout <= 0:
		return errors.New("--idle-timeout must be above 0")
	}
	return nil
}

func (o *Options) validateProduce() error {
	if err := o.validate(); err != nil {
		return err
	}
	switch {
	case o.Records == 0 && o.Duration == 0:
		return errors.New("when should it end? Give --records or --duration")
	case o.RecordBytes < 0 || o.RecordBytes > MaxRecordBytes:
		return fmt.Errorf("--record-size %d: want 0 to %d bytes", o.RecordBytes, MaxRecordBytes)
	case o.KeyBytes < 0 || o.KeyBytes > MaxRecordBytes:
		return fmt.Errorf("--key-size %d: want 0 to %d bytes", o.KeyBytes, MaxRecordBytes)
	case o.Producers < 1 || o.Producers > MaxClients:
		return fmt.Errorf("--producers %d: want 1 to %d", o.Producers, MaxClients)
	case o.MaxBuffered < 1:
		return fmt.Errorf("--max-buffered-records %d: want 1 or more", o.MaxBuffered)
	case o.Idempotent && o.Acks != AcksAll:
		return fmt.Errorf("--acks %s: an idempotent producer needs acks=all; add --no-idempotent", o.Acks)
	}
	if _, ok := o.Codec.Kgo(); !ok {
		return fmt.Errorf("--codec %q: want none, gzip, snappy, lz4 or zstd", o.Codec)
	}
	return nil
}

func (o *Options) validateConsume() error {
	if err := o.validate(); err != nil {
		return err
	}
	if o.Consumers < 1 || o.Consumers > MaxClients {
		return fmt.Errorf("--consumers %d: want 1 to %d", o.Consumers, MaxClients)
	}
	return nil
}
