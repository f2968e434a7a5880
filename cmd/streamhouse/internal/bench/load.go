package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// chunkRecords go between producer and promises at a time.
	chunkRecords = 256
	// latencySample: one record in so many is timed when the rate is not limited.
	latencySample = 64

	// ackedEvery: a producer's count is published once in so many records.
	ackedEvery = 64

	maxLatency    = time.Hour
	latencyDigits = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, maxLatency.Microseconds(), latencyDigits)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	// An error means out of range, and the range is clamped here.
	_ = h.RecordValue(min(max(d.Microseconds(), 1), maxLatency.Microseconds()))
}

// load is a set of producers that write to one topic.
type load struct {
	o         *Options
	producers []*producer
	stamped   bool // values carry a run id and a time, and every record is timed
	delivery  *deliveries
	run       uint64
	epoch     time.Time // what stamps count from

	limit atomic.Int64 // records to send in all
	sent  atomic.Int64 // records claimed by producers
	// warmedAt is when latencies began to count, since epoch; 0 before that.
	warmedAt atomic.Int64
	finished atomic.Bool // all that will be acknowledged is

	failed  atomic.Int64
	failure atomic.Pointer[error] // the first
	cancel  context.CancelFunc
}

// producer is one client and the goroutine that feeds it.
type producer struct {
	load   *load
	cl     *kgo.Client
	values *payloads

	free  chan []*kgo.Record // full chunks whose records may be sent again
	spare chan []*kgo.Record // empty chunks for promises to fill

	// Of the goroutine that feeds.
	chunk []*kgo.Record // being sent
	next  int           // of chunk
	made  int           // records made so far
	pool  int           // records to make at most

	// Of the goroutine that calls promises (the client calls them one at a time).
	done  []*kgo.Record
	hist  *hdrhistogram.Histogram
	count int64

	acked atomic.Int64 // count, as of a few records ago; exact once flushed
	_     [56]byte     // keeps acked of two producers apart
}

func newLoad(o *Options, stamped bool, epoch time.Time) (*load, error) {
	l := &load{o: o, stamped: stamped, delivery: newDeliveries(), epoch: epoch, run: uint64(time.Now().UnixNano())}
	l.limit.Store(math.MaxInt64)
	values := newPayloads(o.RecordBytes, o.Compressible, o.Codec != CodecNone && o.Codec != "")
	for i := range o.Producers {
		cl, err := kgo.NewClient(o.produceOpts()...)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("make producer: %w", err)
		}
		// The client blocks at MaxBuffered. The pool is two chunks larger, so that records that wait in a partly filled
		// chunk can never be the reason for a producer to wait.
		pool := o.MaxBuffered + 2*chunkRecords
		chunks := pool/chunkRecords + 2
		p := &producer{
			load: l, cl: cl, values: values.fork(i), pool: pool, hist: newHistogram(),
			free:  make(chan []*kgo.Record, chunks),
			spare: make(chan []*kgo.Record, chunks),
			done:  make([]*kgo.Record, 0, chunkRecords),
		}
		l.producers = append(l.producers, p)
	}
	return l, nil
}

func (l *load) close() {
	for _, p := range l.producers {
		p.cl.Close()
	}
}

func (l *load) acked() (n int64) {
	for _, p := range l.producers {
		n += p.acked.Load()
	}
	return n
}

// warm makes latencies count from now on.
func (l *load) warm() { l.warmedAt.Store(max(int64(time.Since(l.epoch)), 1)) }

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.failure.CompareAndSwap(nil, &err)
	l.cancel()
}

// err returns the first failure, or what ended ctx.
func (l *load) err(ctx context.Context) error {
	if first := l.failure.Load(); first != nil {
		return fmt.Errorf("produce to %s: %w (%d records failed)", l.o.Topic, *first, l.failed.Load())
	}
	return ctx.Err()
}

