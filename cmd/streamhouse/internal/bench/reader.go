package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readers is a set of consumers that read the partitions of one topic, dealt among them.
type readers struct {
	o       *Options
	clients []*reader

	records atomic.Int64
	bytes   atomic.Int64
	moved   chan struct{} // holds one token when records arrived since it was last taken

	failOnce sync.Once
	failure  error
	cancel   context.CancelFunc
}

// reader is one client and the goroutine that polls it.
type reader struct {
	set *readers
	cl  *kgo.Client
	// end holds, for each partition, the offset at which it counts as read; nil reads on.
	end  map[int32]int64
	left int // partitions not at their end

	// Of an end-to-end test; nil otherwise.
	load *load
	hist *hdrhistogram.Histogram
}

func newReaders(o *Options, from, end map[int32]int64, l *load) (*readers, error) {
	s := &readers{o: o, moved: make(chan struct{}, 1)}
	for _, part := range deal(from, o.Consumers) {
		cl, err := kgo.NewClient(o.consumeOpts(part)...)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("make consumer: %w", err)
		}
		r := &reader{set: s, cl: cl, load: l}
		if l != nil {
			r.hist = newHistogram()
		}
		if end != nil {
			r.end = make(map[int32]int64)
			for p := range part {
				if end[p] > from[p] {
					r.end[p] = end[p]
					r.left++
				}
			}
		}
		s.clients = append(s.clients, r)
	}
	return s, nil
}

func (s *readers) close() {
	for _, r := range s.clients {
		r.cl.CloseAllowingRebalance()
	}
}

func (s *readers) fail(err error) {
	s.failOnce.Do(func() {
		s.failure = err
		s.cancel()
	})
}

// run polls until every partition is at its end, or until want records were read, where want is asked for again as
// more arrive (negative: not known yet; 0: no limit). It fails when nothing arrives for IdleTimeout.
func (s *readers) run(ctx context.Context, want func() int64) error {
	outer := ctx
	ctx, s.cancel = context.WithCancel(ctx)
	defer s.cancel()
	var wg sync.WaitGroup
	for _, r := range s.clients {
		wg.Go(func() { r.poll(ctx) })
	}
	finished := make(chan struct{})
	go func() {
		wg.Wait()
		close(finished)
	}()
	idle := time.NewTimer(s.o.IdleTimeout)
	defer idle.Stop()
	// Whether enough was read is looked at when records arrive, and now and then besides: want may come down to what is
	// already here.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if w := want(); w > 0 && s.records.Load() >= w {
			s.cancel()
		}
		select {
		case <-finished:
			return errors.Join(s.failure, outer.Err())
		case <-s.moved:
			idle.Reset(s.o.IdleTimeout)
		case <-tick.C:
		case <-idle.C:
			s.fail(fmt.Errorf("consume %s: nothing arrived for %v, after %d records",
				s.o.Topic, s.o.IdleTimeout, s.records.Load()))
		}
	}
}

func (r *reader) poll(ctx context.Context) {
	for r.end == nil || r.left > 0 {
		fetches := r.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		var records, bytes int64
		for i := range fetches {
			for t := range fetches[i].Topics {
				parts := fetches[i].Topics[t].Partitions
				for p := range parts {
					if err := parts[p].Err; err != nil {
						r.set.fail(fmt.Errorf("consume %s partition %d: %w", r.set.o.Topic, parts[p].Partition, err))
						return
					}
					n, b := r.partition(&parts[p], now)
					records += n
					bytes += b
				}
			}
		}
		r.set.records.Add(records)
		r.set.bytes.Add(bytes)
		select {
		case r.set.moved <- struct{}{}:
		default:
		}
	}
}

// partition counts what one fetch brought for one partition.
func (r *reader) partition(p *kgo.FetchPartition, now time.Time) (records, bytes int64) {
	for _, rec := range p.Records {
		bytes += int64(len(rec.Key) + len(rec.Value))
	}
	records = int64(len(p.Records))
	if r.load != nil {
		r.latencies(p.Records, now)
	}
	if records > 0 && r.end != nil {
		if end, ok := r.end[p.Partition]; ok && p.Records[records-1].Offset+1 >= end {
			delete(r.end, p.Partition)
			r.left--
		}
	}
	return records, bytes
}

// latencies records the way from producer to here of records that this run sent after its warm-up.
func (r *reader) latencies(records []*kgo.Record, now time.Time) {
	at := now.Sub(r.load.epoch)
	from := time.Duration(r.load.warmedAt.Load())
	if from == 0 {
		return
	}
	for _, rec := range records {
		if len(rec.Value) < stampBytes || binary.BigEndian.Uint64(rec.Value) != r.load.run {
			continue // somebody else's
		}
		if sent := time.Duration(binary.BigEndian.Uint64(rec.Value[8:])); sent >= from {
			record(r.hist, at-sent)
			r.load.delivery.received(rec.Partition, rec.Offset, at)
		}
	}
}
