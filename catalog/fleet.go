package catalog

import "context"

// Fleet is what a catalog that several brokers share offers besides [Catalog]. The memory catalog has it for
// simulation, Postgres for clusters; SQLite has not, because one process owns its file. All methods are safe for
// concurrent use and may return what those of Catalog may.
type Fleet interface {
	// MoveLeases hands leases of partitions over to another broker epoch, each with its lease epoch grown by one. The
	// caller has committed its last object with data of these partitions. Those that epoch does not hold are left out
	// of the answer (also on a repeat: LeaseSet tells who has them then). It locks the caller's broker row, then the
	// receiver's, in the order of epochs. ErrFenced when the caller is fenced; ErrUnknownBroker when the receiver is
	// fenced or unknown, and then nothing has moved. Wanted is cleared.
	MoveLeases(ctx context.Context, epoch, to BrokerEpoch, partitions []TopicPartition) ([]Lease, error)
	// AskMoves notes whom leases should be handed over to ([Lease.Wanted]): a request to their holders, not a move.
	// Asks for the epoch that already holds the lease, for fenced receivers and for unknown partitions are ignored;
	// To 0 withdraws a request. It grows the version of the lease set if anything changed. ErrFenced when asker is.
	AskMoves(ctx context.Context, asker BrokerEpoch, moves []Move) error
	// SetDraining marks a broker id, whatever its epoch, as one that should hold no leases, or takes the mark back.
	// It is kept until taken back. ErrUnknownBroker when no unfenced epoch has that id.
	SetDraining(ctx context.Context, id BrokerID, draining bool) error
	// ReadMerges returns the tail rows of epoch that hot merges made ([TailEntry.Merge] > after), by Merge, at most
	// limit. Rows folded meanwhile are absent.
	ReadMerges(ctx context.Context, epoch BrokerEpoch, after int64, limit int) ([]TailEntry, error)

	// Announce wakes the other brokers: best effort, coalesced, never a guarantee. Calls do not wait for listeners.
	Announce(ctx context.Context, a Announcement) error
	// Listen calls fn, from one goroutine, for announcements of others until ctx ends or the connection is lost, whose
	// error it returns; the caller calls it again, and looks at everything once, since what was announced meanwhile is
	// lost.
	Listen(ctx context.Context, fn func(Announcement)) error
	// Attach shows that the process of this broker epoch lives, until the returned function is called, or the process
	// or its connection dies. lost is closed when the connection was lost; attach again then, with the same epoch.
	Attach(ctx context.Context, epoch BrokerEpoch) (detach func(), lost <-chan struct{}, err error)
	// Detached returns those of the epochs that nobody is attached as now. It is a hint: see the architecture, section
	// 6, for when it may be acted on. It fails unless this process's own attachment stands on the same server start.
	Detached(ctx context.Context, epochs []BrokerEpoch) ([]BrokerEpoch, error)
}

// Move is a wish: the lease of a partition should go to another broker epoch.
type Move struct {
	TopicPartition
	To BrokerEpoch
}

// Announcement says what moved. Zero fields say nothing.
type Announcement struct {
	From   BrokerEpoch
	Last   Sequence // From committed up to here
	Leases bool     // the lease set or the brokers changed
	Topics bool     // the topic set changed
}
