package history

import (
	"fmt"
	"sync"
	"time"
)

// Record is one record's identity. Sum is a checksum of what it carries.
type Record struct {
	Producer int32
	Number   int32
	Sum      uint64
}

// maxViolations bounds what is remembered: the first ones tell.
const maxViolations = 50

// History is one topic's. Its methods are safe for concurrent use.
type History struct {
	mu struct {
		sync.Mutex

		partitions []*partition
		violations []string
		more       int // violations not remembered
		watch      *watch
		acks       int64
	}
}

// partition is what is known of one log.
type partition struct {
	log       []Record // by offset, as far as anybody has read
	producers map[int32]*sent
	next      map[string]int64 // by observer, the offset it reads next
	high      map[string]int64 // by observer, the high watermark it saw
	lastAck   time.Time
	gap       time.Duration // longest in the watch under way
}

// sent is what one producer was told of one partition, by number.
type sent struct {
	offsets []int64 // or pending, or failed
	order   int64   // number after the last one that is in log
}

const (
	pending = -1
	failed  = -2
)

// New returns the history of an empty topic.
func New(partitions int32) *History {
	h := &History{}
	for range partitions {
		h.mu.partitions = append(h.mu.partitions, &partition{
			producers: map[int32]*sent{}, next: map[string]int64{}, high: map[string]int64{},
		})
	}
	return h
}

func (h *History) violatedLocked(format string, args ...any) {
	if len(h.mu.violations) == maxViolations {
		h.mu.more++
		return
	}
	h.mu.violations = append(h.mu.violations, fmt.Sprintf(format, args...))
}

// Violations is what contradicted, in the order it was found.
func (h *History) Violations() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := append([]string(nil), h.mu.violations...)
	if h.mu.more > 0 {
		out = append(out, fmt.Sprintf("and %d more", h.mu.more))
	}
	return out
}

// Violated notes a contradiction that somebody else found.
func (h *History) Violated(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violatedLocked(format, args...)
}

// Acks is how many records were acknowledged.
func (h *History) Acks() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.acks
}

// Send returns the number of the next record of producer in partition.
func (h *History) Send(producer, partition int32) int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sentLocked(producer, partition)
	s.offsets = append(s.offsets, pending)
	return int32(len(s.offsets) - 1)
}

func (h *History) sentLocked(producer, partition int32) *sent {
	p := h.mu.partitions[partition]
	s := p.producers[producer]
	if s == nil {
		s = &sent{}
		p.producers[producer] = s
	}
	return s
}

// Acked says that a record was acknowledged at offset.
func (h *History) Acked(producer, partition, number int32, offset int64, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, p := h.sentLocked(producer, partition), h.mu.partitions[partition]
	if was := s.offsets[number]; was != pending {
		h.violatedLocked("partition %d: record %d of producer %d was acknowledged at %d after %d", partition, number, producer, offset, was)
	}
	s.offsets[number] = offset
	h.mu.acks++
	h.ackedAtLocked(p, at)
	if offset < int64(len(p.log)) {
		if got := p.log[offset]; got.Producer != producer || got.Number != number {
			h.violatedLocked("partition %d: record %d of producer %d was acknowledged at offset %d, where record %d of producer %d was read",
				partition, number, producer, offset, got.Number, got.Producer)
		}
	}
}

// Failed says that a producer gave a record up.
func (h *History) Failed(producer, partition, number int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sentLocked(producer, partition).offsets[number] = failed
}

// Read says that an observer, who reads a partition from its start, got a record.
func (h *History) Read(observer string, partition int32, offset int64, r Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.mu.partitions[partition]
	if want := p.next[observer]; offset != want {
		h.violatedLocked("partition %d: %s got offset %d where %d is next", partition, observer, offset, want)
	}
	p.next[observer] = offset + 1
	switch n := int64(len(p.log)); {
	case offset < n:
		if p.log[offset] != r {
			h.violatedLocked("partition %d: at offset %d %s got %+v, another got %+v", partition, offset, observer, r, p.log[offset])
		}
	case offset == n:
		p.log = append(p.log, r)
		h.appendedLocked(partition, offset, r)
	default:
		// A gap, and known as one by now.
	}
}

// appendedLocked judges a record that nobody has seen before.
func (h *History) appendedLocked(partition int32, offset int64, r Record) {
	s := h.sentLocked(r.Producer, partition)
	number := int64(r.Number)
	switch {
	case number >= int64(len(s.offsets)):
		h.violatedLocked("partition %d: offset %d is record %d of producer %d, which was never sent", partition, offset, number, r.Producer)
		return
	case number < s.order:
		h.violatedLocked("partition %d: record %d of producer %d is at offset %d, after record %d", partition, number, r.Producer, offset, s.order-1)
		return
	}
	for missed := s.order; missed < number; missed++ {
		if s.offsets[missed] != failed {
			h.violatedLocked("partition %d: record %d of producer %d is at offset %d, without record %d before it", partition, number, r.Producer, offset, missed)
			break
		}
	}
	s.order = number + 1
	if at := s.offsets[number]; at >= 0 && at != offset {
		h.violatedLocked("partition %d: record %d of producer %d is at offset %d, but was acknowledged at %d", partition, number, r.Producer, offset, at)
	}
}

// HighWatermark says what an observer was told.
func (h *History) HighWatermark(observer string, partition int32, high int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.mu.partitions[partition]
	if before := p.high[observer]; high < before {
		h.violatedLocked("partition %d: the high watermark went back from %d to %d for %s", partition, before, high, observer)
	}
	p.high[observer] = high
}

// SeenHigh is the largest high watermark that anybody was told.
func (h *History) SeenHigh(partition int32) (high int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, seen := range h.mu.partitions[partition].high {
		high = max(high, seen)
	}
	return high
}

// Close judges what is missing. observer has read everything from the start, up
// to ends, after the last write was settled.
func (h *History) Close(observer string, ends map[int32]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, p := range h.mu.partitions {
		end, ok := ends[int32(i)]
		if !ok {
			h.violatedLocked("partition %d: has no end", i)
			continue
		}
		if read := p.next[observer]; read != end {
			h.violatedLocked("partition %d: %s read up to %d of %d", i, observer, read, end)
		}
		for who, next := range p.next {
			if next > end {
				h.violatedLocked("partition %d: %s read up to %d, and the log ends at %d", i, who, next, end)
			}
		}
		for who, high := range p.high {
			if high > end {
				h.violatedLocked("partition %d: %s saw a high watermark of %d, and the log ends at %d", i, who, high, end)
			}
		}
		for producer, s := range p.producers {
			h.closeSentLocked(i, producer, s)
		}
	}
}

func (h *History) closeSentLocked(partition int, producer int32, s *sent) {
	for number := s.order; number < int64(len(s.offsets)); number++ {
		if at := s.offsets[number]; at >= 0 {
			h.violatedLocked("partition %d: record %d of producer %d was acknowledged at %d and is lost", partition, number, producer, at)
		}
	}
	for number, at := range s.offsets {
		if at == pending {
			h.violatedLocked("partition %d: the fate of record %d of producer %d is unknown", partition, number, producer)
		}
	}
}
