package dashboards

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topics are what is written: a shop, say.
var topics = []struct {
	name       string
	partitions int32
	rate       float64 // records a second, on average
	linger     time.Duration
}{
	{"orders", 6, 300, 20 * time.Millisecond},
	{"clicks", 6, 900, 100 * time.Millisecond},
	{"payments", 3, 60, 5 * time.Millisecond},
}

// load is producers and groups on one cluster.
type load struct {
	seeds []string
	wave  time.Duration // of the rate, from one crest to the next
	begin time.Time
	all   sync.WaitGroup
	ctx   context.Context //nolint:containedctx // of what runs until end
	stop  context.CancelFunc
}

// startLoad writes to all topics and reads them by three groups: "billing" keeps up, "search" is slow and falls behind, and
// catches up by fits and starts; "audit" does not autocommit, and reads orders and payments.
func startLoad(t *testing.T, seeds []string, wave time.Duration) *load {
	t.Helper()
	l := &load{seeds: seeds, wave: wave, begin: time.Now()}
	ctx, stop := context.WithCancel(t.Context())
	l.ctx, l.stop = ctx, stop
	t.Cleanup(l.end)
	admin := kadm.NewClient(l.client(t))
	for _, topic := range topics {
		made, err := admin.CreateTopic(ctx, topic.partitions, 1, nil, topic.name)
		require.NoError(t, err)
		require.NoError(t, made.Err)
	}
	for i := range topics {
		// Two producers of each topic.
		for range 2 {
			cl := l.client(t, kgo.DefaultProduceTopic(topics[i].name), kgo.ProducerLinger(topics[i].linger), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
			l.all.Go(func() { l.produce(ctx, cl, topics[i].rate/2, i) })
		}
	}
	groups := []struct {
		name   string
		topics []string
		read   func(context.Context, *kgo.Client)
	}{
		{"billing", []string{"orders"}, l.keepUp},
		{"billing", []string{"orders"}, l.keepUp},
		{"search", []string{"clicks", "orders"}, l.fallBehind},
		{"audit", []string{"orders", "payments"}, l.keepUp},
	}
	for i, g := range groups {
		cl := l.client(t, kgo.ConsumerGroup(g.name), kgo.ConsumeTopics(g.topics...), kgo.ClientID(g.name+"-"+string(rune('1'+i))),
			kgo.AutoCommitInterval(time.Second), kgo.FetchMaxWait(500*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		l.all.Go(func() { g.read(ctx, cl) })
	}
	return l
}

// client returns a client that is closed when the test ends.
func (l *load) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(l.seeds...), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func (l *load) end() {
	l.stop()
	l.all.Wait()
}

// produce sends records at a rate that rises and falls, a little later for each topic.
func (l *load) produce(ctx context.Context, cl *kgo.Client, rate float64, shift int) {
	const tick = 50 * time.Millisecond
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	due := 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		at := time.Since(l.begin).Seconds()/l.wave.Seconds() - float64(shift)/5
		for due += rate * tick.Seconds() * (1 + 0.6*math.Sin(2*math.Pi*at)); due >= 1; due-- {
			value := make([]byte, 100+rand.IntN(200))
			for i := range value {
				value[i] = byte('a' + rand.IntN(20))
			}
			cl.Produce(ctx, &kgo.Record{Value: value}, nil)
		}
	}
}

func (l *load) keepUp(ctx context.Context, cl *kgo.Client) {
	for ctx.Err() == nil {
		cl.PollFetches(ctx)
	}
}

// fallBehind reads a third of what comes in for a while, and then more than comes in.
func (l *load) fallBehind(ctx context.Context, cl *kgo.Client) {
	for ctx.Err() == nil {
		slow := math.Mod(time.Since(l.begin).Seconds()/l.wave.Seconds(), 1) < 0.6
		switch {
		case slow:
			cl.PollRecords(ctx, 40)
			pause(ctx, 100*time.Millisecond)
		default:
			// So many, however few a poll brings: lag must shrink, and not be gone at once.
			for got := 0; got < 250 && ctx.Err() == nil; {
				got += cl.PollRecords(ctx, 250-got).NumRecords()
			}
			pause(ctx, 100*time.Millisecond)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// more adds a topic, and a member to a group.
func (l *load) more(t *testing.T) {
	t.Helper()
	cl := l.client(t, kgo.ConsumerGroup("billing"), kgo.ConsumeTopics("orders"), kgo.ClientID("billing-late"), kgo.AutoCommitInterval(time.Second))
	made, err := kadm.NewClient(cl).CreateTopic(t.Context(), 4, 1, nil, "returns")
	require.NoError(t, err)
	require.NoError(t, made.Err)
	l.all.Go(func() { l.keepUp(l.ctx, cl) })
}

// comeAndGo has a member join a group, and leave it when it has partitions, until the load ends. How long rebalances take shows only
// where one ends after others were counted, and those that a group begins with may all be counted between two scrapes.
func (l *load) comeAndGo(t *testing.T) {
	t.Helper()
	l.all.Go(func() {
		for l.ctx.Err() == nil {
			assigned := make(chan struct{}, 1)
			cl, err := kgo.NewClient(kgo.SeedBrokers(l.seeds...), kgo.ConsumerGroup("billing"), kgo.ConsumeTopics("orders"), kgo.ClientID("billing-guest"),
				kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) {
					select {
					case assigned <- struct{}{}:
					default:
					}
				}))
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-assigned:
			case <-l.ctx.Done():
			}
			pause(l.ctx, time.Second)
			cl.Close() // it leaves
		}
	})
}

// trip makes requests that brokers refuse: records that are too large, a topic that is there already, until the load ends.
func (l *load) trip(t *testing.T) {
	t.Helper()
	ctx := l.ctx
	small := "1000"
	cl := l.client(t, kgo.DefaultProduceTopic("tight"), kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	made, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &small}, "tight")
	require.NoError(t, err)
	require.NoError(t, made.Err)
	l.all.Go(func() {
		for ctx.Err() == nil {
			_ = cl.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 2000)}) // refused, which is all it is for
			again := kmsg.NewPtrCreateTopicsRequest()
			topic := kmsg.NewCreateTopicsRequestTopic()
			topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "orders", 1, 1
			again.Topics = append(again.Topics, topic)
			_, _ = again.RequestWith(ctx, cl) // so is this
			pause(ctx, 500*time.Millisecond)
		}
	})
}
