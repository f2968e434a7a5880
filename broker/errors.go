package broker

import (
	"context"
	"errors"

	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage"
)

// Kafka's error codes, as far as this broker answers them.
const (
	codeUnknownServerError          int16 = -1
	codeNone                        int16 = 0
	codeOffsetOutOfRange            int16 = 1
	codeCorruptMessage              int16 = 2
	codeUnknownTopicOrPartition     int16 = 3
	codeLeaderNotAvailable          int16 = 5
	codeNotLeaderOrFollower         int16 = 6
	codeRequestTimedOut             int16 = 7
	codeMessageTooLarge             int16 = 10
	codeCoordinatorLoading          int16 = 14
	codeCoordinatorNotAvailable     int16 = 15
	codeNotCoordinator              int16 = 16
	codeInvalidTopic                int16 = 17
	codeInvalidRequiredAcks         int16 = 21
	codeInconsistentGroupProtocol   int16 = 23
	codeInvalidGroupID              int16 = 24
	codeRebalanceInProgress         int16 = 27
	codeTopicAuthorizationFailed    int16 = 29
	codeInvalidTimestamp            int16 = 32
	codeUnsupportedVersion          int16 = 35
	codeTopicAlreadyExists          int16 = 36
	codeInvalidPartitions           int16 = 37
	codeInvalidReplicationFactor    int16 = 38
	codeInvalidReplicaAssignment    int16 = 39
	codeInvalidConfig               int16 = 40
	codeInvalidRequest              int16 = 42
	codeOutOfOrderSequence          int16 = 45
	codeInvalidProducerEpoch        int16 = 47
	codeTransactionalIDAuth         int16 = 53
	codeSecurityDisabled            int16 = 54
	codeStorageError                int16 = 56
	codeFetchSessionIDNotFound      int16 = 70
	codeInvalidFetchSessionEpoch    int16 = 71
	codeFencedLeaderEpoch           int16 = 74
	codeUnknownLeaderEpoch          int16 = 75
	codeUnsupportedCompression      int16 = 76
	codeOffsetNotAvailable          int16 = 78
	codePreferredLeaderNotAvailable int16 = 80
	codeEligibleLeadersNotAvailable int16 = 83
	codeElectionNotNeeded           int16 = 84
	codeNoReassignmentInProgress    int16 = 85
	codeInvalidRecord               int16 = 87
	codeUnknownTopicID              int16 = 100
	codeFetchSessionTopicIDError    int16 = 106
	codeMismatchedEndpointType      int16 = 114
	codeUnsupportedEndpointType     int16 = 115
	codeUnsupportedForMessageFormat int16 = 43
)

// Kafka's messages for errors whose text clients show.
const (
	msgUnknownTopic   = "This server does not host this topic-partition."
	msgUnknownTopicID = "This server does not host this topic ID."
)

// errInternalTopic: a client wants to change a topic that belongs to the brokers. INVALID_TOPIC_EXCEPTION.
var errInternalTopic = errors.New(msgInternalTopic)

// codeOf translates an error of storage or catalog into Kafka's code. It is the only place that does.
func codeOf(err error) int16 {
	switch {
	case err == nil:
		return codeNone
	case errors.Is(err, coordinator.ErrNotCoordinator):
		return codeNotCoordinator
	case errors.Is(err, coordinator.ErrLoading):
		return codeCoordinatorLoading
	case errors.Is(err, coordinator.ErrUnavailable):
		return codeCoordinatorNotAvailable
	case errors.Is(err, storage.ErrNotLeader), errors.Is(err, storage.ErrClosed), errors.Is(err, catalog.ErrFenced), errors.Is(err, catalog.ErrNotHolder):
		return codeNotLeaderOrFollower
	case errors.Is(err, storage.ErrUnknownPartition), errors.Is(err, catalog.ErrUnknownTopic):
		return codeUnknownTopicOrPartition
	case errors.Is(err, storage.ErrOffsetOutOfRange):
		return codeOffsetOutOfRange
	case errors.Is(err, storage.ErrOutOfOrderSequence):
		return codeOutOfOrderSequence
	case errors.Is(err, storage.ErrInvalidProducerEpoch):
		return codeInvalidProducerEpoch
	case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrUnavailable), errors.Is(err, catalog.ErrNoSpace):
		return codeStorageError
	case errors.Is(err, storage.ErrOverloaded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, catalog.ErrUnavailable), errors.Is(err, catalog.ErrClosed):
		return codeRequestTimedOut
	case errors.Is(err, catalog.ErrTopicExists):
		return codeTopicAlreadyExists
	case errors.Is(err, catalog.ErrTopicCollision), errors.Is(err, errInternalTopic):
		return codeInvalidTopic
	case errors.Is(err, catalog.ErrPartitionCount):
		return codeInvalidPartitions
	default:
		return codeUnknownServerError
	}
}

// routine tells codes that clients meet in normal operation: not worth a log line.
func routine(code int16) bool {
	switch code {
	case codeNone, codeNotLeaderOrFollower, codeUnknownTopicOrPartition, codeUnknownTopicID, codeOffsetOutOfRange,
		codeFencedLeaderEpoch, codeUnknownLeaderEpoch, codeOffsetNotAvailable, codeRequestTimedOut:
		return true
	default:
		return false
	}
}
