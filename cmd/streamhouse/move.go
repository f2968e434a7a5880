package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/facts"
)

type moveCmd struct {
	Drain   moveDrainCmd   `cmd:"" help:"Have a broker hand over all it leads, and lead nothing until undrained."`
	Undrain moveUndrainCmd `cmd:"" help:"Let a drained broker lead again."`
	Leases  moveLeasesCmd  `cmd:"" help:"Ask for partitions of topics to be led by another broker."`
	Cancel  moveCancelCmd  `cmd:"" help:"Withdraw what was asked for and is not done yet."`
}

// movePoll is how often what was asked for is looked at.
const movePoll = 250 * time.Millisecond

// moveFlags are of all kinds of moves.
type moveFlags struct {
	Wait    bool          `default:"true" negatable:"" help:"Wait until it is done (default on)."`
	Timeout time.Duration `env:"STREAMHOUSE_TIMEOUT" default:"60s" placeholder:"DURATION" help:"How long to wait (default ${default})."`
	facts.Flags
}

// errNoFleet is the answer to moves within a cluster of one.
var errNoFleet = errors.New("an embedded catalog has one broker, which leads everything: there is nothing to move")

// withFleet opens the catalog and passes on what it holds now.
func (f *moveFlags) withFleet(a *app, what string, do func(*facts.Facts, *clusterNow) error) (err error) {
	at, err := f.Resolve()
	if err != nil {
		return badUsage(err)
	}
	if at.Kind != config.KindPostgres {
		return badUsage(fmt.Errorf("--catalog %s: %w", at, errNoFleet))
	}
	open, err := facts.Change(a.ctx, at, a.warnings())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { err = errors.Join(err, open.Close()) }()
	n, err := readCluster(a.ctx, open)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := do(open, n); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// until looks at the cluster until done says so, or --timeout is over: then the error is what done found left.
func (f *moveFlags) until(ctx context.Context, open *facts.Facts, done func(*clusterNow) (bool, error)) error {
	limit, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	tick := time.NewTicker(movePoll)
	defer tick.Stop()
	var left error
	for {
		n, err := readCluster(limit, open)
		switch {
		case err == nil:
			var over bool
			if over, left = done(n); over {
				return left
			}
		case limit.Err() == nil && !catalog.Retriable(err):
			return err
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("not done after %v, and still asked for: %w", f.Timeout, errors.Join(left, err))
		}
	}
}

// wake tells the brokers to look, best effort: their next heartbeat tells them too.
func wake(ctx context.Context, open *facts.Facts, from catalog.BrokerEpoch) {
	_ = open.Fleet.Announce(ctx, catalog.Announcement{From: from, Leases: true})
}

type moveDrainCmd struct {
	Broker int32 `arg:"" help:"Id of the broker."`
	moveFlags
}

// Help is what --help shows below the summary.
func (*moveDrainCmd) Help() string {
	return `Before a broker is taken away for longer than a restart: its partitions go to the others, a few at a time, without an error
that clients see. It goes on serving as a follower. The mark stays until it is taken back, also over restarts of the broker,
and tells its id, not its process. A restart needs none of this: SIGTERM hands everything over.

Examples:
  streamhouse move drain 2
  streamhouse move undrain 2`
}

// Run is kong's entry.
func (c *moveDrainCmd) Run(a *app) error {
	return c.withFleet(a, fmt.Sprintf("drain broker %d", c.Broker), func(open *facts.Facts, n *clusterNow) error {
		b, err := n.broker(c.Broker)
		if err != nil {
			return err
		}
		others := 0
		for _, o := range n.view.Brokers() {
			if o.ID != b.ID && !o.Draining {
				others++
			}
		}
		if others == 0 {
			return errors.New("no other broker is there to take over: start one, or undrain one, first")
		}
		if err := open.Fleet.SetDraining(a.ctx, b.ID, true); err != nil {
			return err
		}
		wake(a.ctx, open, b.Epoch)
		p := &printer{w: a.stdout}
		p.printf("broker %d is marked as draining\n", c.Broker)
		if !c.Wait || p.err != nil {
			return p.result()
		}
		err = c.until(a.ctx, open, func(n *clusterNow) (bool, error) {
			held, _, _ := n.counts()
			left := 0
			for _, b := range n.view.Brokers() {
				if int32(b.ID) == c.Broker {
					left += held[b.Epoch]
				}
			}
			if left == 0 {
				return true, nil
			}
			return false, fmt.Errorf("broker %d still leads %d partitions", c.Broker, left)
		})
		if err != nil {
			return err
		}
		p.printf("broker %d leads nothing any more\n", c.Broker)
		return p.result()
	})
}

type moveUndrainCmd struct {
	Broker int32 `arg:"" help:"Id of the broker."`
	facts.Flags
}

// Help is what --help shows below the summary.
func (*moveUndrainCmd) Help() string {
	return `The broker gets its share of the partitions from the controller, which moves a few at a time; ` + "`streamhouse leases\n--summary`" + ` shows how far it is.`
}

// Run is kong's entry.
func (c *moveUndrainCmd) Run(a *app) error {
	f := moveFlags{Flags: c.Flags}
	return f.withFleet(a, fmt.Sprintf("undrain broker %d", c.Broker), func(open *facts.Facts, n *clusterNow) error {
		b, err := n.broker(c.Broker)
		if err != nil {
			return err
		}
		if err := open.Fleet.SetDraining(a.ctx, b.ID, false); err != nil {
			return err
		}
		wake(a.ctx, open, b.Epoch)
		p := &printer{w: a.stdout}
		p.printf("broker %d may lead partitions again\n", c.Broker)
		return p.result()
	})
}

type moveLeasesCmd struct {
	Topics    []string `arg:"" name:"topic" help:"Topics whose partitions to move."`
	To        int32    `required:"" placeholder:"ID" help:"Id of the broker that should lead them."`
	Partition []int32  `short:"p" placeholder:"N" help:"Move these partitions only; repeat it for several."`
	moveFlags
}

// Help is what --help shows below the summary.
func (*moveLeasesCmd) Help() string {
	return `Asks the present leaders to hand over; they do so a few at a time, without an error that clients see. What nobody leads needs
no asking: brokers take it by themselves.

The controller keeps brokers balanced. It will not undo a move for its own sake, but where one broker ends up with more than
its share it moves others, or these again. To keep a broker free of everything, drain it.

Examples:
  streamhouse move leases orders --partition 3 --to 2
  streamhouse move leases orders payments --to 1 --no-wait`
}

// Run is kong's entry.
func (c *moveLeasesCmd) Run(a *app) error {
	return c.withFleet(a, "move leases", func(open *facts.Facts, n *clusterNow) error {
		to, err := n.broker(c.To)
		if err != nil {
			return err
		}
		if to.Draining {
			return fmt.Errorf("broker %d is draining, it would have to give them away again: `streamhouse move undrain %d` first", c.To, c.To)
		}
		leases, err := n.leasesOf(c.Topics, c.Partition)
		if err != nil {
			return err
		}
		var moves []catalog.Move
		free, there := 0, 0
		for _, l := range leases {
			switch l.Holder {
			case 0:
				free++
			case to.Epoch:
				there++
			default:
				moves = append(moves, catalog.Move{TopicPartition: l.TopicPartition, To: to.Epoch})
			}
		}
		p := &printer{w: a.stdout}
		if there > 0 {
			p.printf("%d led by broker %d already\n", there, c.To)
		}
		if free > 0 {
			p.printf("%d led by nobody: the next broker that looks takes them\n", free)
		}
		if len(moves) == 0 {
			return p.result()
		}
		// The receiver asks: an asker must be a broker that lives, and of this one that is needed anyhow.
		err = open.Fleet.AskMoves(a.ctx, to.Epoch, moves)
		if errors.Is(err, catalog.ErrFenced) {
			return fmt.Errorf("broker %d died meanwhile: %w", c.To, err)
		}
		if err != nil {
			return err
		}
		wake(a.ctx, open, to.Epoch)
		p.printf("asked for %d to be handed over to broker %d\n", len(moves), c.To)
		if !c.Wait || p.err != nil {
			return p.result()
		}
		if err := c.until(a.ctx, open, handedOver(moves)); err != nil {
			return err
		}
		p.printf("moved %d\n", len(moves))
		return p.result()
	})
}

// handedOver tells whether all moves are done, and what became of those that never will be.
func handedOver(moves []catalog.Move) func(*clusterNow) (bool, error) {
	return func(n *clusterNow) (bool, error) {
		waiting, lost := 0, 0
		for _, m := range moves {
			l, ok := n.view.Lease(m.TopicPartition)
			switch {
			case ok && l.Holder == m.To:
			case ok && l.Wanted == m.To:
				waiting++
			default: // somebody else has it, or it is asked for somebody else, or its topic is gone
				lost++
			}
		}
		switch {
		case waiting > 0:
			return false, fmt.Errorf("%d of %d are not handed over", waiting, len(moves))
		case lost > 0:
			return true, fmt.Errorf("%d of %d went elsewhere or stayed: a broker died, or the controller decided otherwise; see `streamhouse leases`", lost, len(moves))
		}
		return true, nil
	}
}

type moveCancelCmd struct {
	Topics    []string `arg:"" optional:"" name:"topic" help:"Topics of whose partitions to withdraw requests; none for all."`
	Partition []int32  `short:"p" placeholder:"N" help:"Of these partitions only; repeat it for several."`
	facts.Flags
}

// Help is what --help shows below the summary.
func (*moveCancelCmd) Help() string {
	return `What is handed over already stays where it is. Requests of the controller are withdrawn too; it makes them again if they
are still needed.`
}

// Run is kong's entry.
func (c *moveCancelCmd) Run(a *app) error {
	f := moveFlags{Flags: c.Flags}
	return f.withFleet(a, "cancel moves", func(open *facts.Facts, n *clusterNow) error {
		leases, err := n.leasesOf(c.Topics, c.Partition)
		if err != nil {
			return err
		}
		var moves []catalog.Move
		var asker catalog.BrokerEpoch
		for _, l := range leases {
			if l.Wanted != 0 {
				moves, asker = append(moves, catalog.Move{TopicPartition: l.TopicPartition}), l.Holder
			}
		}
		if len(moves) > 0 {
			if err := open.Fleet.AskMoves(a.ctx, asker, moves); err != nil { // in the name of one who was asked
				return err
			}
			wake(a.ctx, open, asker)
		}
		p := &printer{w: a.stdout}
		p.printf("withdrew %d requests\n", len(moves))
		return p.result()
	})
}

// leasesOf are the leases of topics, of all without a name. Internal ones count like others: they are leases too.
func (n *clusterNow) leasesOf(topics []string, partitions []int32) ([]catalog.Lease, error) {
	var out []catalog.Lease
	for l := range n.view.All() {
		if len(topics) == 0 && (len(partitions) == 0 || slices.Contains(partitions, l.Partition)) {
			out = append(out, l)
		}
	}
	for _, name := range topics {
		t, err := n.topic(name)
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			if p < 0 || p >= t.Partitions {
				return nil, fmt.Errorf("topic %s has partitions 0 to %d, not %d", name, t.Partitions-1, p)
			}
		}
		for p := range t.Partitions {
			l, ok := n.view.Lease(catalog.TopicPartition{Topic: t.ID, Partition: p})
			if ok && (len(partitions) == 0 || slices.Contains(partitions, p)) {
				out = append(out, l)
			}
		}
	}
	return out, nil
}
