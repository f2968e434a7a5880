package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// cli is the whole command line.
type cli struct {
	Config configFlag `env:"STREAMHOUSE_CONFIG" placeholder:"FILE" help:"YAML file; its keys are the names of flags. Flags win over the environment, that over the file."`

	Serve   serveCmd   `cmd:"" help:"Run a broker."`
	Topic   topicCmd   `cmd:"" help:"Create, list, describe, alter and delete topics."`
	Produce produceCmd `cmd:"" help:"Write records from standard input or a file."`
	Consume consumeCmd `cmd:"" help:"Read records from partitions."`
	Bench   benchCmd   `cmd:"" help:"Load a Kafka broker, any Kafka broker, and measure."`
	Inspect inspectCmd `cmd:"" help:"Show what is in an object, or how much there is of everything."`
	Verify  verifyCmd  `cmd:"" help:"Check a stopped broker's log: manifest, objects, offsets."`
	Brokers brokersCmd `cmd:"" help:"Show the brokers of a cluster."`
	Leases  leasesCmd  `cmd:"" help:"Show which broker leads which partition."`
	Move    moveCmd    `cmd:"" help:"Drain a broker; move partitions from one broker to another."`
	Group   groupCmd   `cmd:"" help:"List, describe, reset and delete consumer groups; show their lag."`
	Migrate migrateCmd `cmd:"" help:"Bring the catalog's schema up to date, or show how it is."`
	Restore restoreCmd `cmd:"" help:"Make a catalog fit for use that was put back to an earlier state."`
	Version versionCmd `cmd:"" help:"Say which version this is."`
}

// app is what commands are given beside their flags.
type app struct {
	ctx    context.Context // kong calls Run with values, and this is the value
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    func() time.Time
}

// configFlag names a YAML file; reading it adds a resolver before flags get their values.
type configFlag string

// BeforeResolve is kong's hook.
func (configFlag) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	path, ok := ctx.FlagValue(trace.Flag).(configFlag)
	if !ok || path == "" {
		return nil
	}
	r, err := config.ReadFile(string(path))
	if err != nil {
		return err
	}
	ctx.AddResolver(r)
	return nil
}

// exited is how the parser's wish to exit (after --help) travels to run.
type exited int

// run does what the arguments say, and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case exited:
			code = int(v)
		default:
			panic(v)
		}
	}()
	var c cli
	parser, err := newParser(&c, stdout, stderr)
	if err != nil {
		say(stderr, "streamhouse: %v\n", err)
		return exitUsage
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		if perr, ok := errors.AsType[*kong.ParseError](err); ok {
			parsed = perr.Context
		}
		return refuse(stderr, parsed, err)
	}
	a := &app{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now}
	err = parsed.Run(a)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return refuse(stderr, parsed, usage.err)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		say(stderr, "streamhouse: interrupted\n")
		return exitFailed
	}
	say(stderr, "streamhouse: %s\n", indent(err.Error()))
	return exitFailed
}

func newParser(c *cli, stdout, stderr io.Writer) (*kong.Kong, error) {
	parser, err := kong.New(c,
		kong.Name("streamhouse"),
		kong.Description("A Kafka broker whose log lives in object storage.\n\n"+
			"Start one with `streamhouse serve`, then point any Kafka client at 127.0.0.1:9092."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.WithHyphenPrefixedParameters(true), // --offset -10
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 110}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "network", Title: "Network:"},
			{Key: "storage", Title: "Where data is kept:"},
			{Key: "flush", Title: "Writing:"},
			{Key: "topics", Title: "Topics:"},
			{Key: "groups", Title: "Consumer groups:"},
			{Key: "limits", Title: "Limits:"},
			{Key: "identity", Title: "This broker:"},
			{Key: "telemetry", Title: "Logs and metrics:"},
			{Key: "client", Title: "Connection:"},
			{Key: "load", Title: "Load:"},
			{Key: "produce", Title: "Producing:"},
			{Key: "consume", Title: "Consuming:"},
			{Key: "output", Title: "Output:"},
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("build command line: %w", err)
	}
	return parser, nil
}

// say writes for a person. Where standard error cannot be written to there is nobody to tell.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// usageError is an error in what was asked, rather than in doing it.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func badUsage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

func refuse(stderr io.Writer, parsed *kong.Context, err error) int {
	say(stderr, "streamhouse: %s\n", indent(err.Error()))
	command := "streamhouse"
	if parsed != nil {
		command = strings.TrimSpace(command + " " + commandOf(parsed))
	}
	say(stderr, "Run `%s --help` for what there is.\n", command)
	return exitUsage
}

// commandOf returns the words of the command that was chosen, as far as parsing came.
func commandOf(ctx *kong.Context) string {
	var words []string
	for _, p := range ctx.Path {
		if p.Command != nil {
			words = append(words, p.Command.Name)
		}
	}
	return strings.Join(words, " ")
}

// indent puts the lines of a joined error below each other.
func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }

// logger is for what the Kafka client says; nil unless asked for.
func (a *app) logger(verbose bool) *slog.Logger {
	if !verbose {
		return nil
	}
	return slog.New(slog.NewTextHandler(a.stderr, nil))
}
