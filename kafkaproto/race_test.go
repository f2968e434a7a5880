//go:build race

package kafkaproto

// pooledAllocations is what a pooled path may allocate: sync.Pool drops a part
// of what it is given when the race detector is on.
const pooledAllocations = 100
