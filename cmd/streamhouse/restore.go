package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/facts"
)

type restoreCmd struct {
	Yes bool `short:"y" help:"Do not ask."`
	listingFlags
	facts.Flags
}

// Help is what --help shows below the summary.
func (*restoreCmd) Help() string {
	return `To be run once, with all brokers stopped, after the catalog was put back to an earlier state: from a backup, by point-in-time
recovery, or by failing over to a standby that was not synchronous. It does not restore anything itself.

What the cluster handed out after that state must not be handed out twice. So this fences all broker epochs and moves the
epochs of brokers and leases, the blocks of object ids and producer ids, and all versions far ahead. It is refused while a
broker renews its session or is connected.

What was written after that state stays lost: its offsets are given out again, to other records. Consumers see that the log
was cut off, by its leader epochs. Objects that only the lost state names are swept as orphans once a broker runs; keep a copy
of the bucket if you want them. Objects that the restored state names are there only if it is younger than --object-grace.

Running it more often than needed is harmless. docs/operations.md says how to go about a restore.`
}

// confirmation is the word to type.
const confirmation = "restore"

// Run is kong's entry.
func (c *restoreCmd) Run(a *app) (err error) {
	open, err := openFacts(a, c.Flags, facts.Change)
	if err != nil {
		return fmt.Errorf("open the catalog to move it forward: %w", err)
	}
	defer func() { err = errors.Join(err, open.Close()) }()
	if !c.Yes {
		if err := c.confirm(a, open); err != nil {
			return err
		}
	}
	if open.Owned { // the lock proves that the brokers are dead: no session need run out
		if err := fenceAll(a, open); err != nil {
			return err
		}
	}
	r, err := open.Restored(a.ctx)
	if errors.Is(err, catalog.ErrBrokerAlive) {
		return fmt.Errorf("%w\nstop all brokers, and try again once their sessions have run out; nothing was changed", err)
	}
	if err != nil {
		return err
	}
	return c.report(a, r)
}

func (c *restoreCmd) confirm(a *app, open *facts.Facts) error {
	id, err := open.ClusterID(a.ctx)
	if err != nil {
		return err
	}
	n, err := readCluster(a.ctx, open)
	if err != nil {
		return err
	}
	say(a.stderr, "This moves the catalog of cluster %s forward, fences all its broker epochs (%d are not fenced) and cannot be undone.\n",
		id, len(n.view.Brokers()))
	for _, b := range n.details() {
		if b.State != stateFenced {
			say(a.stderr, "  broker %d, epoch %d: last heard of %s ago\n", b.ID, b.Epoch, ago(b.age))
		}
	}
	say(a.stderr, "Type %q to go on: ", confirmation)
	line, err := bufio.NewReader(io.LimitReader(a.stdin, 100)).ReadString('\n')
	if strings.TrimSpace(line) != confirmation {
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the confirmation: %w", err)
		}
		return badUsage(errors.New("not confirmed, nothing was changed; --yes does not ask"))
	}
	return nil
}

// fenceAll fences what an embedded broker left.
func fenceAll(a *app, open *facts.Facts) error {
	brokers, err := open.ListBrokers(a.ctx)
	if err != nil {
		return err
	}
	for i := range brokers {
		if err := open.FenceBroker(a.ctx, brokers[i].Epoch, catalog.FenceProvenDead); err != nil {
			return err
		}
	}
	return nil
}

type restoreMarks struct {
	BrokerEpoch   int64 `json:"broker_epoch"`
	LeaseEpoch    int32 `json:"lease_epoch"`
	NextObject    int64 `json:"next_object_id"`
	NextProducer  int64 `json:"next_producer_id"`
	TopicsVersion int64 `json:"topics_version"`
	LeasesVersion int64 `json:"leases_version"`
}

func marksOf(m catalog.Marks) restoreMarks {
	return restoreMarks{int64(m.BrokerEpoch), int32(m.LeaseEpoch), int64(m.NextObject), m.NextProducer, m.TopicsVersion, m.LeasesVersion}
}

func (c *restoreCmd) report(a *app, r catalog.Restoration) error {
	before, after := marksOf(r.Before), marksOf(r.After)
	if c.asJSON() {
		fenced := append([]catalog.BrokerEpoch{}, r.Fenced...)
		p := &printer{w: a.stdout}
		p.json(struct {
			At     time.Time             `json:"at"`
			Fenced []catalog.BrokerEpoch `json:"fenced_broker_epochs"`
			Before restoreMarks          `json:"before"`
			After  restoreMarks          `json:"after"`
		}{r.At, fenced, before, after})
		return p.result()
	}
	err := a.table("MOVED FORWARD\tFROM\tTO", func(p *printer) {
		p.printf("broker epoch\t%d\t%d\n", before.BrokerEpoch, after.BrokerEpoch)
		p.printf("lease epochs, the largest\t%d\t%d\n", before.LeaseEpoch, after.LeaseEpoch)
		p.printf("next object id\t%d\t%d\n", before.NextObject, after.NextObject)
		p.printf("next producer id\t%d\t%d\n", before.NextProducer, after.NextProducer)
		p.printf("version of the topics\t%d\t%d\n", before.TopicsVersion, after.TopicsVersion)
		p.printf("version of the leases\t%d\t%d\n", before.LeasesVersion, after.LeasesVersion)
	})
	p := &printer{w: a.stdout, err: err}
	p.printf("broker epochs fenced: %d\n", len(r.Fenced))
	if !r.LastHeartbeat.IsZero() {
		p.printf("the restored state is at least %s old: its last heartbeat is of %s. Objects that were replaced since are still there "+
			"if the brokers' --object-grace is longer than the time from then to when they were stopped.\n",
			ago(r.At.Sub(r.LastHeartbeat)), r.LastHeartbeat.Format(time.RFC3339))
	}
	p.printf("Start the brokers now.\n")
	return p.result()
}
