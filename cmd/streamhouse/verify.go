package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/datadir"
	"github.com/streamhouse/streamhouse/storage/verify"
)

type verifyCmd struct {
	Fast        bool `help:"Do not read the bodies of objects: no checksums, no batches."`
	Parallel    int  `placeholder:"N" help:"Objects read at a time (default the processors, at most 4)."`
	MaxProblems int  `default:"1000" placeholder:"N" help:"Problems shown; all are counted (default ${default})."`
	JSON        bool `group:"output" help:"Write JSON, one object."`
	NoProgress  bool `group:"output" help:"No progress bar; there is none either where standard error is not a terminal."`
	datadir.Flags
}

// Help is what --help shows below the summary.
func (*verifyCmd) Help() string {
	return `Checks everything that was ever acknowledged and is still kept: that each object is there and sound, that the
manifest agrees with itself and with the objects, and that each partition's offsets are dense from its log start to its
end. The broker must be stopped. Nothing is changed.

Objects that the manifest does not name (orphans) are what a crash leaves; they are counted, are not an error, and the
next broker deletes them.

The exit code is 0 if nothing is wrong, else 1.`
}

// Run is kong's entry.
func (c *verifyCmd) Run(a *app) error {
	if c.Parallel < 0 || c.MaxProblems < 1 {
		return badUsage(errors.New("--parallel cannot be negative, --max-problems must be above 0"))
	}
	data, err := openData(a, c.Flags)
	if err != nil {
		return err
	}
	opts := verify.Options{Fast: c.Fast, Parallel: c.Parallel, MaxProblems: c.MaxProblems}
	var bar *verifyBar
	if !c.NoProgress && isTerminal(a.stderr) {
		bar = &verifyBar{w: a.stderr}
		opts.Progress = bar.show
	}
	began := a.now()
	res, err := verify.Run(a.ctx, data.Catalog, data.Store, opts)
	bar.finish()
	err = errors.Join(err, data.Close())
	took := a.now().Sub(began)
	p := &printer{w: a.stdout}
	switch {
	case c.JSON && err == nil:
		p.json(struct {
			OK      bool    `json:"ok"`
			Seconds float64 `json:"seconds"`
			*verify.Result
		}{res.OK(), took.Seconds(), res})
	case !c.JSON:
		// Also after an error: what was found until then is worth knowing.
		for _, problem := range res.Problems {
			p.printf("%s\n", problem)
		}
		if n := res.ProblemCount - int64(len(res.Problems)); n > 0 {
			p.printf("… and %d more\n", n)
		}
		if err == nil {
			c.summary(p, res, took)
		}
	}
	if err := errors.Join(err, p.result()); err != nil {
		return err
	}
	if !res.OK() {
		return fmt.Errorf("the log is damaged; problems found: %d", res.ProblemCount)
	}
	return nil
}

func (c *verifyCmd) summary(p *printer, r *verify.Result, took time.Duration) {
	w := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	t := &printer{w: w, err: p.err}
	if len(r.Problems) > 0 {
		t.printf("\n")
	}
	t.printf("topics\t%d\t", r.Topics)
	if r.DeletedTopics > 0 {
		t.printf("and %d deleted, not purged yet", r.DeletedTopics)
	}
	t.printf("\npartitions\t%d\t%d offsets\n", r.Partitions, r.Offsets)
	printCount(t, "tail objects", r.Tail)
	printCount(t, "folded objects", r.Folded)
	t.printf("packed rows\t%d\t\n", r.PackedRows)
	t.printf("extents\t%d\t\n", r.Extents)
	if !r.Fast {
		t.printf("batches\t%d\t%d records\n", r.Batches, r.Records)
	}
	printCount(t, "retired objects", r.Retired)
	printCount(t, "orphans", r.Orphans)
	printCount(t, "foreign files", r.Foreign)
	for _, kind := range slices.Sorted(maps.Keys(r.ByKind)) {
		t.printf("%s\t%d\tproblems\n", kind, r.ByKind[kind])
	}
	verdict := "nothing is wrong"
	if !r.OK() {
		verdict = "problems were found"
	} else if r.Fast {
		verdict = "nothing is wrong as far as was looked (--fast)"
	}
	p.err = errors.Join(t.err, w.Flush())
	p.printf("%s (took %v)\n", verdict, took.Round(time.Millisecond))
}

func printCount(p *printer, what string, c verify.Count) {
	p.printf("%s\t%d\t%s\n", what, c.Objects, humanize.IBytes(uint64(max(c.Bytes, 0))))
}

// openData opens what a stopped broker left.
func openData(a *app, f datadir.Flags) (*datadir.Data, error) {
	at, err := f.Resolve()
	if err != nil {
		return nil, badUsage(err)
	}
	data, err := datadir.Open(a.ctx, at, a.warnings())
	if errors.Is(err, datadir.ErrVolatile) {
		return nil, badUsage(err)
	}
	return data, err
}

// warnings is for what a catalog has nobody to tell.
func (a *app) warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// verifyBar shows one bar per phase. A nil one shows nothing.
type verifyBar struct {
	w     io.Writer
	phase verify.Phase
	bar   *progressbar.ProgressBar
}

func (b *verifyBar) show(phase verify.Phase, done, total int64) {
	if b.bar == nil || b.phase != phase {
		b.finish()
		if total == 0 {
			total = -1 // not known: a spinner
		}
		b.phase = phase
		b.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(b.w),
			progressbar.OptionSetDescription("verify "+string(phase)),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetRenderBlankState(true),
			progressbar.OptionClearOnFinish(),
		)
	}
	_ = b.bar.Set64(done) // a terminal that went away is not the command's failure
}

func (b *verifyBar) finish() {
	if b != nil && b.bar != nil {
		_ = b.bar.Finish()
		b.bar = nil
	}
}
