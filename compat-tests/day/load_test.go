package day_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// inFlight is how many batches of one producer may be unanswered: what
// idempotence allows.
const inFlight = 5

// producer sends batches of one partition over a connection of its own.
type producer struct {
	*template
	partition int32
	conn      *connection
	frame     []byte // a whole request; the batch in it is patched in place
	at        int    // where in frame the batch begins
	window    chan struct{}
}

func newProducer(t *testing.T, b *target.Broker, topic string, partition int32) *producer {
	t.Helper()
	p := &producer{template: newTemplate(t, partition), partition: partition, window: make(chan struct{}, inFlight)}
	id := kmsg.NewPtrInitProducerIDRequest()
	id.TransactionTimeoutMillis = -1
	id.ProducerID, id.ProducerEpoch = -1, -1
	answer, err := id.RequestWith(t.Context(), b.Client(t))
	require.NoError(t, err)
	require.Zero(t, answer.ErrorCode)
	p.producer, p.epoch = answer.ProducerID, answer.ProducerEpoch

	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, -1, 30_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, p.batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	p.frame = format.AppendRequest(nil, req, 0)
	p.at = bytes.Index(p.frame, p.batch)
	require.Positive(t, p.at)
	p.conn = dial(t, b)
	return p
}

// produceVersion is the last one that names topics; the tests of package wire
// try all others.
const (
	produceVersion = 12
	fetchVersion   = 12
)

var format = kmsg.NewRequestFormatter(kmsg.FormatterClientID("day"))

// run sends batches from to until and calls acked for each that was
// acknowledged, which must be at the very offset where it belongs. It calls
// acked no more once it returned.
func (p *producer) run(ctx context.Context, pause string, from, until int64, acked func()) error {
	ctx, cancel := context.WithCancel(ctx)
	answered := make(chan error, 1)
	go func() {
		defer cancel()
		answered <- p.answers(from, until, acked)
	}()
	sent := p.send(ctx, pause, from, until)
	if sent != nil {
		// Nothing more will come: do not wait for it.
		_ = p.conn.SetReadDeadline(time.Unix(1, 0))
	}
	if err := <-answered; err != nil {
		return err
	}
	return sent
}

func (p *producer) send(ctx context.Context, pause string, from, until int64) error {
	batch := p.frame[p.at : p.at+len(p.batch)]
	for n := from; n < until; n++ {
		if n%32 == 0 {
			rest(ctx, pause)
		}
		select {
		case p.window <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.patch(batch, n)
		binary.BigEndian.PutUint32(p.frame[8:], uint32(n))
		if err := p.conn.write(p.frame); err != nil {
			return fmt.Errorf("send batch %d of partition %d: %w", n, p.partition, err)
		}
	}
	return nil
}

func (p *producer) answers(from, until int64, acked func()) error {
	for n := from; n < until; n++ {
		if err := p.answer(n); err != nil {
			return err
		}
		<-p.window
		acked()
	}
	return nil
}

func (p *producer) answer(n int64) error {
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = produceVersion
	if err := p.conn.read(int32(n), resp); err != nil {
		return fmt.Errorf("answer to batch %d of partition %d: %w", n, p.partition, err)
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 || got.BaseOffset != n*batchRecords {
		return fmt.Errorf("batch %d of partition %d: error %d, base offset %d", n, p.partition, got.ErrorCode, got.BaseOffset)
	}
	return nil
}

// rest waits while the file pause exists.
func rest(ctx context.Context, pause string) {
	if pause == "" {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if _, err := os.Stat(pause); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// load runs all producers at once and hands every tenth of the way, in records
// sent so far, to mark.
func load(t *testing.T, producers []*producer, total int64, mark func(records int64)) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	each := total / batchRecords / partitions
	step := max(each*partitions/10, 1)
	marks := make(chan int64, 16)
	failed := make(chan error, len(producers))
	var sent atomic.Int64
	acked := func() {
		if n := sent.Add(1); n%step == 0 {
			marks <- n * batchRecords
		}
	}
	began := time.Now()
	var running sync.WaitGroup
	for _, p := range producers {
		running.Go(func() {
			if err := p.run(ctx, os.Getenv("DAY_PAUSE_WHILE"), 0, each, acked); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	var took time.Duration
	go func() {
		running.Wait()
		took = time.Since(began)
		close(marks)
	}()
	for n := range marks {
		mark(n)
	}
	select {
	case err := <-failed:
		require.NoError(t, err)
	default:
	}
	require.Equal(t, each*partitions, sent.Load())
	return took
}

// connection is a plain connection to the broker.
type connection struct {
	net.Conn
	buf []byte
}

func dial(t *testing.T, b *target.Broker) *connection {
	t.Helper()
	c, err := (&net.Dialer{Timeout: answerWithin}).DialContext(t.Context(), "tcp", b.Bootstrap)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return &connection{Conn: c}
}

// answerWithin is how long one answer may take; between two the load may rest
// for as long as it likes.
const answerWithin = time.Minute

func (c *connection) write(frame []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	_, err := c.Write(frame)
	return err
}

// read reads one answer, to the request with the correlation id. What it decodes
// to lies in the connection's buffer until the next read.
func (c *connection) read(correlation int32, into kmsg.Response) error {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n > 64<<20 {
		return fmt.Errorf("an answer of %d bytes", n)
	}
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	if _, err := io.ReadFull(c, c.buf[:n]); err != nil {
		return err
	}
	r := kbin.Reader{Src: c.buf[:n]}
	if got := r.Int32(); got != correlation {
		return fmt.Errorf("correlation id %d, want %d", got, correlation)
	}
	if into.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	return into.ReadFrom(r.Src)
}
