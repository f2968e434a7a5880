package groups_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

const partitions = 6

// full says whether everything is tried, which takes minutes: `make groups`. CI tries each client in one protocol, and no crashes,
// which take until a session ends.
func full() bool { return os.Getenv("GROUPS_FULL") != "" }

// kinds are the members that are tried.
func kinds() map[string]spec {
	if !full() {
		return map[string]spec{
			"kcat":                     {Client: "kcat"},
			"franz-go consumer":        {Client: "franz-go", Protocol: "consumer", Cooperative: true},
			"sarama":                   {Client: "sarama"},
			"kafka-go":                 {Client: "kafka-go"},
			"confluent-kafka consumer": {Client: "confluent-kafka", Protocol: "consumer"},
			"kafka-python":             {Client: "kafka-python"},
			"aiokafka":                 {Client: "aiokafka"},
			"kafkajs":                  {Client: "kafkajs"},
			"java":                     {Client: "java"},
		}
	}
	return map[string]spec{
		"kcat":                     {Client: "kcat"},
		"franz-go":                 {Client: "franz-go"},
		"franz-go cooperative":     {Client: "franz-go", Cooperative: true},
		"franz-go consumer":        {Client: "franz-go", Protocol: "consumer", Cooperative: true},
		"sarama":                   {Client: "sarama"},
		"kafka-go":                 {Client: "kafka-go"},
		"confluent-kafka":          {Client: "confluent-kafka"},
		"confluent-kafka sticky":   {Client: "confluent-kafka", Cooperative: true},
		"confluent-kafka consumer": {Client: "confluent-kafka", Protocol: "consumer"},
		"kafka-python":             {Client: "kafka-python"},
		"aiokafka":                 {Client: "aiokafka"},
		"kafkajs":                  {Client: "kafkajs"},
		"java":                     {Client: "java"},
		"java cooperative":         {Client: "java", Cooperative: true},
		"java consumer":            {Client: "java", Protocol: "consumer"},
	}
}

// scene is one group on one topic.
type scene struct {
	t     *testing.T
	admin *kadm.Client
	cl    *kgo.Client
	spec  spec
	sent  int
}

func newScene(t *testing.T, s spec) *scene {
	t.Helper()
	b := target.Get(t)
	s.Bootstrap, s.Topic, s.Group = b.Bootstrap, b.Topic(t, "groups", partitions, nil), target.Name("group")
	cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(100))
	return &scene{t: t, admin: kadm.NewClient(cl), cl: cl, spec: s}
}

// produce sends n records to each partition.
func (s *scene) produce(n int) {
	s.t.Helper()
	for range n {
		for p := range int32(partitions) {
			s.cl.Produce(s.t.Context(), &kgo.Record{Topic: s.spec.Topic, Partition: p, Value: fmt.Append(nil, s.sent)}, func(_ *kgo.Record, err error) {
				if err != nil {
					s.t.Error(err)
				}
			})
		}
		s.sent++
	}
	require.NoError(s.t, s.cl.Flush(s.t.Context()))
}

// assigned is what each member has, by member id, as the coordinator says.
func (s *scene) assigned(ctx context.Context) (map[string][]int32, string, error) {
	out := map[string][]int32{}
	if s.spec.protocol() == "consumer" {
		all, err := s.admin.DescribeConsumerGroups(ctx, s.spec.Group)
		if err != nil {
			return nil, "", err
		}
		g := all[s.spec.Group]
		for _, m := range g.Members {
			out[m.MemberID] = []int32{}
			for p := range m.Assignment[s.spec.Topic] {
				out[m.MemberID] = append(out[m.MemberID], p)
			}
		}
		return out, g.State, g.Err
	}
	all, err := s.admin.DescribeGroups(ctx, s.spec.Group)
	if err != nil {
		return nil, "", err
	}
	g := all[s.spec.Group]
	for _, m := range g.Members {
		out[m.MemberID] = []int32{}
		if as, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range as.Topics {
				out[m.MemberID] = append(out[m.MemberID], t.Partitions...)
			}
		}
	}
	return out, g.State, g.Err
}

// balanced waits until so many members share all partitions, each with some, none with another's.
func (s *scene) balanced(members int) {
	s.t.Helper()
	eventually(s.t, func(ctx context.Context) error {
		all, state, err := s.assigned(ctx)
		if err != nil {
			return err
		}
		owner := map[int32]string{}
		for id, ps := range all {
			if len(ps) == 0 {
				return fmt.Errorf("member %s of %v has nothing, the group is %s", id, all, state)
			}
			for _, p := range ps {
				if other, twice := owner[p]; twice {
					s.t.Fatalf("partition %d belongs to %s and %s", p, other, id)
				}
				owner[p] = id
			}
		}
		if state != "Stable" || len(all) != members || len(owner) != partitions {
			return fmt.Errorf("want %d members with %d partitions, the group is %s: %v", members, partitions, state, all)
		}
		return nil
	})
}

