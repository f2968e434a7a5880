//go:build !race

package recordbatch

// pooledAllocations is what a pooled path may allocate.
const pooledAllocations = 0
