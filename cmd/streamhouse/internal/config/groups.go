package config

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
)

// WithGroupDefaults sets what concerns groups to what kong would: for those who make Flags without it.
func (f Flags) WithGroupDefaults() Flags {
	g := group.DefaultConfig()
	f.GroupInitialRebalanceDelay = g.InitialRebalanceDelay
	f.GroupMinSessionTimeout, f.GroupMaxSessionTimeout = g.SessionTimeoutMin, g.SessionTimeoutMax
	f.GroupMaxSize, f.GroupConsumerMaxSize = g.MaxSize, g.ConsumerMaxSize
	f.GroupConsumerSessionTimeout, f.GroupConsumerHeartbeatInterval = g.ConsumerSessionTimeout, g.ConsumerHeartbeatInterval
	f.GroupConsumerAssignors, f.GroupConsumerMigrationPolicy = g.ConsumerAssignors, string(g.Migration)
	f.OffsetsRetention, f.OffsetsRetentionCheckInterval, f.OffsetsCommitTimeout = g.OffsetRetention, g.OffsetCheck, 5*time.Second
	f.OffsetMetadataMaxBytes = Size(g.OffsetMetadataMax)
	return f
}

// group are the configs of groups.
func (f Flags) group() group.Config {
	g := group.DefaultConfig()
	g.InitialRebalanceDelay = f.GroupInitialRebalanceDelay
	g.SessionTimeoutMin, g.SessionTimeoutMax = f.GroupMinSessionTimeout, f.GroupMaxSessionTimeout
	g.MaxSize, g.ConsumerMaxSize = f.GroupMaxSize, f.GroupConsumerMaxSize
	g.OffsetMetadataMax = int(f.OffsetMetadataMaxBytes)
	g.OffsetRetention, g.OffsetCheck = f.OffsetsRetention, f.OffsetsRetentionCheckInterval
	g.ConsumerSessionTimeout, g.ConsumerHeartbeatInterval = f.GroupConsumerSessionTimeout, f.GroupConsumerHeartbeatInterval
	g.ConsumerAssignors = f.GroupConsumerAssignors
	g.Migration = group.Migration(f.GroupConsumerMigrationPolicy)
	// What can be set for one group includes what all others have.
	g.ConsumerSessionTimeoutMin = min(g.ConsumerSessionTimeoutMin, g.ConsumerSessionTimeout)
	g.ConsumerSessionTimeoutMax = max(g.ConsumerSessionTimeoutMax, g.ConsumerSessionTimeout)
	g.ConsumerHeartbeatIntervalMin = min(g.ConsumerHeartbeatIntervalMin, g.ConsumerHeartbeatInterval)
	g.ConsumerHeartbeatIntervalMax = max(g.ConsumerHeartbeatIntervalMax, g.ConsumerHeartbeatInterval)
	return g
}

const (
	maxGroupSize       = 100_000
	maxRebalanceDelay  = 10 * time.Minute
	maxGroupSession    = 24 * time.Hour
	maxOffsetRetention = 100 * 365 * 24 * time.Hour
	maxOffsetMetadata  = 1 * MiB
)

func (f Flags) checkGroups() (errs []error) {
	between := func(name string, d, low, high time.Duration) {
		if d < low || d > high {
			errs = append(errs, fmt.Errorf("--%s %v: want %v to %v", name, d, low, high))
		}
	}
	size := func(name string, n int) {
		if n < 1 || n > maxGroupSize {
			errs = append(errs, fmt.Errorf("--%s %d: want 1 to %d", name, n, maxGroupSize))
		}
	}
	between("group-initial-rebalance-delay", f.GroupInitialRebalanceDelay, 0, maxRebalanceDelay)
	between("group-max-session-timeout", f.GroupMaxSessionTimeout, time.Millisecond, maxGroupSession)
	between("group-min-session-timeout", f.GroupMinSessionTimeout, time.Millisecond, f.GroupMaxSessionTimeout)
	between("group-consumer-session-timeout", f.GroupConsumerSessionTimeout, time.Millisecond, maxGroupSession)
	between("group-consumer-heartbeat-interval", f.GroupConsumerHeartbeatInterval, time.Millisecond, f.GroupConsumerSessionTimeout-time.Millisecond)
	between("offsets-retention", f.OffsetsRetention, time.Minute, maxOffsetRetention)
	between("offsets-retention-check-interval", f.OffsetsRetentionCheckInterval, time.Millisecond, maxOffsetRetention)
	between("offsets-commit-timeout", f.OffsetsCommitTimeout, time.Millisecond, maxGroupSession)
	size("group-max-size", f.GroupMaxSize)
	size("group-consumer-max-size", f.GroupConsumerMaxSize)
	if f.OffsetMetadataMaxBytes < 0 || f.OffsetMetadataMaxBytes > maxOffsetMetadata {
		errs = append(errs, fmt.Errorf("--offset-metadata-max-bytes %v: want 0 to %v", f.OffsetMetadataMaxBytes, maxOffsetMetadata))
	}
	if len(f.GroupConsumerAssignors) == 0 {
		errs = append(errs, errors.New("--group-consumer-assignors: want at least one"))
	}
	for _, a := range f.GroupConsumerAssignors {
		if !slices.Contains(group.DefaultConfig().ConsumerAssignors, a) {
			errs = append(errs, fmt.Errorf("--group-consumer-assignors %q: want some of %v", a, group.DefaultConfig().ConsumerAssignors))
		}
	}
	return errs
}
