package admin_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestKadm goes through the life of a topic.
func TestKadm(t *testing.T) {
	broker := target.Get(t)
	cl := broker.Client(t)
	admin := kadm.NewClient(cl)
	ctx := t.Context()
	topic := target.Name("kadm")
	broker.DeleteWhenDone(t, topic)

	made, err := admin.CreateTopic(ctx, 2, -1, map[string]*string{"retention.ms": new("-1")}, topic)
	require.NoError(t, err)
	require.EqualValues(t, 2, made.NumPartitions)
	_, err = admin.CreateTopic(ctx, 2, -1, nil, topic)
	require.ErrorIs(t, err, kerr.TopicAlreadyExists)
	checked, err := admin.ValidateCreateTopics(ctx, 2, -1, nil, topic+"-validated")
	require.NoError(t, err)
	require.NoError(t, checked.Error())

	listed, err := admin.ListTopics(ctx, topic, topic+"-validated")
	require.NoError(t, err)
	require.ErrorIs(t, listed[topic+"-validated"].Err, kerr.UnknownTopicOrPartition, "validating must not create")
	require.Equal(t, made.ID, listed[topic].ID)
	require.Len(t, listed[topic].Partitions, 2)
	for _, p := range listed[topic].Partitions {
		require.NoError(t, p.Err)
		require.Contains(t, p.Replicas, p.Leader)
		require.Contains(t, p.ISR, p.Leader)
	}

	more, err := admin.UpdatePartitions(ctx, 4, topic)
	require.NoError(t, err)
	require.NoError(t, more.Error())
	more, err = admin.UpdatePartitions(ctx, 3, topic)
	require.NoError(t, err)
	require.ErrorIs(t, more[topic].Err, kerr.InvalidPartitions)

	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "max.message.bytes", Value: new("5000")},
	}, topic)
	require.NoError(t, err)
	require.NoError(t, altered[0].Err)
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	require.NoError(t, err)
	values := map[string]string{}
	for _, c := range configs[0].Configs {
		values[c.Key] = c.MaybeValue()
	}
	require.Equal(t, "5000", values["max.message.bytes"])
	require.Equal(t, "-1", values["retention.ms"])
	require.Equal(t, "producer", values["compression.type"])

	produce := func(partition int32, value string) error {
		manual := broker.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
		return manual.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}).FirstErr()
	}
	for range 5 {
		require.NoError(t, produce(3, "value"))
	}
	require.ErrorIs(t, produce(3, strings.Repeat("x", 6000)), kerr.MessageTooLarge)

	deleted, err := admin.DeleteRecords(ctx, kadm.Offsets{topic: {3: {Topic: topic, Partition: 3, At: 2}}})
	require.NoError(t, err)
	require.EqualValues(t, 2, deleted[topic][3].LowWatermark)
	require.Equal(t, client.Range{Start: 2, End: 5}, broker.Ends(t, topic)[3])

	dirs, err := admin.DescribeAllLogDirs(ctx, kadm.TopicsSet{topic: {3: {}}})
	require.NoError(t, err)
	var size int64
	for _, d := range dirs {
		require.NoError(t, d.Error())
		size += d.Size()
	}
	require.Positive(t, size)

	producers, err := admin.DescribeProducers(ctx, kadm.TopicsSet{topic: {3: {}}})
	require.NoError(t, err)
	require.NotEmpty(t, producers.SortedProducers(), "idempotent producers wrote here")

	brokers, err := admin.ListBrokers(ctx)
	require.NoError(t, err)
	require.Len(t, brokers, 1)

	gone, err := admin.DeleteTopic(ctx, topic)
	require.NoError(t, err)
	require.NoError(t, gone.Err)
	_, err = admin.DeleteTopic(ctx, topic)
	require.ErrorIs(t, err, kerr.UnknownTopicOrPartition)
}

func TestKcatMetadata(t *testing.T) {
	broker := target.Get(t)
	topic := broker.Topic(t, "kcat-l", 3, nil)
	out, err := client.Run(t.Context(), nil, "kcat", "-L", "-b", broker.Bootstrap)
	require.NoError(t, err)
	require.Contains(t, string(out), "1 brokers:")
	require.Contains(t, string(out), "at "+broker.Bootstrap)
	require.Contains(t, string(out), `topic "`+topic+`" with 3 partitions:`)
}

// TestCreatedByUse: a topic that does not exist is made by the first who
// writes to it.
func TestCreatedByUse(t *testing.T) {
	broker := target.Get(t)
	for name, produce := range map[string]func(t *testing.T, topic string){
		"franz-go": func(t *testing.T, topic string) {
			t.Helper()
			cl := broker.Client(t, kgo.AllowAutoTopicCreation())
			require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr())
		},
		"kcat": func(t *testing.T, topic string) {
			t.Helper()
			_, err := client.Run(t.Context(), strings.NewReader("x\n"), "kcat", "-P", "-b", broker.Bootstrap, "-t", topic)
			require.NoError(t, err)
		},
		"java-console": func(t *testing.T, topic string) {
			t.Helper()
			_, err := client.Java(t.Context(), strings.NewReader("x\n"), "kafka-console-producer",
				"--bootstrap-server", broker.Bootstrap, "--topic", topic)
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			topic := target.Name("by-use")
			broker.DeleteWhenDone(t, topic)
			produce(t, topic)
			ends := broker.Ends(t, topic)
			got, err := client.Franz{}.Read(t.Context(), broker.Bootstrap, topic, ends)
			require.NoError(t, err)
			require.EqualValues(t, 1, got.Total())
		})
	}
}

// TestAcks: all three are kept; without acks nobody says when.
func TestAcks(t *testing.T) {
	broker := target.Get(t)
	for name, acks := range map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		t.Run(name, func(t *testing.T) {
			const count = 100
			topic := broker.Topic(t, "acks", 1, nil)
			cl := broker.Client(t, kgo.DefaultProduceTopic(topic), kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
			for range count {
				cl.Produce(t.Context(), kgo.StringRecord("x"), nil)
			}
			require.NoError(t, cl.Flush(t.Context()))
			require.Eventually(t, func() bool { return broker.Ends(t, topic)[0].End == count }, 30*time.Second, 10*time.Millisecond)
			got, err := client.Kcat{}.Read(t.Context(), broker.Bootstrap, topic, broker.Ends(t, topic))
			require.NoError(t, err)
			require.EqualValues(t, count, got.Total())
		})
	}
}
