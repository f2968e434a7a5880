package group

import "time"

// Config is what bounds and times a group. The names are Kafka's; those of a consumer group can be set per group
// (IncrementalAlterConfigs of a GROUP).
type Config struct {
	SessionTimeoutMin     time.Duration // group.min.session.timeout.ms
	SessionTimeoutMax     time.Duration // group.max.session.timeout.ms
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms
	MaxSize               int           // group.max.size, in members
	MaxMemberBytes        int           // of one member's id, subscription and assignment together; ours
	OffsetMetadataMax     int           // offset.metadata.max.bytes
	OffsetRetention       time.Duration // offsets.retention.minutes
	OffsetCheck           time.Duration // offsets.retention.check.interval.ms
	MaxOffsets            int           // committed partitions of one group; ours

	ConsumerSessionTimeout    time.Duration // group.consumer.session.timeout.ms
	ConsumerHeartbeatInterval time.Duration // group.consumer.heartbeat.interval.ms
	ConsumerMaxSize           int           // group.consumer.max.size, in members
	// What the two may be set to for a group: group.consumer.min.session.timeout.ms and so on.
	ConsumerSessionTimeoutMin, ConsumerSessionTimeoutMax       time.Duration
	ConsumerHeartbeatIntervalMin, ConsumerHeartbeatIntervalMax time.Duration

	ConsumerAssignors    []string      // group.consumer.assignors; the first is the default
	ConsumerRegexRefresh time.Duration // group.consumer.regex.refresh.interval.ms
	Migration            Migration     // group.consumer.migration.policy
}

// Migration says which kinds of groups may become the other kind while they have members.
type Migration string

// The policies, by Kafka's names.
const (
	MigrationDisabled      Migration = "disabled"
	MigrationUpgrade       Migration = "upgrade"
	MigrationDowngrade     Migration = "downgrade"
	MigrationBidirectional Migration = "bidirectional"
)

// DefaultConfig is Kafka's, with bounds where Kafka has none.
func DefaultConfig() Config {
	return Config{
		SessionTimeoutMin:         6 * time.Second,
		SessionTimeoutMax:         30 * time.Minute,
		InitialRebalanceDelay:     3 * time.Second,
		MaxSize:                   10_000,
		MaxMemberBytes:            1 << 20,
		OffsetMetadataMax:         4096,
		OffsetRetention:           7 * 24 * time.Hour,
		OffsetCheck:               10 * time.Minute,
		MaxOffsets:                200_000,
		ConsumerSessionTimeout:    45 * time.Second,
		ConsumerHeartbeatInterval: 5 * time.Second,
		ConsumerMaxSize:           10_000,

		ConsumerSessionTimeoutMin: 45 * time.Second, ConsumerSessionTimeoutMax: time.Minute,
		ConsumerHeartbeatIntervalMin: 5 * time.Second, ConsumerHeartbeatIntervalMax: 15 * time.Second,

		ConsumerAssignors:    []string{"uniform", "range"},
		ConsumerRegexRefresh: 10 * time.Minute,
		Migration:            MigrationBidirectional,
	}
}
