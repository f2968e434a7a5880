package catalog

import "context"

// Fleet is what a catalog that several brokers share offers besides [Catalog]. The memory catalog has it for
// simulation, Postgres for clusters; SQLite has not, because one process owns its file. All methods are safe for
// concurrent use and may return what those of Catalog may.
//
// A handle is one opened catalog: that of one process. Closing it, or the end of its process, ends its attachments at
// once, and its listening.
type Fleet interface {
	// MoveLeases hands leases over to another broker epoch, each with its lease epoch grown by one, and returns the leases
	// that moved, as they are now. Those that epoch does not hold under the lease epoch named are left out of the answer, also
	// on a repeat: LeaseSet tells who has them then. So a move that is applied late, after its leases came back, moves
	// nothing. It locks the caller's broker row, then the receiver's, in the
	// order of epochs. ErrInvalid when both are the same; ErrFenced when the caller is fenced; ErrUnknownBroker when
	// the receiver is fenced or unknown, and then nothing has moved. Wanted is cleared.
	//
	// The caller has committed its last object with data of these partitions: a commit is guarded by the broker's row
	// alone, so nothing refuses a later one of an old holder that goes on living. A receiver trusts this order.
	MoveLeases(ctx context.Context, epoch, to BrokerEpoch, leases []HeldLease) ([]Lease, error)
	// AskMoves notes whom leases should be handed over to ([Lease.Wanted]): a request to their holders, not a move.
	// Asks for the epoch that already holds the lease, for free leases, for fenced or unknown receivers and for unknown
	// partitions are ignored: they change nothing. To 0 withdraws a request. It grows the version of the lease set if
	// anything changed. ErrInvalid when two moves name one partition; ErrFenced when asker is.
	//
	// A request ends when its lease moves or becomes free. One for a receiver that was fenced since may stay: holders
	// look whether the receiver lives.
	AskMoves(ctx context.Context, asker BrokerEpoch, moves []Move) error
	// SetDraining marks a broker id, whatever its epoch, as one that should hold no leases, or takes the mark back.
	// It is kept until taken back, and later epochs of that id have it too. It grows the version of the lease set if it
	// changed anything. ErrUnknownBroker when no unfenced epoch has that id.
	SetDraining(ctx context.Context, id BrokerID, draining bool) error
	// ReadMerges returns the tail rows of epoch that hot merges made ([TailEntry.Merge] > after), by Merge, at most
	// limit. Rows folded or merged again meanwhile are absent.
	ReadMerges(ctx context.Context, epoch BrokerEpoch, after int64, limit int) ([]TailEntry, error)

	// MembersOf returns the members of groups that have one of these clients, but for groups of the shards besides, in no
	// order, at most limit: from limit on there may be more. Members that have the Version in known come without State, since
	// that is as it was. It is for who wants to know whose a client is, and may be as old as its snapshot.
	MembersOf(ctx context.Context, clients []GroupClient, besides []int32, known map[MemberName]int64, limit int) ([]ClientMember, error)

	// Announce wakes the other handles: best effort, coalesced, never a guarantee. Calls do not wait for listeners.
	// Nothing is guarded: a fenced epoch may announce.
	Announce(ctx context.Context, a Announcement) error
	// Listen calls fn, from one goroutine, for announcements of other handles until ctx ends, the handle is closed or
	// the connection is lost, and returns why. What was announced while nobody listened is lost, therefore fn is called
	// first of all with the zero Announcement, when it listens: the caller looks at everything then. Announcements of
	// one From may come as one: the largest Last, Leases and Topics if any had them, Leaving.
	Listen(ctx context.Context, fn func(Announcement)) error
	// Attach shows that the process of this broker epoch lives, until the returned function is called, or the process
	// or its connection dies. lost is closed once it stands no longer: the connection was lost, the handle closed, or
	// it was detached; after a loss attach again with the same epoch. Several attachments of one epoch may stand at once, so that attaching again need not wait for an
	// old connection to be found dead. It does not look whether the epoch is fenced. detach may be called repeatedly.
	Attach(ctx context.Context, epoch BrokerEpoch) (detach func(), lost <-chan struct{}, err error)
	// Detached returns those of the epochs that nobody is attached as now. It is a hint: see the architecture, section
	// 6, for when it may be acted on. ErrUnavailable unless an attachment of this handle stands on the same server
	// start; an observer that was away has seen nothing.
	Detached(ctx context.Context, epochs []BrokerEpoch) ([]BrokerEpoch, error)
	// Unfenced is nil if, at some moment after it was called, the broker epoch was not fenced: so what its process knew under
	// its leases when it called was not known better by anybody. It says nothing of later. It changes nothing, a session is
	// not renewed. ErrFenced, also for an epoch never handed out; ErrUnavailable when it was answered by another server, or
	// another start of it, than this handle attached to last: a deposed server may not know of a fence.
	Unfenced(ctx context.Context, epoch BrokerEpoch) error
}

// GroupClient is the client of a member, as its coordinator sees it.
type GroupClient struct{ ID, Host string }

// MemberName names a member of a group.
type MemberName struct{ Group, Member string }

// ClientMember is a member as [Fleet.MembersOf] finds it.
type ClientMember struct {
	Group        string
	Kind         GroupKind
	ProtocolType string // of the group
	Version      int64  // differs from that of the same member before, if anything of its row does
	GroupMember
}

// Name names the member.
func (m *ClientMember) Name() MemberName { return MemberName{m.Group, m.ID} }

// HeldLease names a lease as its holder has it: each time it changes hands its lease epoch grows.
type HeldLease struct {
	TopicPartition
	Epoch LeaseEpoch
}

// Move is a wish: the lease of a partition should go to another broker epoch.
type Move struct {
	TopicPartition
	To BrokerEpoch
}

// Announcement says what moved. Zero fields say nothing.
type Announcement struct {
	From    BrokerEpoch
	Last    Sequence // From committed up to here
	Leases  bool     // the lease set or the brokers changed
	Topics  bool     // the topic set changed
	Leaving bool     // From gives all its leases up and ends: nothing should be planned for it. Repeated as it does so
}

// Merge adds what a later announcement of the same From says.
func (a Announcement) Merge(later Announcement) Announcement {
	a.Last = max(a.Last, later.Last)
	a.Leases = a.Leases || later.Leases
	a.Topics = a.Topics || later.Topics
	a.Leaving = a.Leaving || later.Leaving
	return a
}

// CheckMoveLeases checks the arguments of MoveLeases. ErrInvalid.
func CheckMoveLeases(epoch, to BrokerEpoch) error {
	if epoch == to {
		return invalid("leases from broker epoch %d to itself", epoch)
	}
	return nil
}

// CheckMoves checks the arguments of AskMoves. ErrInvalid.
func CheckMoves(moves []Move) error {
	seen := make(map[TopicPartition]bool, len(moves))
	for i := range moves {
		if tp := moves[i].TopicPartition; seen[tp] {
			return invalid("two moves of partition %s", tp)
		}
		seen[moves[i].TopicPartition] = true
	}
	return nil
}
