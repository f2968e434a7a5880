package admin_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// A topic whose timestamps go back once: offset i has timestamp base + 100·i ms,
// but offset timedMax has the largest and the one after it the smallest.
const (
	timedBase  = 1_700_000_000_000
	timedCount = 10
	timedMax   = 6
)

func timedAt(offset int) int64 {
	switch offset {
	case timedMax:
		return timedBase + 5000
	case timedMax + 1:
		return timedBase - 5000
	default:
		return timedBase + int64(offset)*100
	}
}

// timedCases are timestamps, and the offset of the first record at or after
// them; -1 is none.
var timedCases = []struct{ timestamp, offset int64 }{
	{timedBase - 9000, 0},
	{timedBase, 0},
	{timedBase + 1, 1},
	{timedBase + 450, 5},
	{timedBase + 500, 5},
	{timedBase + 501, timedMax},
	{timedBase + 5000, timedMax},
	{timedBase + 5001, -1},
}

// timed makes that topic. Every record is a batch of its own but the last two.
func timed(t *testing.T, broker *target.Broker) string {
	t.Helper()
	topic := broker.Topic(t, "timed", 1, nil)
	cl := broker.Client(t, kgo.DefaultProduceTopic(topic))
	record := func(i int) *kgo.Record {
		return &kgo.Record{Value: []byte(strconv.Itoa(i)), Timestamp: time.UnixMilli(timedAt(i))}
	}
	for i := range timedCount - 2 {
		require.NoError(t, cl.ProduceSync(t.Context(), record(i)).FirstErr())
	}
	require.NoError(t, cl.ProduceSync(t.Context(), record(timedCount-2), record(timedCount-1)).FirstErr())
	return topic
}

// TestOffsetsByTime: every client asks in its own version of ListOffsets.
// (Java's tool is in TestJavaOffsets.)
func TestOffsetsByTime(t *testing.T) {
	broker := target.Get(t)
	topic := timed(t, broker)
	var timestamps []int64
	want := []int64{0, timedCount}
	for _, c := range timedCases {
		timestamps = append(timestamps, c.timestamp)
		want = append(want, c.offset)
	}

	t.Run("confluent-kafka", func(t *testing.T) {
		got, err := client.Python{Client: "confluent-kafka"}.Offsets(t.Context(), broker.Bootstrap, topic, 0, timestamps)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
	t.Run("kafka-python", func(t *testing.T) {
		got, err := client.Python{Client: "kafka-python"}.Offsets(t.Context(), broker.Bootstrap, topic, 0, timestamps)
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
	t.Run("kafkajs", func(t *testing.T) {
		got, err := client.KafkaJS{}.Offsets(t.Context(), broker.Bootstrap, topic, 0, timestamps)
		require.NoError(t, err)
		require.Equal(t, endForNone(want), got)
	})
	t.Run("kadm", func(t *testing.T) {
		admin := kadm.NewClient(broker.Client(t))
		got := []int64{0, timedCount}
		for _, timestamp := range timestamps {
			listed, err := admin.ListOffsetsAfterMilli(t.Context(), timestamp, topic)
			require.NoError(t, err)
			o, ok := listed.Lookup(topic, 0)
			require.True(t, ok)
			require.NoError(t, o.Err)
			got = append(got, o.Offset)
		}
		require.Equal(t, endForNone(want), got)

		most, err := admin.ListMaxTimestampOffsets(t.Context(), topic)
		require.NoError(t, err)
		o, _ := most.Lookup(topic, 0)
		require.EqualValues(t, timedMax, o.Offset)
		require.EqualValues(t, timedAt(timedMax), o.Timestamp)
	})
	t.Run("kcat", func(t *testing.T) {
		var got []int64
		for _, when := range append([]int64{-2, -1}, timestamps...) {
			out, err := client.Run(t.Context(), nil, "kcat", "-Q", "-b", broker.Bootstrap, "-t", fmt.Sprintf("%s:0:%d", topic, when))
			require.NoError(t, err)
			fields := strings.Fields(string(out)) // TOPIC [0] offset N
			require.Len(t, fields, 4)
			offset, err := strconv.ParseInt(fields[3], 10, 64)
			require.NoError(t, err)
			got = append(got, offset)
		}
		require.Equal(t, want, got)
	})
}

// endForNone is what clients show that turn "no such record" into the end.
func endForNone(offsets []int64) []int64 {
	out := append([]int64(nil), offsets...)
	for i, o := range out {
		if o < 0 {
			out[i] = timedCount
		}
	}
	return out
}
