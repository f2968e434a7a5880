package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/facts"
)

// openFunc is facts.Look or facts.Change.
type openFunc func(context.Context, config.Location, *slog.Logger) (*facts.Facts, error)

// listingFlags are of commands that show rows.
type listingFlags struct {
	Format string `group:"output" enum:"table,json" default:"table" placeholder:"FORMAT" help:"table or json, one object a line (default ${default})."`
	JSON   bool   `group:"output" help:"The same as --format json."`
}

// asJSON tells which of the two is wanted.
func (f *listingFlags) asJSON() bool { return f.JSON || f.Format == "json" }

// table writes rows below titles, aligned.
func (a *app) table(titles string, rows func(p *printer)) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	p := &printer{w: w}
	p.printf("%s\n", titles)
	rows(p)
	return errors.Join(p.result(), w.Flush())
}

// openFacts opens the catalog that flags name, by facts.Look or facts.Change.
func openFacts(a *app, f facts.Flags, open openFunc) (*facts.Facts, error) {
	at, err := f.Resolve()
	if err != nil {
		return nil, badUsage(err)
	}
	return open(a.ctx, at, a.warnings())
}

// clusterNow is the catalog's brokers, leases and topics at about one moment.
type clusterNow struct {
	at      time.Time // the catalog's clock
	view    *lease.View
	brokers []catalog.Broker // also fenced ones whose tail is not folded
	topics  []catalog.Topic
	names   map[catalog.TopicID]string
}

func readCluster(ctx context.Context, f *facts.Facts) (*clusterNow, error) {
	leases, err := f.LeaseSet(ctx, 0)
	if err != nil {
		return nil, err
	}
	brokers, err := f.ListBrokers(ctx) // after the leases: see lease.NewView
	if err != nil {
		return nil, err
	}
	topics, err := f.TopicSet(ctx, 0)
	if err != nil {
		return nil, err
	}
	now, err := f.Now(ctx)
	if err != nil {
		return nil, err
	}
	n := &clusterNow{
		at: now, view: lease.NewView(leases, brokers), brokers: brokers, topics: topics.Topics,
		names: make(map[catalog.TopicID]string, len(topics.Topics)),
	}
	for i := range topics.Topics {
		n.names[topics.Topics[i].ID] = topics.Topics[i].Name
	}
	return n, nil
}

// lookAtCluster opens the catalog, reads it and closes it.
func lookAtCluster(a *app, f facts.Flags) (*clusterNow, error) {
	open, err := openFacts(a, f, facts.Look)
	if err != nil {
		return nil, err
	}
	n, err := readCluster(a.ctx, open)
	return n, errors.Join(err, open.Close())
}

// topic finds a topic by name.
func (n *clusterNow) topic(name string) (catalog.Topic, error) {
	i := slices.IndexFunc(n.topics, func(t catalog.Topic) bool { return t.Name == name })
	if i < 0 {
		return catalog.Topic{}, fmt.Errorf("there is no topic %q; `streamhouse topic list` shows which there are", name)
	}
	return n.topics[i], nil
}

// broker finds a broker that is not fenced by its id.
func (n *clusterNow) broker(id int32) (catalog.Broker, error) {
	b, ok := n.view.BrokerByID(catalog.BrokerID(id))
	if ok {
		return b, nil
	}
	var ids []string
	for _, b := range n.view.Brokers() {
		ids = append(ids, fmt.Sprint(b.ID))
	}
	if len(ids) == 0 {
		return b, errors.New("no broker is registered with this catalog: start one with `streamhouse serve`")
	}
	return b, fmt.Errorf("no broker %d is alive; there are: %s", id, strings.Join(ids, ", "))
}

// idOf is the broker id of an epoch; not ok when that is fenced and forgotten.
func (n *clusterNow) idOf(epoch catalog.BrokerEpoch) (catalog.BrokerID, bool) {
	i := slices.IndexFunc(n.brokers, func(b catalog.Broker) bool { return b.Epoch == epoch })
	if i < 0 {
		return 0, false
	}
	return n.brokers[i].ID, true
}

// who is an epoch's broker id for people.
func (n *clusterNow) who(epoch catalog.BrokerEpoch) string {
	if epoch == 0 {
		return "-"
	}
	if id, ok := n.idOf(epoch); ok {
		return fmt.Sprint(id)
	}
	return fmt.Sprintf("epoch %d", epoch)
}

// internal tells whether a topic is one that clients do not write to.
func internalTopic(id catalog.TopicID) bool { return lease.Internal(id) }
