//go:build !race

package kafkaproto

// pooledAllocations is what a pooled path may allocate.
const pooledAllocations = 0