// readAll waits until all that was sent was read by one of the members.
func (s *scene) readAll(members ...*member) {
	s.t.Helper()
	eventually(s.t, func(context.Context) error {
		seen := map[position]bool{}
		for _, m := range members {
			for p := range m.seen() {
				seen[p] = true
			}
		}
		if want := s.sent * partitions; len(seen) < want {
			return fmt.Errorf("%d of %d records were read", len(seen), want)
		}
		return nil
	})
}

// committed waits until the group has committed all that was sent.
func (s *scene) committed() {
	s.t.Helper()
	eventually(s.t, func(ctx context.Context) error {
		offsets, err := s.admin.FetchOffsets(ctx, s.spec.Group)
		if err != nil {
			return err
		}
		for p := range int32(partitions) {
			if o, ok := offsets.Lookup(s.spec.Topic, p); !ok || o.At != int64(s.sent) {
				return fmt.Errorf("committed of partition %d: %d of %d", p, o.At, s.sent)
			}
		}
		return nil
	})
}

// TestLife takes a group of each client through its life.
func TestLife(t *testing.T) {
	for name, kind := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, kind)
			s.produce(50)
			a := join(t, s.spec)
			s.readAll(a)
			s.balanced(1)

			b := join(t, s.spec)
			s.balanced(2)
			s.produce(50)
			s.readAll(a, b)

			// A crash: found out by the session's end, what the dead had goes to the other.
			if full() {
				b.crash()
			} else {
				b.leave()
			}
			s.balanced(1)
			s.produce(50)
			s.readAll(a, b)
			s.committed()

			// An orderly end, and a start from what is committed: nothing is read twice.
			a.leave()
			eventually(t, func(ctx context.Context) error {
				all, state, err := s.assigned(ctx)
				if err == nil && len(all) > 0 {
					err = fmt.Errorf("it left, and the group is %s with %v", state, all)
				}
				return err
			})
			s.committed()
			before := s.sent
			s.produce(5)
			c := join(t, s.spec)
			eventually(t, func(context.Context) error {
				if got, want := len(c.seen()), 5*partitions; got < want {
					return fmt.Errorf("%d of %d records were read", got, want)
				}
				return nil
			})
			for p, n := range c.seen() {
				require.GreaterOrEqual(t, p.offset, int64(before), "read again though it was committed")
				require.Equal(t, 1, n)
			}
			s.committed()
			c.leave()
		})
	}
}

// TestStaticMembers restarts a static member (KIP-345): it gets the same partitions, and nobody else is disturbed.
func TestStaticMembers(t *testing.T) {
	kinds := []spec{
		{Client: "franz-go"},
		{Client: "sarama"},
		{Client: "confluent-kafka"},
		{Client: "aiokafka"},
		{Client: "java"},
		{Client: "java", Protocol: "consumer"},
	}
	if !full() {
		kinds = kinds[2:3]
	}
	for _, kind := range kinds {
		t.Run(kind.Client+" "+kind.protocol(), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, kind)
			s.produce(10)
			first, second := s.spec, s.spec
			first.Instance, second.Instance = "one", "two"
			a, b := join(t, first), join(t, second)
			s.balanced(2)
			s.readAll(a, b)
			epoch, owned := s.instances()
			require.Len(t, owned, 2)

			if kind.protocol() == "consumer" { // KIP-848: an instance id is free once its owner said so, or its session ended
				b.leave()
			} else {
				b.crash()
			}
			b2 := join(t, second)
			s.produce(10)
			s.readAll(a, b, b2)
			s.balanced(2)
			later, again := s.instances()
			require.Equal(t, owned, again, "a static member that comes back has what it had")
			if kind.protocol() == "classic" && kind.Client != "franz-go" && kind.Client != "sarama" { // which change their subscription's metadata
				require.Equal(t, epoch, later, "no rebalance")
			}
			a.leave()
			b2.leave()
		})
	}
}

// instances are the partitions by instance id, and, of a consumer group, its epoch.
func (s *scene) instances() (epoch int32, owned map[string]string) {
	s.t.Helper()
	owned = map[string]string{}
	if s.spec.protocol() == "consumer" {
		all, err := s.admin.DescribeConsumerGroups(s.t.Context(), s.spec.Group)
		require.NoError(s.t, err)
		g := all[s.spec.Group]
		for _, m := range g.Members {
			require.NotNil(s.t, m.InstanceID)
			owned[*m.InstanceID] = fmt.Sprint(m.Assignment.Sorted())
		}
		return g.Epoch, owned
	}
	all, err := s.admin.DescribeGroups(s.t.Context(), s.spec.Group)
	require.NoError(s.t, err)
	for _, m := range all[s.spec.Group].Members {
		require.NotNil(s.t, m.InstanceID)
		as, ok := m.Assigned.AsConsumer()
		require.True(s.t, ok)
		owned[*m.InstanceID] = fmt.Sprint(as.Topics)
	}
	return 0, owned
}
