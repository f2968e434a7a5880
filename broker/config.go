package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/streamhouse/streamhouse/broker/attribution"
	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// Config is what a Broker needs. Log, Catalog, ClusterID, Pool and at least one listener must be set; a zero limit
// means its default.
type Config struct {
	Log     Log
	Catalog catalog.Catalog
	// Cluster is who shares the partitions; nil when the broker is alone, as the embedded one is.
	Cluster Cluster
	// Pool gives the buffers that request frames are read into.
	Pool *slab.Pool
	// Logger; nil discards.
	Logger *slog.Logger
	// Observer's hooks may be nil.
	Observer Observer
	// Tracer follows requests; nil: none are traced.
	Tracer Tracer

	// Leases are those of the engine behind Log, which tell which groups this broker coordinates; nil: it has no groups.
	Leases coordinator.Leases
	// Group are the configs of groups; the zero value means Kafka's defaults.
	Group *group.Config
	// Members finds the members of groups that others coordinate; nil when the broker is alone.
	Members attribution.Members
	// OffsetCommitTimeout is offsets.commit.timeout.ms: how long a member waits at most until what it asked for is durable.
	// Default 5 s.
	OffsetCommitTimeout time.Duration

	// NodeID is Kafka's node.id (broker.id).
	NodeID int32
	// Rack is Kafka's broker.rack; empty means none.
	Rack      string
	ClusterID string
	// Listeners are the advertised addresses by listener name (advertised.listeners). A connection is told the
	// addresses that the brokers have on the listener it came in by; of a broker without such a listener its first one.
	Listeners map[string]Endpoint

	// AutoCreateTopics is auto.create.topics.enable.
	AutoCreateTopics bool
	// NumPartitions is num.partitions: for topics created without a count. Default 1.
	NumPartitions int32
	// ReplicationFactor is default.replication.factor: how many brokers a partition is shown with, which is also how
	// many may be picked as near ones by rack-aware consumers. Durability comes from the store. Default 1.
	ReplicationFactor int16

	Limits Limits
}

// Endpoint is an advertised address.
type Endpoint struct {
	Host string
	Port int32
}

// Limits bound what clients can make the broker hold. Zero fields mean the default.
type Limits struct {
	// MaxConnections is max.connections, over all listeners. Default 10,000.
	MaxConnections int
	// MaxConnectionsPerIP is max.connections.per.ip. Default: no limit of its own.
	MaxConnectionsPerIP int
	// MaxRequestBytes is socket.request.max.bytes: the longest frame. Default 100 MiB.
	MaxRequestBytes int
	// RequestMemoryBytes is queued.max.request.bytes: frames in memory, broker-wide. At the bound reading waits. A
	// longer frame is admitted alone. Default 128 MiB.
	RequestMemoryBytes int64
	// AnswerMemoryBytes bounds record bytes of Fetch answers being written, broker-wide. At the bound answers become
	// small (one batch), never refused. Default 128 MiB.
	AnswerMemoryBytes int64
	// InFlightRequests bounds requests read and not answered, per connection. Default 64.
	InFlightRequests int
	// InFlightBytes bounds their bytes, per connection; one longer request is admitted alone. Default 32 MiB.
	InFlightBytes int64
	// IdleTimeout is connections.max.idle.ms. Default 10 minutes.
	IdleTimeout time.Duration
	// FrameTimeout is the longest wait for the next MiB (or the rest) of a started frame. Default 30 s.
	FrameTimeout time.Duration
	// WriteTimeout is the longest wait for a client to take a MiB of its answers. Default 30 s.
	WriteTimeout time.Duration
	// FetchMaxBytes is fetch.max.bytes: the broker's cap of one Fetch answer. Default 55 MiB, as Kafka.
	FetchMaxBytes int
	// FetchSessions is max.incremental.fetch.session.cache.slots. Default 1,000.
	FetchSessions int
	// FetchSessionPartitions bounds the partitions of all cached sessions together (about 450 bytes each). Default
	// 400,000.
	FetchSessionPartitions int
	// PartitionsPerTopic bounds one topic's partitions. Default 10,000.
	PartitionsPerTopic int32
	// Partitions bounds the cluster's partitions. Default 200,000.
	Partitions int
	// DescribePartitions is max.request.partition.size.limit, for DescribeTopicPartitions. Default 2,000.
	DescribePartitions int32
	// Groups bounds the groups this broker coordinates. Default 1,000,000.
	Groups int
	// ProduceTimeout caps the timeout a Produce may ask for. Default 2 minutes.
	ProduceTimeout time.Duration
}

