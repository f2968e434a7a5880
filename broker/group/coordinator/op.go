package coordinator

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/group"
)

// op is an operation on its way through a shard: a request, or a read of one group or of all, or of what members changed.
type op struct {
	id   string
	req  group.Request
	read func(machine)
	each func(machine)
	take *ShardMembers

	answer answer        // valid once done is closed
	done   chan struct{} // closed by the shard's goroutine, once

	// The shard's goroutine's own.
	at       *entry
	answered bool
	deadline time.Time // until then what it was answered with has to be durable
}

type answer struct {
	body    kmsg.Response
	err     error
	durable bool // it left after a write
}

func newOp(id string) *op { return &op{id: id, done: make(chan struct{})} }

// laterAnswer is one that waits for the writes of its group up to a number.
type laterAnswer struct {
	upto uint64
	op   *op
	body kmsg.Response
}
