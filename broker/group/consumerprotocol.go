package group

import (
	"encoding/binary"

	"github.com/streamhouse/streamhouse/catalog"
)

// What consumers send each other through the group (ConsumerProtocolSubscription and -Assignment) is opaque to a broker but for
// how it begins: a version and what version 0 has. Later versions, and clients that write them wrongly, differ only behind
// that, so that is all that is read.

// wire reads Kafka's first encoding: big-endian numbers, lengths before strings and arrays. A read past the end sets bad.
type wire struct {
	b   []byte
	bad bool
}

func (w *wire) take(n int) []byte {
	if n < 0 || n > len(w.b) {
		w.bad, w.b = true, nil
		return nil
	}
	out := w.b[:n]
	w.b = w.b[n:]
	return out
}

func (w *wire) int16() int16 {
	if b := w.take(2); !w.bad {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (w *wire) int32() int32 {
	if b := w.take(4); !w.bad {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (w *wire) string() string { return string(w.take(int(w.int16()))) }

// subscribedTopics are the topics of a subscription; ok is false if it is none.
func subscribedTopics(metadata []byte) (topics []string, ok bool) {
	w := wire{b: metadata}
	if w.int16() < 0 {
		return nil, false
	}
	for n := w.int32(); n > 0 && !w.bad; n-- {
		topics = append(topics, w.string())
	}
	return topics, !w.bad
}

// assignedPartitions are those of an assignment; nil if it is none, and for none.
func assignedPartitions(assignment []byte) []catalog.GroupPartition {
	w := wire{b: assignment}
	w.int16()
	var out []catalog.GroupPartition
	for n := w.int32(); n > 0 && !w.bad; n-- {
		topic := w.string()
		for k := w.int32(); k > 0 && !w.bad; k-- {
			if p := w.int32(); !w.bad {
				out = append(out, catalog.GroupPartition{Topic: topic, Partition: p})
			}
		}
	}
	if w.bad {
		return nil
	}
	return out
}
