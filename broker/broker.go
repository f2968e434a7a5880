package broker

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/streamhouse/streamhouse/broker/attribution"
	"github.com/streamhouse/streamhouse/catalog"
)

// Broker answers Kafka requests. Its methods are safe for concurrent use.
type Broker struct {
	cfg      Config
	self     Node     // without Draining
	shares   bool     // partitions with other brokers: Config.Cluster was given
	follower Follower // nil: only led partitions can be read
	view     atomic.Pointer[fleet]
	looked   atomic.Int64 // when lookAgain did, in Unix nanoseconds
	obs      Observer
	table    []*api
	apis     map[int16]*api
	topics   topics
	telling  *tellingCatalog
	groups   *groups           // nil: none
	reads    *attribution.Book // nil: nobody wants to know
	sessions *sessionCache
	memory   *budget // request frames
	answers  *budget // record bytes of Fetch answers
	limited  *limitedLog
	server   server
	unowned  unowned
	// ctx lives until all connections have ended.
	ctx      context.Context // the broker's life
	draining chan struct{}   // closed by Shutdown
}

// New returns a Broker that serves nothing yet: call RefreshTopics, then Serve, and Coordinate for its groups.
func New(cfg Config) (*Broker, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	b := &Broker{
		cfg: cfg, obs: cfg.Observer, table: table(), apis: map[int16]*api{},
		memory:   newBudget(cfg.Limits.RequestMemoryBytes),
		answers:  newBudget(cfg.Limits.AnswerMemoryBytes),
		limited:  &limitedLog{log: cfg.Logger},
		ctx:      context.Background(),
		draining: make(chan struct{}),
	}
	for _, a := range b.table {
		b.apis[a.key] = a
	}
	b.limited.mu.last = map[string]*limitedLine{}
	b.self = Node{ID: cfg.NodeID, Rack: cfg.Rack}
	for name, e := range cfg.Listeners {
		b.self.Listeners = append(b.self.Listeners, catalog.Listener{Name: name, Host: e.Host, Port: e.Port})
	}
	slices.SortFunc(b.self.Listeners, func(a, b catalog.Listener) int { return strings.Compare(a.Name, b.Name) })
	if b.shares = cfg.Cluster != nil; !b.shares {
		b.cfg.Cluster = &alone{log: cfg.Log, nodes: []Node{b.self}}
	} else {
		b.follower, _ = cfg.Log.(Follower)
	}
	b.telling = &tellingCatalog{Catalog: cfg.Catalog, cluster: b.cfg.Cluster, topics: &b.topics.current}
	b.cfg.Catalog = b.telling
	b.topics.catalog = cfg.Catalog
	b.topics.current.Store(newImage(catalog.TopicSet{Version: -1}, nil))
	groups, err := newGroups(b)
	if err != nil {
		return nil, fmt.Errorf("broker config: %w", err)
	}
	b.groups = groups
	b.sessions = newSessionCache(cfg.Limits.FetchSessions, cfg.Limits.FetchSessionPartitions)
	b.server.mu.listeners = map[net.Listener]struct{}{}
	b.server.mu.conns = map[*conn]struct{}{}
	b.server.mu.perIP = map[string]int{}
	return b, nil
}

// RefreshTopics reads the topics from the catalog if they changed. Call it before Serve, whenever another broker
// announces that it changed topics, and whenever the catalog's heartbeat tells a new version.
func (b *Broker) RefreshTopics(ctx context.Context) error {
	gone, err := b.topics.refresh(ctx)
	if err != nil {
		return fmt.Errorf("refresh topics: %w", err)
	}
	for _, id := range gone {
		b.cfg.Log.DropTopic(id)
	}
	b.tellGroups()
	b.acquireUnowned(ctx)
	return nil
}

// Topics returns the number of topics and of their partitions, as this broker knows them.
func (b *Broker) Topics() (topics, partitions int) {
	im := b.topics.load()
	return len(im.byName), im.partitions
}

// TopicName returns the name of a live topic by its id; ok is false when this broker knows none.
func (b *Broker) TopicName(id [16]byte) (name string, ok bool) {
	t := b.topics.load().byID[id]
	if t == nil {
		return "", false
	}
	return t.Name, true
}
