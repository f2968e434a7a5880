package config

import (
	"time"
)

// Flags are the settings of `streamhouse serve`, as kong reads them from flags, environment and file.
type Flags struct {
	Addr           string   `group:"network" env:"STREAMHOUSE_ADDR" default:"127.0.0.1:9092" placeholder:"HOST:PORT" help:"Where Kafka clients connect (default ${default}). Port 0 picks a free one."`
	AdvertisedAddr string   `group:"network" env:"STREAMHOUSE_ADVERTISED_ADDR" placeholder:"HOST[:PORT]" help:"What clients are told to connect to, where that differs from --addr."`
	Listener       []string `group:"network" env:"STREAMHOUSE_LISTENER" sep:"," placeholder:"NAME=BIND@ADVERTISED" help:"A listener with its own advertised address; repeat it for several. Replaces --addr and --advertised-addr."`
	HTTPAddr       string   `group:"network" name:"http-addr" env:"STREAMHOUSE_HTTP_ADDR" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where /metrics, /health and /ready are served (default ${default}); off for none."`

	DataDir string `group:"storage" env:"STREAMHOUSE_DATA_DIR" default:"./streamhouse-data" type:"path" placeholder:"FOLDER" help:"Where the embedded catalog and the local store are kept (default ./streamhouse-data)."`
	Catalog string `group:"storage" env:"STREAMHOUSE_CATALOG" placeholder:"URL" help:"Where the facts are kept: sqlite:PATH, postgres://USER:PASSWORD@HOST/DATABASE, or memory: (default sqlite:DATA-DIR/catalog.db)."`
	Store   string `group:"storage" env:"STREAMHOUSE_STORE" placeholder:"URL" help:"Where the log is kept: file:PATH, s3://BUCKET/PREFIX?endpoint=URL, or memory: (default file:DATA-DIR/objects). ?latency=280ms slows each call of file: and memory: down, for measurements."`

	FlushInterval *time.Duration `group:"flush" env:"STREAMHOUSE_FLUSH_INTERVAL" placeholder:"DURATION" help:"Shortest time between two log objects while somebody waits (default 1ms, with an s3: store 100ms)."`
	FlushBytes    Size           `group:"flush" env:"STREAMHOUSE_FLUSH_BYTES" default:"8MiB" placeholder:"SIZE" help:"Size at which a log object is closed (default ${default})."`
	MergeInterval time.Duration  `group:"flush" env:"STREAMHOUSE_MERGE_INTERVAL" default:"1s" placeholder:"DURATION" help:"How often the tail is looked at for folding and merging (default ${default})."`
	ObjectGrace   *time.Duration `group:"flush" env:"STREAMHOUSE_OBJECT_GRACE" placeholder:"DURATION" help:"How long a replaced object is kept for readers still at it, and for a catalog restored to an earlier time (default 30s, with an s3: store 1h)."`

	AutoCreateTopics *bool `group:"topics" env:"STREAMHOUSE_AUTO_CREATE_TOPICS" negatable:"" help:"Create a topic when a client first asks for it (default on with an embedded catalog, else off)."`
	NumPartitions    int32 `group:"topics" env:"STREAMHOUSE_NUM_PARTITIONS" default:"1" placeholder:"N" help:"Partitions of a topic created without a number (default ${default})."`

	GroupInitialRebalanceDelay     time.Duration `group:"groups" env:"STREAMHOUSE_GROUP_INITIAL_REBALANCE_DELAY" default:"3s" placeholder:"DURATION" help:"How long the first members of a group are waited for, group.initial.rebalance.delay.ms (default ${default})."`
	GroupMinSessionTimeout         time.Duration `group:"groups" env:"STREAMHOUSE_GROUP_MIN_SESSION_TIMEOUT" default:"6s" placeholder:"DURATION" help:"Shortest session a member of a classic group may ask for, group.min.session.timeout.ms (default ${default})."`
	GroupMaxSessionTimeout         time.Duration `group:"groups" env:"STREAMHOUSE_GROUP_MAX_SESSION_TIMEOUT" default:"30m" placeholder:"DURATION" help:"Longest session a member of a classic group may ask for, group.max.session.timeout.ms (default ${default})."`
	GroupMaxSize                   int           `group:"groups" env:"STREAMHOUSE_GROUP_MAX_SIZE" default:"10000" placeholder:"N" help:"Members of a classic group, group.max.size (default ${default})."`
	GroupConsumerSessionTimeout    time.Duration `group:"groups" env:"STREAMHOUSE_GROUP_CONSUMER_SESSION_TIMEOUT" default:"45s" placeholder:"DURATION" help:"After how long without a heartbeat a member of a consumer group (KIP-848) is thrown out, group.consumer.session.timeout.ms (default ${default})."`
	GroupConsumerHeartbeatInterval time.Duration `group:"groups" env:"STREAMHOUSE_GROUP_CONSUMER_HEARTBEAT_INTERVAL" default:"5s" placeholder:"DURATION" help:"How often members of a consumer group send heartbeats, group.consumer.heartbeat.interval.ms (default ${default})."`
	GroupConsumerMaxSize           int           `group:"groups" env:"STREAMHOUSE_GROUP_CONSUMER_MAX_SIZE" default:"10000" placeholder:"N" help:"Members of a consumer group, group.consumer.max.size (default ${default})."`
	GroupConsumerAssignors         []string      `group:"groups" env:"STREAMHOUSE_GROUP_CONSUMER_ASSIGNORS" default:"uniform,range" sep:"," placeholder:"NAME" help:"Assignors of consumer groups, the first is the default, group.consumer.assignors (default ${default})."`
	GroupConsumerMigrationPolicy   string        `group:"groups" env:"STREAMHOUSE_GROUP_CONSUMER_MIGRATION_POLICY" default:"bidirectional" enum:"disabled,upgrade,downgrade,bidirectional" placeholder:"POLICY" help:"Which groups may change their protocol while they have members, group.consumer.migration.policy (default ${default})."`
	OffsetsRetention               time.Duration `group:"groups" env:"STREAMHOUSE_OFFSETS_RETENTION" default:"168h" placeholder:"DURATION" help:"How long the offsets of a group without members are kept, offsets.retention.minutes (default ${default})."`
	OffsetsRetentionCheckInterval  time.Duration `group:"groups" env:"STREAMHOUSE_OFFSETS_RETENTION_CHECK_INTERVAL" default:"10m" placeholder:"DURATION" help:"How often offsets are looked at for expiry, offsets.retention.check.interval.ms (default ${default})."`
	OffsetsCommitTimeout           time.Duration `group:"groups" env:"STREAMHOUSE_OFFSETS_COMMIT_TIMEOUT" default:"5s" placeholder:"DURATION" help:"How long a commit may take before it is answered with a retriable error, offsets.commit.timeout.ms (default ${default})."`
	OffsetMetadataMaxBytes         Size          `group:"groups" env:"STREAMHOUSE_OFFSET_METADATA_MAX_BYTES" default:"4KiB" placeholder:"SIZE" help:"Longest metadata of a committed offset, offset.metadata.max.bytes (default ${default})."`

	MaxConnections      int  `group:"limits" env:"STREAMHOUSE_MAX_CONNECTIONS" default:"10000" placeholder:"N" help:"Client connections at a time (default ${default})."`
	MaxConnectionsPerIP int  `group:"limits" name:"max-connections-per-ip" env:"STREAMHOUSE_MAX_CONNECTIONS_PER_IP" default:"5000" placeholder:"N" help:"Client connections at a time from one address (default ${default})."`
	MaxRequestBytes     Size `group:"limits" env:"STREAMHOUSE_MAX_REQUEST_BYTES" default:"100MiB" placeholder:"SIZE" help:"Largest request; a larger one closes its connection (default ${default})."`
	MemoryLimit         Size `group:"limits" env:"STREAMHOUSE_MEMORY_LIMIT" default:"384MiB" placeholder:"SIZE" help:"Memory to stay within; caches and buffers take shares of it (default ${default})."`
	CacheBytes          Size `group:"limits" env:"STREAMHOUSE_CACHE_BYTES" placeholder:"SIZE" help:"Memory for ranges read back from the store (default an eighth of --memory-limit)."`
	TailCacheBytes      Size `group:"limits" env:"STREAMHOUSE_TAIL_CACHE_BYTES" placeholder:"SIZE" help:"Memory for what was just written, kept for tail readers (default an eighth of --memory-limit)."`
	BufferBytes         Size `group:"limits" env:"STREAMHOUSE_BUFFER_BYTES" placeholder:"SIZE" help:"Memory for requests and batches not yet committed; producers wait above it (default a quarter of --memory-limit)."`

	BrokerID        int32         `group:"identity" name:"broker-id" env:"STREAMHOUSE_BROKER_ID" default:"-1" placeholder:"N" help:"The broker's node id. -1 is 1 with an embedded catalog; else the catalog hands one out, which --data-dir keeps (default ${default})."`
	Rack            string        `group:"identity" env:"STREAMHOUSE_RACK" placeholder:"NAME" help:"The rack or zone, for clients that prefer a near broker."`
	ShutdownTimeout time.Duration `group:"identity" env:"STREAMHOUSE_SHUTDOWN_TIMEOUT" default:"20s" placeholder:"DURATION" help:"How long a stop may take to finish what was accepted (default ${default})."`

	LogLevel            string  `group:"telemetry" env:"STREAMHOUSE_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"debug, info, warn or error (default ${default})."`
	LogFormat           string  `group:"telemetry" env:"STREAMHOUSE_LOG_FORMAT" default:"text" enum:"text,json" placeholder:"FORMAT" help:"text or json (default ${default})."`
	Pprof               bool    `group:"telemetry" env:"STREAMHOUSE_PPROF" help:"Serve Go profiles under /debug/pprof of --http-addr."`
	Metrics             string  `group:"telemetry" env:"STREAMHOUSE_METRICS" default:"on" enum:"on,off" placeholder:"on|off" help:"Measure what the broker does, for /metrics; off measures nothing (default ${default})."`
	TracingEndpoint     string  `group:"telemetry" env:"STREAMHOUSE_TRACING_ENDPOINT" placeholder:"URL" help:"Send OpenTelemetry traces of some Produce and Fetch requests to this collector, OTLP over HTTP, as http://127.0.0.1:4318 (default none)."`
	TracingSample       float64 `group:"telemetry" env:"STREAMHOUSE_TRACING_SAMPLE" default:"0.01" placeholder:"RATIO" help:"Share of requests that are traced, 0 to 1 (default ${default})."`
	MaxPartitionMetrics int     `group:"telemetry" env:"STREAMHOUSE_MAX_PARTITION_METRICS" default:"10000" placeholder:"N" help:"Partitions with metric series of their own; above that they share one per topic (default ${default})."`
}