// Observer hears what happens. Each hook may be nil, must not block, and is called concurrently.
type Observer struct {
	// Connections: the number of open connections changed.
	Connections func(open int)
	// Request: one request was answered (or dropped). api is Kafka's name, code the first error code in the answer.
	Request func(api string, code int16, took time.Duration)
	// Groups: what the coordinator of groups does.
	Groups coordinator.Hooks
	// OffsetCommitted: so many offsets of an OffsetCommit were answered with this code.
	OffsetCommitted func(code int16, offsets int)
	// Appended: a batch was accepted and waits to be committed. records > 0.
	Appended func(topic string, partition int32, records int)
	// Produced: an appended batch was committed (code 0) or failed; wait is from append to outcome.
	Produced func(topic string, partition int32, records, bytes int, wait time.Duration, code int16)
	// ProduceRefused: a partition of a Produce was refused before it was appended.
	ProduceRefused func(topic string, code int16)
	// ProduceAnswered: request read to answer ready, once per topic. trace is the request's, or "".
	ProduceAnswered func(topic string, took time.Duration, trace string)
	// Served: an answer to a Fetch has so many bytes of batches.
	Served func(bytes int)
	// Fetched: so much of a partition was put into answers, for members of a group, or "": see package attribution. Some of it is told
	// later. records are those from the offset asked for on. If it is nil, nothing is done to find out who reads.
	Fetched func(group, topic string, partition int32, records, bytes int)
	// GroupGone: a group that Fetched was told of does not exist any more, or none of its members has fetched for minutes.
	GroupGone func(group string)
	// FetchAnswered: request read to answer ready, long-poll wait included, once per topic in the answer. trace is the
	// request's, or "".
	FetchAnswered func(topic string, took time.Duration, trace string)
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

func (c *Config) setDefaults() error {
	switch {
	case c.Log == nil:
		return errors.New("broker config: Log is not set")
	case c.Catalog == nil:
		return errors.New("broker config: Catalog is not set")
	case c.Pool == nil:
		return errors.New("broker config: Pool is not set")
	case len(c.Listeners) == 0:
		return errors.New("broker config: no listener is advertised; give at least one")
	case c.NodeID < 0:
		return fmt.Errorf("broker config: node id %d is negative", c.NodeID)
	}
	for name, e := range c.Listeners {
		if e.Host == "" || e.Port <= 0 || e.Port > 65535 {
			return fmt.Errorf("broker config: listener %q advertises %q port %d, which no client can use", name, e.Host, e.Port)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&c.NumPartitions, 1)
	orDefault(&c.ReplicationFactor, 1)
	l := &c.Limits
	orDefault(&l.MaxConnections, 10_000)
	orDefault(&l.MaxConnectionsPerIP, l.MaxConnections)
	orDefault(&l.MaxRequestBytes, 100*mib)
	orDefault(&l.RequestMemoryBytes, 128*mib)
	orDefault(&l.AnswerMemoryBytes, 128*mib)
	orDefault(&l.InFlightRequests, 64)
	orDefault(&l.InFlightBytes, 32*mib)
	orDefault(&l.IdleTimeout, 10*time.Minute)
	orDefault(&l.FrameTimeout, 30*time.Second)
	orDefault(&l.WriteTimeout, 30*time.Second)
	orDefault(&l.FetchMaxBytes, 55*mib)
	orDefault(&l.FetchSessions, 1000)
	orDefault(&l.FetchSessionPartitions, 400_000)
	orDefault(&l.PartitionsPerTopic, 10_000)
	orDefault(&l.Partitions, 200_000)
	orDefault(&l.DescribePartitions, 2000)
	orDefault(&l.ProduceTimeout, 2*time.Minute)
	orDefault(&l.Groups, 1_000_000)
	orDefault(&c.OffsetCommitTimeout, 5*time.Second)
	if c.Group == nil {
		c.Group = new(group.DefaultConfig())
	}
	return nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
