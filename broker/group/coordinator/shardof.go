package coordinator

import (
	"math"
	"unicode/utf16"
)

// ShardOf is the shard of a group or transactional id: Kafka's, which is the absolute value of Java's String.hashCode (0 for
// the one that has none) modulo the number of shards.
func ShardOf(id string, shards int32) int32 {
	var h int32
	for _, r := range id {
		if r >= 0x10000 { // Java's strings are UTF-16
			hi, lo := utf16.EncodeRune(r)
			h = 31*(31*h+hi) + lo
			continue
		}
		h = 31*h + r
	}
	switch {
	case h == math.MinInt32:
		return 0
	case h < 0:
		h = -h
	}
	return h % shards
}