// measured is what a load did after its warm-up.
type measured struct {
	records int64
	elapsed time.Duration
	hist    *hdrhistogram.Histogram
}

// runLoad sends until the limit, and returns when everything is acknowledged or the first record failed.
func (l *load) runLoad(ctx context.Context) (measured, error) {
	outer := ctx
	ctx, l.cancel = context.WithCancel(outer)
	defer l.cancel()
	stop, stopSending := context.WithCancel(ctx)
	defer stopSending()

	if l.o.WarmUp == 0 {
		l.warm()
		if l.o.Records > 0 {
			l.limit.Store(l.o.Records)
		}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for _, p := range l.producers {
		wg.Go(func() { p.feed(ctx, stop, newPacer(l.o.Rate/float64(len(l.producers)), start)) })
	}
	go l.watch(ctx)
	from, at := int64(0), start
	if l.o.WarmUp > 0 {
		if !sleep(ctx, l.o.WarmUp) {
			stopSending()
		}
		from, at = l.acked(), time.Now()
		l.warm()
		if l.o.Records > 0 {
			l.limit.Store(l.sent.Load() + l.o.Records)
		}
	}
	finished := make(chan struct{})
	go func() {
		wg.Wait()
		close(finished)
	}()
	if l.o.Duration > 0 {
		timer := time.NewTimer(l.o.Duration)
		select {
		case <-timer.C:
		case <-finished:
		case <-ctx.Done():
		}
		timer.Stop()
		stopSending()
	}
	<-finished
	for _, p := range l.producers {
		if err := p.cl.Flush(ctx); err != nil {
			if err := l.err(outer); err != nil {
				return measured{}, err
			}
			return measured{}, fmt.Errorf("wait for acknowledgements: %w", err)
		}
	}
	if err := l.err(outer); err != nil {
		return measured{}, err
	}
	// All promises were called, and a flush that returned nil is ordered after them: counts and histograms may be read.
	for _, p := range l.producers {
		p.acked.Store(p.count)
	}
	m := measured{records: l.acked() - from, elapsed: time.Since(at), hist: newHistogram()}
	for _, p := range l.producers {
		m.hist.Merge(p.hist)
	}
	return m, nil
}

// watch gives up when records wait and none was acknowledged for IdleTimeout.
func (l *load) watch(ctx context.Context) {
	tick := time.NewTicker(max(l.o.IdleTimeout/8, time.Millisecond))
	defer tick.Stop()
	last, since := int64(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			waiting := int64(0)
			for _, p := range l.producers {
				waiting += p.cl.BufferedProduceRecords()
			}
			if n := l.acked(); n != last || waiting == 0 {
				last, since = n, now
			}
			if now.Sub(since) >= l.o.IdleTimeout {
				l.fail(fmt.Errorf("no acknowledgement for %v: %w", l.o.IdleTimeout, context.DeadlineExceeded))
				return
			}
		}
	}
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// feed sends until the limit is reached or stop ends. Records in flight live under ctx.
func (p *producer) feed(ctx, stop context.Context, pace *pacer) {
	promise := p.promise
	if p.load.stamped {
		promise = p.promiseStamped
	}
	var n int64
	for {
		due, err := pace.wait(stop, n)
		if err != nil {
			return
		}
		for n < due {
			want := p.claim(min(due-n, chunkRecords))
			if want == 0 {
				return
			}
			if !p.send(ctx, stop, want, n, pace, promise) {
				return
			}
			n += want
		}
	}
}

// claim takes up to want records out of the limit; 0 at its end.
func (p *producer) claim(want int64) int64 {
	l := p.load
	for {
		sent, limit := l.sent.Load(), l.limit.Load()
		take := min(want, limit-sent)
		if take <= 0 {
			return 0
		}
		if l.sent.CompareAndSwap(sent, sent+take) {
			return take
		}
	}
}

// send sends records n to n+want.
func (p *producer) send(
	ctx, stop context.Context, want, n int64, pace *pacer, promise func(*kgo.Record, error),
) bool {
	now := time.Now()
	for end := n + want; n < end; n++ {
		r := p.take(stop)
		if r == nil {
			return false
		}
		timed := promise
		if !p.load.stamped && n%latencySample == 0 {
			now = time.Now()
			timed = p.timed(pace.stamp(n, now))
		}
		p.prepare(r, n, now, pace)
		p.cl.Produce(ctx, r, timed)
	}
	return true
}

// take returns a record that may be filled and sent; nil when ctx ended.
func (p *producer) take(ctx context.Context) *kgo.Record {
	if p.next == len(p.chunk) && !p.refill(ctx) {
		return nil
	}
	r := p.chunk[p.next]
	p.next++
	return r
}

func (p *producer) refill(ctx context.Context) bool {
	if p.chunk != nil {
		select {
		case p.spare <- p.chunk[:0]:
		default:
		}
	}
	p.chunk, p.next = nil, 0
	select {
	case p.chunk = <-p.free:
		return true
	default:
	}
	if p.made < p.pool {
		p.chunk = p.makeChunk()
		return true
	}
	select {
	case p.chunk = <-p.free:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *producer) makeChunk() []*kgo.Record {
	p.made += chunkRecords
	records, chunk := make([]kgo.Record, chunkRecords), make([]*kgo.Record, chunkRecords)
	for i := range records {
		chunk[i] = &records[i]
		if p.load.stamped {
			records[i].Value = slices.Clone(p.values.value())
		}
		if n := p.load.o.KeyBytes; n > 0 {
			records[i].Key = make([]byte, n)
		}
	}
	return chunk
}

// prepare fills a record, which may have been sent before.
func (p *producer) prepare(r *kgo.Record, n int64, now time.Time, pace *pacer) {
	key, value := r.Key, r.Value
	if key != nil {
		fillKey(key, n)
	}
	if p.load.stamped {
		now = time.Now()
		binary.BigEndian.PutUint64(value, p.load.run)
		binary.BigEndian.PutUint64(value[8:], uint64(pace.stamp(n, now).Sub(p.load.epoch)))
	} else {
		value = p.values.value()
	}
	// The client sets the other fields anew each time; clearing them here shows in a profile.
	r.Value, r.Timestamp = value, now
}

// fillKey makes key differ from record to record, most in its last bytes.
func fillKey(key []byte, n int64) {
	for i := len(key) - 1; i >= 0 && i >= len(key)-8; i-- {
		key[i] = byte(n)
		n >>= 8
	}
}

// promise takes a record back, for all records that are not timed.
func (p *producer) promise(r *kgo.Record, err error) {
	if err != nil {
		p.load.fail(err)
		return
	}
	p.count++
	if p.count%ackedEvery == 0 {
		p.acked.Store(p.count)
	}
	p.done = append(p.done, r)
	if len(p.done) < chunkRecords {
		return
	}
	p.free <- p.done // never waits: it has room for all full chunks there can be
	select {
	case p.done = <-p.spare:
	default:
		p.done = make([]*kgo.Record, 0, chunkRecords)
	}
}

func (p *producer) timed(start time.Time) func(*kgo.Record, error) {
	return func(r *kgo.Record, err error) {
		if err == nil && p.load.warmedAt.Load() > 0 {
			record(p.hist, time.Since(start))
		}
		p.promise(r, err)
	}
}

func (p *producer) promiseStamped(r *kgo.Record, err error) {
	if from := p.load.warmedAt.Load(); err == nil && from > 0 {
		if sent := int64(binary.BigEndian.Uint64(r.Value[8:])); sent >= from {
			at := time.Since(p.load.epoch)
			record(p.hist, at-time.Duration(sent))
			p.load.delivery.acked(r.Partition, r.Offset, at)
		}
	}
	p.promise(r, err)
}
