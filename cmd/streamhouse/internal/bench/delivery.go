package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// deliverySample: one offset in so many is timed from its acknowledgement to its arrival.
const deliverySample = 8

// deliveries times records from when their producer was told that they are committed, so that the high watermark has passed
// them, to when the consumer's poll returned them. One that arrives before its producer is told counts as no time at all.
// Safe for concurrent use.
type deliveries struct {
	mu   sync.Mutex
	half map[place]time.Duration // of records that only one side has seen: when it did
	hist *hdrhistogram.Histogram
}

type place struct {
	partition int32
	offset    int64
}

func newDeliveries() *deliveries {
	return &deliveries{half: make(map[place]time.Duration), hist: newHistogram()}
}

// acked notes that a producer was told of a record.
func (d *deliveries) acked(partition int32, offset int64, at time.Duration) {
	d.seen(partition, offset, at, func(received time.Duration) time.Duration { return received - at })
}

// received notes that a poll returned a record.
func (d *deliveries) received(partition int32, offset int64, at time.Duration) {
	d.seen(partition, offset, at, func(acked time.Duration) time.Duration { return at - acked })
}

func (d *deliveries) seen(partition int32, offset int64, at time.Duration, took func(other time.Duration) time.Duration) {
	if offset%deliverySample != 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key := place{partition, offset}
	other, both := d.half[key]
	if !both {
		d.half[key] = at
		return
	}
	delete(d.half, key)
	record(d.hist, took(other))
}
