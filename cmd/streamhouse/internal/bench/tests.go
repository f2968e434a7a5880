package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Produce writes to the topic and says how fast it was acknowledged. With Records and Duration both given, what comes
// first ends it. The first record that fails ends it with an error.
func Produce(ctx context.Context, o Options) (*Result, error) {
	if err := o.validateProduce(); err != nil {
		return nil, err
	}
	if err := o.ensureTopic(ctx); err != nil {
		return nil, err
	}
	l, err := newLoad(&o, false, time.Now())
	if err != nil {
		return nil, err
	}
	defer l.close()
	stop := startProgress(&o, "produce", func() int64 { return l.acked() }, o.Records)
	m, err := l.runLoad(ctx)
	stop()
	if err != nil {
		return nil, err
	}
	res := newResult("produce", &o)
	res.Produced = flow(m.records, m.records*int64(o.RecordBytes+o.KeyBytes), m.elapsed)
	res.AckLatency = summarize(m.hist)
	return res, nil
}

// Consume reads the topic from its start until Records were read or until where it ended when the test began. With
// WhileProducing it writes at the same time, and reads until it has read all of that too.
func Consume(ctx context.Context, o Options) (*Result, error) {
	if err := o.validateConsume(); err != nil {
		return nil, err
	}
	if o.WhileProducing {
		return consumeWhileProducing(ctx, o)
	}
	from, end, err := o.offsets(ctx)
	if err != nil {
		return nil, err
	}
	o.Partitions = len(end)
	var total int64
	for p := range end {
		total += end[p] - from[p]
	}
	if o.Records > 0 {
		if total < o.Records {
			return nil, fmt.Errorf("consume %s: it holds %d records, fewer than --records %d; produce more, or leave it out",
				o.Topic, total, o.Records)
		}
		total, end = o.Records, nil // reads past no end: the count ends it
	} else if total == 0 {
		return nil, fmt.Errorf("consume %s: it is empty; produce to it first", o.Topic)
	}
	s, err := newReaders(&o, from, end, nil)
	if err != nil {
		return nil, err
	}
	defer s.close()
	stop := startProgress(&o, "consume", s.records.Load, total)
	start := time.Now()
	err = s.run(ctx, func() int64 { return o.Records })
	elapsed := time.Since(start)
	stop()
	if err != nil {
		return nil, err
	}
	res := newResult("consume", &o)
	res.Consumed = flow(s.records.Load(), s.bytes.Load(), elapsed)
	return res, nil
}

func consumeWhileProducing(ctx context.Context, o Options) (*Result, error) {
	if err := o.validateProduce(); err != nil {
		return nil, err
	}
	if err := o.ensureTopic(ctx); err != nil {
		return nil, err
	}
	_, end, err := o.offsets(ctx)
	if err != nil {
		return nil, err
	}
	both, err := runBoth(ctx, &o, end, false)
	if err != nil {
		return nil, err
	}
	res := newResult("consume-while-producing", &o)
	res.Produced, res.Consumed, res.AckLatency = both.produced, both.consumed, summarize(both.load.hist)
	return res, nil
}

// EndToEnd writes stamped records and reads them at the same time. It says how long acknowledgements took, how long records
// took from producer to consumer, and how long of that from their acknowledgement on.
func EndToEnd(ctx context.Context, o Options) (*Result, error) {
	if err := errors.Join(o.validateProduce(), o.validateConsume()); err != nil {
		return nil, err
	}
	if o.RecordBytes < stampBytes {
		return nil, fmt.Errorf("--record-size %d: an end-to-end test needs at least %d bytes for its stamp",
			o.RecordBytes, stampBytes)
	}
	if err := o.ensureTopic(ctx); err != nil {
		return nil, err
	}
	_, end, err := o.offsets(ctx)
	if err != nil {
		return nil, err
	}
	both, err := runBoth(ctx, &o, end, true)
	if err != nil {
		return nil, err
	}
	res := newResult("e2e", &o)
	res.Produced, res.Consumed = both.produced, both.consumed
	res.AckLatency = summarize(both.load.hist)
	hist := newHistogram()
	for _, r := range both.readers.clients {
		hist.Merge(r.hist)
	}
	res.EndToEndLatency = summarize(hist)
	res.DeliveryLatency = summarize(both.delivery)
	return res, nil
}

type bothResult struct {
	delivery           *hdrhistogram.Histogram
	load               measured
	readers            *readers
	produced, consumed *Flow
}

// runBoth writes while it reads from the given offsets, until all that was written was read.
func runBoth(ctx context.Context, o *Options, from map[int32]int64, stamped bool) (*bothResult, error) {
	l, err := newLoad(o, stamped, time.Now())
	if err != nil {
		return nil, err
	}
	defer l.close()
	timed := l
	if !stamped {
		timed = nil
	}
	s, err := newReaders(o, from, nil, timed)
	if err != nil {
		return nil, err
	}
	defer s.close()

	stop := startProgress(o, "produced and consumed", s.records.Load, o.Records)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		m   measured
		err error
	}
	produced := make(chan outcome, 1)
	start := time.Now()
	go func() {
		m, err := l.runLoad(ctx)
		if err != nil {
			cancel() // what failed to be written will not be read
		}
		l.finished.Store(true)
		produced <- outcome{m, err}
	}()
	readErr := s.run(ctx, func() int64 {
		if !l.finished.Load() {
			return -1
		}
		return l.acked()
	})
	elapsed := time.Since(start)
	if readErr != nil {
		cancel()
	}
	p := <-produced
	switch {
	case p.err != nil && !errors.Is(p.err, context.Canceled):
		return nil, p.err
	case readErr != nil:
		return nil, readErr
	case p.err != nil:
		return nil, p.err
	}
	return &bothResult{
		load: p.m, readers: s, delivery: l.delivery.hist,
		produced: flow(p.m.records, p.m.records*int64(o.RecordBytes+o.KeyBytes), p.m.elapsed),
		consumed: flow(s.records.Load(), s.bytes.Load(), elapsed),
	}, nil
}
