// Package attribution finds out whose records are that a client fetches. A Fetch names no consumer group; the broker that
// serves it leads a partition, and the group's coordinator is any broker. So a [Book] knows, for the clients that fetch from this
// broker, which members of groups they are and what those own.
//
// # The rule
//
// A fetch of a partition by a client (client id, address) belongs to group g if a member of g with that client id and address owns
// the partition, and no member of another group with the same ones does. Otherwise it belongs to no group, which is told as the
// group "". So each record that is fetched is told once, of one group or of none.
//
// It is a guess where a client fetches a partition that it is not a member for: another consumer with the same client id, on
// the same host, that reads without a group, counts for the group. It is none where the coordinator and the broker that serves
// see the client under different addresses (behind a proxy or a translation of addresses that goes by connection), or under
// different client ids.
//
// # Where members are known from
//
// Members of the groups that this broker coordinates are known from its coordinator, as soon as they change. Those of others are
// read from the catalog ([catalog.Fleet].MembersOf): once a second at most, only for clients that fetched records since the last
// look, and only rows that changed. A broker that serves no records reads nothing, one that is alone never does.
//
// # What a fetch costs
//
// A [Slot] is one partition that one client fetches; a fetch session keeps it, so that a fetch takes one lock that nobody else wants
// and allocates nothing. A slot that is known to be a group's tells at once. Any other counts what is fetched, until the next look
// ([Book.Look]): a round, a few seconds later at most, or a scrape. So what a member fetches before this broker has heard of it
// is told of its group all the same, also when the member is gone by then.
//
// # Bounds, and what ends
//
// Clients and slots are bounded ([Config]); what is fetched beyond is told of no group. A slot that was not fetched for a minute and a half is
// forgotten, once all of it is told. The position of a group in a partition ([Book.Positions]) ends when none of the clients that
// fetch here owns the partition for it. A group is told to be gone ([Config].Gone) when its coordinator here deleted it, or when none
// of its members has fetched here for five minutes, and never while something is being told of it.
//
// Rounds take a hundredth of a processor at most, whatever comes and goes: the longer one takes, the longer is the rest after it.
package attribution
