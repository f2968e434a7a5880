package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

// Event is something that happens to a group: [Request], [Tick], [Written], [Abandoned], [Resumed],
// [TopicsChanged], [ConfigChanged].
type Event interface{ event() }

// Request is a request of one client about one group. Its answer is due exactly once, under its Token.
type Request struct {
	// Body is a JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit, OffsetDelete, DeleteGroups (of this group alone),
	// ConsumerGroupHeartbeat request; its version is set. Reads (describe, list, OffsetFetch) are methods of Group. Its bytes
	// are not kept. Checks of the group id are the caller's.
	Body   kmsg.Request
	Client Client
	Token  Token
	// NewMemberID is a random id (RFC 9562, as text) for a member this request may make; the machine makes no random choices.
	NewMemberID string
}

// Client is who sends a request.
type Client struct {
	ID   string // client.id
	Host string // as Kafka shows it: "/127.0.0.1"
}

// Kept is the client as members have it: of valid text, and not longer than what groups keep.
func (c Client) Kept() Client {
	const most = 1024
	return Client{ID: text(c.ID, most), Host: text(c.Host, most)}
}

// Token names an answer that is due.
type Token uint64

// Tick says that time has passed: it is due at [Group.Next], and harmless at any time but one: while members cannot be heard or
// answered (see [Resumed]) it has to be held back, or their sessions end. Members that wait for a write do not heartbeat.
type Tick struct{}

// Written says that a write is durable: that of the effects with this number.
type Written struct{ Write uint64 }

// Abandoned says that the client of an answer that is due is gone, or was answered otherwise because it waited too long. No
// answer is due for that token any more. It does not end the membership: sessions do.
type Abandoned struct{ Token Token }

// Resumed says that for a while the coordinator could not hear members or answer them: the process stood still, its lease was
// not trusted, or the catalog did not take what it wrote. Nobody may be thrown out for that time. Every member is given its
// full session time-out from now on, as after a take-over, and whatever else waits for clients (a rebalance, a revocation, the
// initial delay) its full time. It changes nothing that is written.
type Resumed struct{}

// TopicsChanged says that topics were made, grown or deleted.
type TopicsChanged struct{ Topics Topics }

// ConfigChanged says that the broker's or the group's configs changed.
type ConfigChanged struct{ Config Config }

func (Request) event()       {}
func (Tick) event()          {}
func (Written) event()       {}
func (Abandoned) event()     {}
func (Resumed) event()       {}
func (TopicsChanged) event() {}
func (ConfigChanged) event() {}

// Topics is a snapshot of the live topics. Immutable.
type Topics interface {
	// ByName finds a topic; ok is false when there is none.
	ByName(name string) (t Topic, ok bool)
	// ByID finds a topic; ok is false when there is none.
	ByID(id catalog.TopicID) (t Topic, ok bool)
	// Names are all names, sorted. Not to be changed.
	Names() []string
	// Version differs between snapshots that differ.
	Version() int64
}

// Topic is what a group needs to know of one.
type Topic struct {
	ID         catalog.TopicID
	Name       string
	Partitions int32
	Internal   bool
	// Racks are those that a partition can be read in (of its replicas, as Metadata tells them); nil: unknown.
	Racks func(partition int32) []string
}

// Answer is one answer.
type Answer struct {
	Token Token
	Body  kmsg.Response
}

// Effects are what follows from a step. When nothing is left of a group, [Group.Gone] says so.
type Effects struct {
	// Now leave at once.
	Now []Answer
	// Later leave when all writes of the group up to and including this step's are durable; at once if there is none.
	Later []Answer
	// Change, if not nil, has to be made durable; Write is its number within the group, growing by one. The runner steps with
	// Written when it is, before Later leaves.
	Change *catalog.GroupChange
	Write  uint64
	// Notes are worth a line in the log each.
	Notes []Note
}

// Note says why something happened to a group that people may ask about: a rebalance, or the end of a membership.
type Note struct {
	What   string // such as "rebalance: a member joins"
	Member string // member id, if it is about one
	Reason string // the client's (KIP-800), cut to something short; empty: it gave none
}
