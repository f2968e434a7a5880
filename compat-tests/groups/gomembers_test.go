package groups_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// memberVariable makes this program a member of a group, by one of the Go clients, instead of running tests.
const memberVariable = "COMPAT_MEMBER"

func TestMain(m *testing.M) {
	text := os.Getenv(memberVariable)
	if text == "" {
		m.Run()
		return
	}
	if err := run(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// run is a member until SIGTERM.
func run(text string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var s spec
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		switch s.Client {
		case "franz-go":
			err = franz(ctx, &s)
		case "sarama":
			err = saramaMember(ctx, &s)
		case "kafka-go":
			err = kafkaGo(ctx, &s)
		default:
			err = fmt.Errorf("no client %q", s.Client)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func tell(partition int32, offset int64) { fmt.Fprintf(os.Stdout, "%d %d\n", partition, offset) }

func franz(ctx context.Context, s *spec) error {
	opts := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(s.Bootstrap, ",")...), kgo.ConsumerGroup(s.Group), kgo.ConsumeTopics(s.Topic), kgo.ClientID(cmp.Or(s.ClientID, "franz-go")), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
	}
	if !s.Cooperative {
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()))
	}
	if s.Instance != "" {
		opts = append(opts, kgo.InstanceID(s.Instance))
	}
	if s.Protocol == "consumer" {
		// Not with the context that SIGTERM ends: it has to leave then.
		own := context.WithValue(context.WithoutCancel(ctx), "opt_in_kafka_next_gen_balancer_beta", true) //nolint:revive,staticcheck // franz-go's own key
		opts = append(opts, kgo.WithContext(own))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer func() {
		if s.Instance == "" {
			cl.LeaveGroup()
		}
		cl.Close()
	}()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fetches.EachError(func(_ string, p int32, err error) { fmt.Fprintln(os.Stderr, p, err) })
		fetches.EachRecord(func(r *kgo.Record) { tell(r.Partition, r.Offset) })
		if err := cl.CommitUncommittedOffsets(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, err) // a rebalance: what was read is read again by its new owner
		}
	}
}

type saramaHandler struct{}

func (saramaHandler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (saramaHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		tell(m.Partition, m.Offset)
		session.MarkMessage(m, "")
	}
	return nil
}

func saramaMember(ctx context.Context, s *spec) error {
	c := sarama.NewConfig()
	c.Version, c.ClientID = sarama.MaxVersion, "sarama"
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
	c.Consumer.Group.Session.Timeout, c.Consumer.Group.Heartbeat.Interval = 6*time.Second, 500*time.Millisecond
	c.Consumer.Group.InstanceId = s.Instance
	g, err := sarama.NewConsumerGroup([]string{s.Bootstrap}, s.Group, c)
	if err != nil {
		return err
	}
	defer g.Close()
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{s.Topic}, saramaHandler{}); err != nil && !errors.Is(err, sarama.ErrClosedConsumerGroup) {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return ctx.Err()
}

func kafkaGo(ctx context.Context, s *spec) error {
	r := kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: []string{s.Bootstrap}, GroupID: s.Group, Topic: s.Topic, StartOffset: kafkago.FirstOffset,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: 500 * time.Millisecond, RebalanceTimeout: 10 * time.Second, MaxWait: 200 * time.Millisecond,
		Dialer:      &kafkago.Dialer{ClientID: "kafka-go", Timeout: 10 * time.Second, DualStack: true},
		ErrorLogger: kafkago.LoggerFunc(func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }),
	})
	defer r.Close()
	for {
		m, err := r.FetchMessage(ctx)
		if err != nil {
			return err
		}
		tell(int32(m.Partition), m.Offset)
		if err := r.CommitMessages(ctx, m); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
