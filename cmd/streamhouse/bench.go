package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/term"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/bench"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
)

const defaultBenchTime = 10 * time.Second

// benchGCPercent lets the client collect garbage seldom: it shares the cores with the broker it measures.
const benchGCPercent = 400

type benchCmd struct {
	Produce benchProduceCmd `cmd:"" help:"Write as fast as may be, or at a rate."`
	Consume benchConsumeCmd `cmd:"" help:"Read from the start, alone or while writing."`
	E2E     benchE2ECmd     `cmd:"" name:"e2e" help:"Measure latency from producer to consumer at a rate."`
}

type benchFlags struct {
	Topic             string            `group:"load" default:"streamhouse-bench" placeholder:"NAME" help:"Topic; made when it does not exist (default ${default})."`
	Partitions        int               `group:"load" default:"6" placeholder:"N" help:"Partitions of the topic, when it is made (default ${default})."`
	ReplicationFactor int               `group:"load" default:"1" placeholder:"N" help:"Copies of the topic, when it is made (default ${default})."`
	TopicConfig       map[string]string `group:"load" mapsep:"," placeholder:"KEY=VALUE" help:"Config of the topic, when it is made; repeat it for several."`
	IdleTimeout       duration          `group:"load" default:"30s" placeholder:"DURATION" help:"Give up when nothing arrives for so long (default ${default})."`
	JSON              bool              `group:"output" help:"Write the result as JSON."`
	NoProgress        bool              `group:"output" help:"Show no progress bar; there is none anyway where standard error is no terminal."`
	clientFlags
}

type benchLoadFlags struct {
	RecordSize   config.Size `group:"produce" short:"s" default:"1KiB" placeholder:"SIZE" help:"Bytes of a value (default ${default})."`
	KeySize      config.Size `group:"produce" default:"0B" placeholder:"SIZE" help:"Bytes of a key; 0 for null keys (default ${default})."`
	Producers    int         `group:"produce" default:"1" placeholder:"N" help:"Producing clients (default ${default})."`
	Acks         string      `group:"produce" default:"all" placeholder:"ACKS" help:"all, 1 or 0 (default ${default})."`
	Idempotent   bool        `group:"produce" default:"true" negatable:"" help:"Produce idempotently (default on; needs acks=all)."`
	Codec        string      `group:"produce" short:"z" default:"none" enum:"none,gzip,snappy,lz4,zstd" placeholder:"CODEC" help:"none, gzip, snappy, lz4 or zstd (default ${default})."`
	Compressible bool        `group:"produce" help:"Values like log lines, instead of random bytes."`
	BatchBytes   config.Size `group:"produce" default:"1000012B" placeholder:"SIZE" help:"Largest batch (default ${default})."`
	Linger       duration    `group:"produce" default:"0s" placeholder:"DURATION" help:"How long a batch waits for more records (default ${default})."`
	MaxBuffered  int         `group:"produce" name:"max-buffered-records" default:"0" placeholder:"N" help:"Records a client keeps until they are acknowledged; 0 for 32 MiB of them, within 8,192 and 200,000 (default ${default})."`
	InFlight     int         `group:"produce" default:"0" placeholder:"N" help:"Produce requests in flight per client and broker; 0 for the client's default (default ${default})."`
	WarmUp       duration    `group:"load" default:"1s" placeholder:"DURATION" help:"Time at the start that is not counted (default ${default})."`
	Duration     duration    `group:"load" short:"d" default:"0s" placeholder:"DURATION" help:"How long to write (default 10s when --records is not given)."`
}

type benchReadFlags struct {
	Consumers              int         `group:"consume" default:"1" placeholder:"N" help:"Consuming clients; partitions are dealt among them (default ${default})."`
	FetchMaxBytes          config.Size `group:"consume" default:"50MiB" placeholder:"SIZE" help:"Most a broker may answer at a time (default ${default})."`
	FetchMaxPartitionBytes config.Size `group:"consume" default:"1MiB" placeholder:"SIZE" help:"Most of one partition in an answer (default ${default})."`
	FetchMinBytes          config.Size `group:"consume" default:"1B" placeholder:"SIZE" help:"Least a broker waits for (default ${default})."`
	FetchMaxWait           duration    `group:"consume" default:"500ms" placeholder:"DURATION" help:"How long a broker waits for it (default ${default})."`
	CheckCRCs              bool        `group:"consume" name:"check-crcs" default:"true" negatable:"" help:"Check the checksum of each batch (default on)."`
}

