// Package groups has members of consumer groups by many clients, each in a
// process of its own, join, rebalance when another joins, leaves and is killed,
// commit, and resume: classic groups, static members, cooperative rebalancing and
// those of KIP-848. What members were assigned is asked of the broker, what they
// read they tell themselves, and what they committed is compared with the log's
// ends.
package groups
