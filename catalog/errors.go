package catalog

import "errors"

// The errors of the contract. Implementations wrap them (errors.Is works) and add what was attempted.
var (
	// ErrFenced: the broker epoch is fenced, superseded or unknown. The broker must discard all uncommitted
	// objects, register anew and reload. Never retriable with the same epoch. Of WriteGroups: the shard's lease is not
	// held under that lease epoch (any more); the coordinator must forget the shard.
	ErrFenced = errors.New("broker epoch is fenced")
	// ErrSequence: the commit does not start at last + 1 of an unfenced epoch. Either an earlier try was applied
	// (settle by TailAt) or the caller has a defect. Likewise for the number of WriteGroups.
	ErrSequence = errors.New("commit sequence is not the next one")
	// ErrConflict: the rows a manifest edit was computed from changed or are gone. Reload, plan again.
	ErrConflict = errors.New("manifest changed since the edit was planned")
	// ErrNotHolder: a lease is not held by this broker epoch.
	ErrNotHolder = errors.New("lease is not held by this broker")

	// ErrInvalid: the arguments contradict themselves or are out of range, whatever the catalog holds. Nothing was
	// applied; the caller has a defect. It is found before anything else, the fence too.
	ErrInvalid = errors.New("arguments are invalid")

	ErrTopicExists     = errors.New("topic already exists")
	ErrTopicCollision  = errors.New("topic name collides with an existing topic: '.' and '_' are equal in metric names")
	ErrUnknownTopic    = errors.New("unknown topic")
	ErrPartitionCount  = errors.New("partition count can only grow")
	ErrVersionMismatch = errors.New("topic changed since it was read")
	ErrUnknownBroker   = errors.New("unknown broker")
	ErrNotExpired      = errors.New("broker session has not expired")
	ErrBrokerAlive     = errors.New("a broker is alive")
	ErrNotFound        = errors.New("not found in the catalog")

	// ErrUnavailable: the catalog could not be reached or is too busy, the effect may or may not have been applied.
	// Retriable after settling.
	ErrUnavailable = errors.New("catalog is unavailable")
	// ErrNoSpace: the catalog's disk is full. Nothing was applied. Retriable.
	ErrNoSpace = errors.New("catalog has no space left")
	// ErrClosed: the catalog was closed.
	ErrClosed = errors.New("catalog is closed")
)

// Retriable tells whether trying again (after settling what is in doubt) can succeed without new input.
func Retriable(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNoSpace)
}
