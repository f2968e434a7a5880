package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/bench"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/recordio"
)

type produceCmd struct {
	Topic string `arg:"" help:"Topic to write to."`
	File  string `short:"f" default:"-" placeholder:"FILE" help:"File to read; - for standard input (default ${default})."`

	Format       string      `group:"produce" default:"raw" enum:"raw,json" placeholder:"FORMAT" help:"raw: a record a line; json: an object a line with key, value, headers, partition, timestamp (default ${default})."`
	Key          *string     `group:"produce" short:"k" placeholder:"KEY" help:"Key of records without one of their own."`
	KeySeparator string      `group:"produce" short:"K" placeholder:"TEXT" help:"What separates key and value in a line; \\t and \\xNN work."`
	EmptyAsNull  bool        `group:"produce" short:"Z" help:"Send empty keys and values as null."`
	Header       []string    `group:"produce" short:"H" sep:"none" placeholder:"KEY=VALUE" help:"Header of every record; repeat it for several."`
	Partition    int32       `group:"produce" short:"p" default:"-1" placeholder:"N" help:"Partition to write to; -1 chooses by key (default ${default})."`
	Codec        string      `group:"produce" short:"z" default:"none" enum:"none,gzip,snappy,lz4,zstd" placeholder:"CODEC" help:"none, gzip, snappy, lz4 or zstd (default ${default})."`
	Acks         string      `group:"produce" default:"all" placeholder:"ACKS" help:"all, 1 or 0 (default ${default})."`
	Idempotent   bool        `group:"produce" default:"true" negatable:"" help:"Write each record once, across retries (default on; needs acks=all)."`
	BatchBytes   config.Size `group:"produce" default:"1000012B" placeholder:"SIZE" help:"Largest batch; at most the topic's max.message.bytes (default ${default})."`
	Linger       duration    `group:"produce" default:"5ms" placeholder:"DURATION" help:"How long a batch waits for more records (default ${default})."`
	MaxLine      config.Size `group:"produce" default:"100MiB" placeholder:"SIZE" help:"Longest line (default ${default})."`
	Quiet        bool        `group:"output" short:"q" help:"Do not say how many records were written."`
	clientFlags
}

// Help is what --help shows below the summary.
func (*produceCmd) Help() string {
	return `Examples:
  echo hello | streamhouse produce greetings
  streamhouse produce orders --file orders.txt --key-separator : --codec zstd
  streamhouse produce orders --format json < orders.jsonl
      {"key":"k","value":"v","headers":[{"key":"h","value":"x"}]}; key_base64 and value_base64 for bytes

At the end the number of records the broker acknowledged is written to standard error.`
}

type duration = time.Duration

// Run is kong's entry.
func (c *produceCmd) Run(a *app) error {
	opts, readerOpts, err := c.options()
	if err != nil {
		return badUsage(err)
	}
	in := a.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		defer func() { _ = f.Close() }() // nothing was written
		in = f
	}
	cl, err := c.newClient(a, opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	return c.produce(a, cl, recordio.NewReader(in, readerOpts))
}

func (c *produceCmd) options() ([]kgo.Opt, recordio.ReaderOptions, error) {
	none := recordio.ReaderOptions{}
	headers, err := recordio.ParseHeaders(c.Header)
	if err != nil {
		return nil, none, fmt.Errorf("--header: %w", err)
	}
	sep, err := recordio.Unescape(c.KeySeparator)
	if err != nil {
		return nil, none, fmt.Errorf("--key-separator: %w", err)
	}
	acks, err := bench.ParseAcks(c.Acks)
	if err != nil {
		return nil, none, fmt.Errorf("--acks: %w", err)
	}
	switch {
	case c.Idempotent && acks != bench.AcksAll:
		return nil, none, fmt.Errorf("--acks %s: an idempotent producer needs acks=all; add --no-idempotent", c.Acks)
	case c.Partition < -1:
		return nil, none, fmt.Errorf("--partition %d: want 0 or more, or -1 to choose by key", c.Partition)
	case c.BatchBytes < 1 || c.BatchBytes > 1<<30:
		return nil, none, fmt.Errorf("--batch-bytes %v: want 1B to 1GiB", c.BatchBytes)
	case c.MaxLine < 1 || c.MaxLine > 1<<30:
		return nil, none, fmt.Errorf("--max-line %v: want 1B to 1GiB", c.MaxLine)
	case c.Format == recordio.FormatJSON && sep != "":
		return nil, none, errors.New("--key-separator: JSON says itself what the key is")
	}
	codec, _ := bench.Codec(c.Codec).Kgo()
	opts := []kgo.Opt{
		kgo.RequiredAcks(acks.Kgo()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(int32(c.BatchBytes)),
		kgo.ProducerLinger(c.Linger),
		kgo.AllowAutoTopicCreation(),
		kgo.MaxBufferedBytes(64 << 20),
		kgo.RecordPartitioner(chosenOr(kgo.StickyKeyPartitioner(nil))),
	}
	if !c.Idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	r := recordio.ReaderOptions{
		JSON: c.Format == recordio.FormatJSON, KeySeparator: sep, EmptyAsNull: c.EmptyAsNull,
		Headers: headers, MaxLineBytes: int(c.MaxLine),
	}
	if c.Key != nil {
		r.Key = []byte(*c.Key)
	}
	return opts, r, nil
}

// chosenOr is a partitioner that keeps a record's partition where one is set, and else asks another.
func chosenOr(other kgo.Partitioner) kgo.Partitioner {
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		inner := other.ForTopic(topic)
		return func(r *kgo.Record, n int) int {
			if r.Partition >= 0 {
				return int(r.Partition) // out of range fails the record, and says so
			}
			return inner.Partition(r, n)
		}
	})
}