func (f *benchFlags) options(a *app) (bench.Options, error) {
	if f.ReplicationFactor < -1 || f.ReplicationFactor > 1<<15-1 {
		return bench.Options{}, fmt.Errorf("--replication-factor %d: want 1 or more, or -1 for the broker's default",
			f.ReplicationFactor)
	}
	o := bench.Options{
		Bootstrap: f.Bootstrap, ClientID: f.ClientID,
		Topic: f.Topic, Partitions: f.Partitions, ReplicationFactor: f.ReplicationFactor,
		IdleTimeout: f.IdleTimeout, Log: a.logger(f.Verbose),
	}
	if len(f.TopicConfig) > 0 {
		o.TopicConfigs = make(map[string]*string, len(f.TopicConfig))
		for k, v := range f.TopicConfig {
			o.TopicConfigs[k] = &v
		}
	}
	if !f.NoProgress && isTerminal(a.stderr) {
		o.Progress = a.stderr
	}
	return o, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Bounds of what a client buffers when nobody says.
const (
	defaultBufferedBytes = 32 << 20
	minBufferedRecords   = 8192
	maxBufferedRecords   = 200_000
)

func (f *benchLoadFlags) apply(o *bench.Options, records int64) error {
	acks, err := bench.ParseAcks(f.Acks)
	if err != nil {
		return fmt.Errorf("--acks: %w", err)
	}
	if f.RecordSize > bench.MaxRecordBytes || f.KeySize > bench.MaxRecordBytes {
		return fmt.Errorf("--record-size %v, --key-size %v: at most %v",
			f.RecordSize, f.KeySize, config.Size(bench.MaxRecordBytes))
	}
	if f.BatchBytes < 1 || f.BatchBytes > config.GiB {
		return fmt.Errorf("--batch-bytes %v: want 1B to 1GiB", f.BatchBytes)
	}
	if f.InFlight < 0 {
		return fmt.Errorf("--in-flight %d: cannot be negative", f.InFlight)
	}
	o.RecordBytes, o.KeyBytes, o.Producers = int(f.RecordSize), int(f.KeySize), f.Producers
	o.Acks, o.Idempotent, o.Codec, o.Compressible = acks, f.Idempotent, bench.Codec(f.Codec), f.Compressible
	o.BatchMaxBytes, o.Linger, o.MaxBuffered, o.InFlight = int(f.BatchBytes), f.Linger, f.MaxBuffered, f.InFlight
	if o.MaxBuffered == 0 {
		fit := defaultBufferedBytes / max(o.RecordBytes+o.KeyBytes, 1)
		o.MaxBuffered = min(max(fit, minBufferedRecords), maxBufferedRecords)
	}
	o.WarmUp, o.Duration, o.Records = f.WarmUp, f.Duration, records
	if o.Duration == 0 && o.Records == 0 {
		o.Duration = defaultBenchTime
	}
	return nil
}

func (f *benchReadFlags) apply(o *bench.Options) error {
	for name, v := range map[string]config.Size{
		"--fetch-max-bytes": f.FetchMaxBytes, "--fetch-max-partition-bytes": f.FetchMaxPartitionBytes,
		"--fetch-min-bytes": f.FetchMinBytes,
	} {
		if v < 1 || v > config.GiB-1 {
			return fmt.Errorf("%s %v: want 1B to less than 1GiB", name, v)
		}
	}
	o.Consumers, o.CheckCRCs = f.Consumers, f.CheckCRCs
	o.FetchMaxBytes, o.FetchMaxPartitionBytes = int(f.FetchMaxBytes), int(f.FetchMaxPartitionBytes)
	o.FetchMinBytes, o.FetchMaxWait = int(f.FetchMinBytes), f.FetchMaxWait
	return nil
}

type benchProduceCmd struct {
	Records int64   `group:"load" short:"n" placeholder:"N" help:"Records to write."`
	Rate    float64 `group:"load" short:"r" placeholder:"N" help:"Records/s of all producers together (default: as fast as may be)."`
	benchLoadFlags
	benchFlags
}

// Help is what --help shows below the summary.
func (*benchProduceCmd) Help() string {
	return `Examples:
  streamhouse bench produce --records 2000000 --record-size 1KiB
  streamhouse bench produce --duration 30s --record-size 100B --producers 2 --json
  streamhouse bench produce --bootstrap other-broker:9092 --rate 50000 --duration 1m`
}

// Run is kong's entry.
func (c *benchProduceCmd) Run(a *app) error {
	o, err := c.options(a)
	if err == nil {
		o.Rate = c.Rate
		err = c.apply(&o, c.Records)
	}
	if err != nil {
		return badUsage(err)
	}
	return c.finish(a, o, bench.Produce)
}

type benchConsumeCmd struct {
	Records        int64   `group:"load" short:"n" placeholder:"N" help:"Stop after N records (default: at the end the topic has when it starts)."`
	WhileProducing bool    `group:"load" help:"Write at the same time, and read all of that; flags of producing apply."`
	Rate           float64 `group:"load" short:"r" placeholder:"N" help:"Records/s to write with --while-producing (default: as fast as may be)."`
	benchReadFlags
	benchLoadFlags
	benchFlags
}

// Help is what --help shows below the summary.
func (*benchConsumeCmd) Help() string {
	return `Examples:
  streamhouse bench produce --records 2000000 && streamhouse bench consume
  streamhouse bench consume --while-producing --duration 20s --record-size 100B`
}

// Run is kong's entry.
func (c *benchConsumeCmd) Run(a *app) error {
	o, err := c.options(a)
	if err == nil {
		o.Rate, o.WhileProducing = c.Rate, c.WhileProducing
		err = errors.Join(c.benchReadFlags.apply(&o), c.benchLoadFlags.apply(&o, c.Records))
	}
	if err != nil {
		return badUsage(err)
	}
	return c.finish(a, o, bench.Consume)
}

type benchE2ECmd struct {
	Records int64   `group:"load" short:"n" placeholder:"N" help:"Records to write."`
	Rate    float64 `group:"load" short:"r" default:"10000" placeholder:"N" help:"Records/s of all producers together (default ${default})."`
	benchReadFlags
	benchLoadFlags
	benchFlags
}

// Help is what --help shows below the summary.
func (*benchE2ECmd) Help() string {
	return `Examples:
  streamhouse bench e2e --rate 10000 --record-size 1KiB --duration 20s
  streamhouse bench e2e --rate 200000 --record-size 100B --duration 20s --json`
}

// Run is kong's entry.
func (c *benchE2ECmd) Run(a *app) error {
	o, err := c.options(a)
	if err == nil {
		o.Rate = c.Rate
		err = errors.Join(c.benchReadFlags.apply(&o), c.benchLoadFlags.apply(&o, c.Records))
	}
	if err == nil && c.Rate <= 0 {
		err = fmt.Errorf("--rate %v: latency needs a rate above 0", c.Rate)
	}
	if err != nil {
		return badUsage(err)
	}
	return c.finish(a, o, bench.EndToEnd)
}

// finish runs a test and shows its result.
func (f *benchFlags) finish(a *app, o bench.Options, test func(context.Context, bench.Options) (*bench.Result, error)) error {
	defer debug.SetGCPercent(debug.SetGCPercent(benchGCPercent))
	res, err := test(a.ctx, o)
	if err != nil {
		return f.explain("bench", err)
	}
	if f.JSON {
		return res.WriteJSON(a.stdout)
	}
	return res.WriteTable(a.stdout)
}
