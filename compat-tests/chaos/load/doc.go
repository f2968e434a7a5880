// Package load writes and reads a topic over any number of faults, and tells
// package history what came of it.
//
// Producers are franz-go's, idempotent, as many as [Producers]; each sends one
// record to each partition at a fixed pace, so that a gap in what is acknowledged
// is the cluster's. Three observers watch: a reader that sticks to leaders, one
// that reads near by, from a follower where the cluster has one, and one that
// asks for the ends of the partitions again and again.
package load
