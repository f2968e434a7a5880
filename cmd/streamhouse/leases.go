package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/facts"
)

type leasesCmd struct {
	Topics    []string `arg:"" optional:"" name:"topic" help:"Topics to show; none for all."`
	Partition []int32  `short:"p" placeholder:"N" help:"Show these partitions only; repeat it for several."`
	Broker    *int32   `short:"b" placeholder:"ID" help:"Show what this broker holds only."`
	Free      bool     `help:"Show what nobody holds only."`
	Moving    bool     `help:"Show what somebody is asked to hand over only."`
	Internal  bool     `help:"Show those of internal topics too: group and transaction shards, the controller."`
	Summary   bool     `short:"s" help:"Show how many each broker holds instead."`
	listingFlags
	facts.Flags
}

// Help is what --help shows below the summary.
func (*leasesCmd) Help() string {
	return `A lease is the right of one broker to append to one partition; its epoch is Kafka's leader epoch. Reads the catalog,
and so works also when no broker answers. Nothing is changed.

Examples:
  streamhouse leases orders
  streamhouse leases --broker 2 --internal
  streamhouse leases --summary
  streamhouse leases --free --format json`
}

type leaseDetails struct {
	Topic       string `json:"topic"`
	TopicID     string `json:"topic_id"`
	Partition   int32  `json:"partition"`
	Broker      *int32 `json:"broker"`       // null: nobody
	BrokerEpoch int64  `json:"broker_epoch"` // 0: nobody
	LeaseEpoch  int32  `json:"lease_epoch"`  // -1: never held
	Wanted      *int32 `json:"moving_to"`    // null: stays
	WantedEpoch int64  `json:"moving_to_epoch,omitempty"`

	lease catalog.Lease
}

// Run is kong's entry.
func (c *leasesCmd) Run(a *app) error {
	if c.Free && (c.Broker != nil || c.Moving) {
		return badUsage(errors.New("--free with --broker or --moving: what nobody holds nobody hands over"))
	}
	if c.Summary && (len(c.Topics) > 0 || len(c.Partition) > 0 || c.Broker != nil || c.Free || c.Moving) {
		return badUsage(errors.New("--summary counts all leases: leave the filters out"))
	}
	n, err := lookAtCluster(a, c.Flags)
	if err != nil {
		return fmt.Errorf("show the leases: %w", err)
	}
	if c.Summary {
		return c.summary(a, n)
	}
	all, err := c.matching(n)
	if err != nil {
		return err
	}
	if c.asJSON() {
		p := &printer{w: a.stdout}
		for i := range all {
			p.json(all[i])
		}
		return p.result()
	}
	if len(all) == 0 {
		say(a.stderr, "no lease matches\n")
		return nil
	}
	return a.table("TOPIC\tPARTITION\tBROKER\tBROKER EPOCH\tLEASE EPOCH\tMOVING TO", func(p *printer) {
		for i := range all {
			l := &all[i].lease
			holder := "-"
			if l.Holder != 0 {
				holder = fmt.Sprint(l.Holder)
			}
			p.printf("%s\t%d\t%s\t%s\t%d\t%s\n", all[i].Topic, l.Partition, n.who(l.Holder), holder, l.Epoch, n.who(l.Wanted))
		}
	})
}

// matching are the leases that were asked for, by topic name and partition.
func (c *leasesCmd) matching(n *clusterNow) ([]leaseDetails, error) {
	named := make(map[catalog.TopicID]bool)
	for _, name := range c.Topics {
		t, err := n.topic(name)
		if err != nil {
			return nil, err
		}
		named[t.ID] = true
	}
	var broker catalog.BrokerEpoch
	if c.Broker != nil {
		b, err := n.broker(*c.Broker)
		if err != nil {
			return nil, err
		}
		broker = b.Epoch
	}
	var out []leaseDetails
	for l := range n.view.All() {
		name, ok := n.names[l.Topic]
		switch {
		case !ok, // deleted meanwhile
			len(named) > 0 && !named[l.Topic],
			len(named) == 0 && internalTopic(l.Topic) && !c.Internal,
			len(c.Partition) > 0 && !slices.Contains(c.Partition, l.Partition),
			broker != 0 && l.Holder != broker,
			c.Free && l.Holder != 0,
			c.Moving && l.Wanted == 0:
			continue
		}
		out = append(out, leaseDetails{
			Topic: name, TopicID: l.Topic.String(), Partition: l.Partition, lease: l, LeaseEpoch: int32(l.Epoch),
			Broker: n.idPointer(l.Holder), BrokerEpoch: int64(l.Holder), Wanted: n.idPointer(l.Wanted), WantedEpoch: int64(l.Wanted),
		})
	}
	slices.SortFunc(out, func(a, b leaseDetails) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out, nil
}

func (n *clusterNow) idPointer(epoch catalog.BrokerEpoch) *int32 {
	id, ok := n.idOf(epoch)
	if !ok {
		return nil
	}
	return (*int32)(&id)
}

type leaseSummary struct {
	Broker      *int32 `json:"broker"` // null: held by nobody
	BrokerEpoch int64  `json:"broker_epoch"`
	Leases      int    `json:"leases"`
	Internal    int    `json:"internal"` // of Leases
	Topics      int    `json:"topics"`
	Leaving     int    `json:"moving_away"`
	Coming      int    `json:"moving_here"`
}

func (c *leasesCmd) summary(a *app, n *clusterNow) error {
	held, from, to := n.counts()
	internal := make(map[catalog.BrokerEpoch]int)
	topics := make(map[catalog.BrokerEpoch]map[catalog.TopicID]bool)
	for l := range n.view.All() {
		if internalTopic(l.Topic) {
			internal[l.Holder]++
		}
		if topics[l.Holder] == nil {
			topics[l.Holder] = make(map[catalog.TopicID]bool)
		}
		topics[l.Holder][l.Topic] = true
	}
	var all []leaseSummary
	add := func(epoch catalog.BrokerEpoch, leases int) {
		all = append(all, leaseSummary{
			Broker: n.idPointer(epoch), BrokerEpoch: int64(epoch), Leases: leases, Internal: internal[epoch],
			Topics: len(topics[epoch]), Leaving: from[epoch], Coming: to[epoch],
		})
	}
	for _, b := range n.view.Brokers() {
		add(b.Epoch, held[b.Epoch])
	}
	if free := n.view.Free(); free > 0 {
		add(0, free)
	}
	if c.asJSON() {
		p := &printer{w: a.stdout}
		for i := range all {
			p.json(all[i])
		}
		return p.result()
	}
	return a.table("BROKER\tBROKER EPOCH\tLEASES\tOF INTERNAL TOPICS\tTOPICS\tMOVING AWAY\tMOVING HERE", func(p *printer) {
		for _, s := range all {
			who, epoch := "nobody", "-"
			if s.Broker != nil {
				who, epoch = fmt.Sprint(*s.Broker), fmt.Sprint(s.BrokerEpoch)
			}
			p.printf("%s\t%s\t%d\t%d\t%d\t%d\t%d\n", who, epoch, s.Leases, s.Internal, s.Topics, s.Leaving, s.Coming)
		}
	})
}
