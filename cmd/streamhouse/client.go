package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientFlags are of every command that talks to a broker.
type clientFlags struct {
	Bootstrap []string      `group:"client" env:"STREAMHOUSE_BOOTSTRAP" default:"127.0.0.1:9092" sep:"," placeholder:"HOST:PORT,..." help:"Brokers to connect to first (default 127.0.0.1:9092)."`
	ClientID  string        `group:"client" name:"client-id" env:"STREAMHOUSE_CLIENT_ID" default:"streamhouse-cli" placeholder:"NAME" help:"Name to give the broker (default ${default})."`
	Timeout   time.Duration `group:"client" env:"STREAMHOUSE_TIMEOUT" default:"30s" placeholder:"DURATION" help:"How long to try (default ${default})."`
	Verbose   bool          `group:"client" short:"v" env:"STREAMHOUSE_VERBOSE" help:"Show the client's warnings."`
}

func (f *clientFlags) newClient(a *app, opts ...kgo.Opt) (*kgo.Client, error) {
	base := []kgo.Opt{
		kgo.SeedBrokers(f.Bootstrap...),
		kgo.ClientID(f.ClientID),
		kgo.DisableClientMetrics(),
		kgo.RetryTimeout(f.Timeout),
	}
	if f.Verbose {
		base = append(base, kgo.WithLogger(kgo.BasicLogger(a.stderr, kgo.LogLevelWarn, nil)))
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, badUsage(fmt.Errorf("--bootstrap %s: %w", strings.Join(f.Bootstrap, ","), err))
	}
	return cl, nil
}

// explain says what to do about errors that have a usual cause.
func (f *clientFlags) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	hint := ""
	var dial *net.OpError
	switch {
	case errors.As(err, &dial) && dial.Op == "dial", errors.Is(err, context.DeadlineExceeded):
		hint = fmt.Sprintf("; is a broker listening at %s (--bootstrap)?", strings.Join(f.Bootstrap, ","))
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		hint = "; `streamhouse topic list` shows which topics there are"
	case errors.Is(err, kerr.TopicAlreadyExists):
		hint = "; `streamhouse topic alter` changes one"
	case errors.Is(err, kerr.GroupIDNotFound):
		hint = "; `streamhouse group list` shows which groups there are"
	}
	return fmt.Errorf("%s: %w%s", what, err, hint)
}

// printer writes to one writer and remembers the first failure, so that output is not checked line by line.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) json(v any) {
	if p.err == nil {
		enc := json.NewEncoder(p.w)
		enc.SetEscapeHTML(false)
		p.err = enc.Encode(v)
	}
}

func (p *printer) result() error {
	if p.err != nil {
		return fmt.Errorf("write output: %w", p.err)
	}
	return nil
}