func (c *produceCmd) produce(a *app, cl *kgo.Client, in *recordio.Reader) error {
	ctx, cancel := context.WithCancelCause(a.ctx)
	defer cancel(nil)
	var acked, failed atomic.Int64
	var promised sync.WaitGroup
	promise := func(_ *kgo.Record, err error) {
		defer promised.Done()
		if err != nil {
			failed.Add(1)
			cancel(err) // the first one is the cause
			return
		}
		acked.Add(1)
	}
	go c.watch(ctx, cl, &acked, cancel)
	readErr := c.feed(ctx, in, func(r *kgo.Record) {
		promised.Add(1)
		cl.Produce(ctx, r, promise)
	})
	// What was read before a bad line or the end is still delivered; an interrupt or a failure ends that.
	_ = cl.Flush(ctx) // ends early with ctx, whose cause is looked at below
	cause := context.Cause(ctx)
	cl.Close() // fails what is left
	promised.Wait()
	if !c.Quiet {
		say(a.stderr, "%d records written to %s\n", acked.Load(), c.Topic)
	}
	switch {
	case a.ctx.Err() != nil:
		return errors.Join(readErr, a.ctx.Err())
	case cause != nil:
		return c.explain(fmt.Sprintf("produce to %s: %d records failed", c.Topic, failed.Load()), cause)
	}
	return readErr
}

// readAhead records wait between reading and sending.
const readAhead = 1024

// feed reads records and hands them on until the input or ctx ends. Reading has a goroutine of its own, since a read
// from a terminal does not end when ctx does; that goroutine goes with the process then.
func (c *produceCmd) feed(ctx context.Context, in *recordio.Reader, send func(*kgo.Record)) error {
	records := make(chan *kgo.Record, readAhead)
	var readErr error // of the goroutine until records is closed
	go func() {
		defer close(records)
		for {
			r, err := in.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					readErr = fmt.Errorf("read records: %w", err)
				}
				return
			}
			select {
			case records <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case r, ok := <-records:
			if !ok {
				return readErr
			}
			r.Topic = c.Topic
			if c.Partition >= 0 {
				r.Partition = c.Partition
			}
			send(r)
		case <-ctx.Done():
			return nil
		}
	}
}

// watch gives up when records wait and none was acknowledged for --timeout. (The client's own delivery timeout counts
// from a record's timestamp, which may be of last year.)
func (c *produceCmd) watch(ctx context.Context, cl *kgo.Client, acked *atomic.Int64, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(max(c.Timeout/8, time.Millisecond))
	defer tick.Stop()
	last, since := int64(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if n := acked.Load(); n != last || cl.BufferedProduceRecords() == 0 {
				last, since = n, now
			}
			if now.Sub(since) >= c.Timeout {
				giveUp(&noAnswerError{c.Timeout})
				return
			}
		}
	}
}

// noAnswerError says that a broker acknowledged nothing for so long.
type noAnswerError struct{ d time.Duration }

func (e *noAnswerError) Error() string { return fmt.Sprintf("no acknowledgement for %v", e.d) }

// Unwrap makes it one of those that the caller explains.
func (*noAnswerError) Unwrap() error { return context.DeadlineExceeded }
