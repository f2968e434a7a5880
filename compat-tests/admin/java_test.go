package admin_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// java runs a tool of Apache Kafka, which must succeed.
func java(t *testing.T, broker *target.Broker, tool string, args ...string) string {
	t.Helper()
	out, err := client.Java(t.Context(), nil, tool, append([]string{"--bootstrap-server", broker.Bootstrap}, args...)...)
	require.NoError(t, err)
	return string(out)
}

// javaFails runs a tool of Apache Kafka, which must fail, and returns why.
func javaFails(t *testing.T, broker *target.Broker, tool string, args ...string) string {
	t.Helper()
	_, err := client.Java(t.Context(), nil, tool, append([]string{"--bootstrap-server", broker.Bootstrap}, args...)...)
	require.Error(t, err)
	return err.Error()
}

func TestJavaTopics(t *testing.T) {
	broker := target.Get(t)
	topic := target.Name("java-topics")
	broker.DeleteWhenDone(t, topic)

	java(t, broker, "kafka-topics", "--create", "--topic", topic, "--partitions", "3", "--replication-factor", "1",
		"--config", "retention.ms=86400001", "--config", "cleanup.policy=compact")
	require.Contains(t, javaFails(t, broker, "kafka-topics", "--create", "--topic", topic), "already exists")
	java(t, broker, "kafka-topics", "--create", "--topic", topic, "--if-not-exists")

	out := java(t, broker, "kafka-topics", "--describe", "--topic", topic)
	require.Contains(t, out, "PartitionCount: 3")
	require.Contains(t, out, "retention.ms=86400001")
	require.Contains(t, out, "cleanup.policy=compact")
	require.NotContains(t, out, "Leader: none")
	require.Equal(t, 3, strings.Count(out, "\tPartition: "), out)

	java(t, broker, "kafka-topics", "--alter", "--topic", topic, "--partitions", "5")
	require.Contains(t, java(t, broker, "kafka-topics", "--describe", "--topic", topic), "PartitionCount: 5")
	require.Contains(t, javaFails(t, broker, "kafka-topics", "--alter", "--topic", topic, "--partitions", "2"),
		"InvalidPartitionsException")

	require.Contains(t, strings.Fields(java(t, broker, "kafka-topics", "--list")), topic)
	java(t, broker, "kafka-topics", "--delete", "--topic", topic)
	require.NotContains(t, strings.Fields(java(t, broker, "kafka-topics", "--list")), topic)
	require.Contains(t, javaFails(t, broker, "kafka-topics", "--describe", "--topic", topic), "does not exist")
	require.Contains(t, javaFails(t, broker, "kafka-topics", "--create", "--topic", "bad/name"), "InvalidTopicException")
	require.Contains(t, javaFails(t, broker, "kafka-topics", "--create", "--topic", target.Name("bad-config"),
		"--config", "retention.ms=soon"), "Invalid")
}

func TestJavaConfigs(t *testing.T) {
	broker := target.Get(t)
	topic := broker.Topic(t, "java-configs", 1, nil)
	configs := func(args ...string) string {
		return java(t, broker, "kafka-configs", append([]string{"--entity-type", "topics", "--entity-name", topic}, args...)...)
	}

	configs("--alter", "--add-config", "retention.ms=1234567,max.message.bytes=2000,compression.type=zstd")
	out := configs("--describe")
	for _, want := range []string{"retention.ms=1234567 ", "max.message.bytes=2000 ", "compression.type=zstd "} {
		require.Contains(t, out, want)
	}
	require.Contains(t, out, "DYNAMIC_TOPIC_CONFIG:retention.ms=1234567")

	configs("--alter", "--delete-config", "max.message.bytes")
	require.NotContains(t, configs("--describe"), "max.message.bytes")
	all := configs("--describe", "--all")
	require.Contains(t, all, "max.message.bytes=1048588 ")
	require.Contains(t, all, "retention.ms=1234567 ")
	require.Contains(t, all, "cleanup.policy=delete ")

	fails := javaFails(t, broker, "kafka-configs", "--entity-type", "topics", "--entity-name", topic,
		"--alter", "--add-config", "no.such.config=1")
	require.Contains(t, fails, "InvalidConfigurationException")
	fails = javaFails(t, broker, "kafka-configs", "--entity-type", "topics", "--entity-name", topic,
		"--alter", "--add-config", "retention.ms=soon")
	require.Contains(t, fails, "InvalidConfigurationException")
}

// TestJavaOffsets moves the start of a log and looks at it from both sides.
func TestJavaOffsets(t *testing.T) {
	broker := target.Get(t)
	topic := timed(t, broker)
	get := func(when string) string {
		return strings.TrimSpace(java(t, broker, "kafka-get-offsets", "--topic", topic, "--time", when))
	}
	at := func(offset int) string { return fmt.Sprintf("%s:0:%d", topic, offset) }
	require.Equal(t, at(timedCount), get("-1"), "latest")
	require.Equal(t, at(timedCount), get("latest"))
	require.Equal(t, at(0), get("-2"), "earliest")
	require.Equal(t, at(timedMax), get("-3"), "record with the largest timestamp")
	require.Equal(t, at(0), get("-4"), "earliest local")
	for _, c := range timedCases {
		want := ""
		if c.offset >= 0 {
			want = at(int(c.offset))
		}
		require.Equal(t, want, get(fmt.Sprint(c.timestamp)), "at or after %d", c.timestamp)
	}

	offsets := func(to int) string {
		path := filepath.Join(t.TempDir(), "offsets.json")
		text := fmt.Sprintf(`{"version":1,"partitions":[{"topic":%q,"partition":0,"offset":%d}]}`, topic, to)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return java(t, broker, "kafka-delete-records", "--offset-json-file", path)
	}
	require.Contains(t, offsets(4), "low_watermark: 4")
	require.Equal(t, at(4), get("-2"))
	require.Contains(t, offsets(timedCount+1), "OffsetOutOfRangeException")
	require.Equal(t, map[int32]client.Range{0: {Start: 4, End: timedCount}}, broker.Ends(t, topic))
	got, err := client.Kcat{}.Read(t.Context(), broker.Bootstrap, topic, broker.Ends(t, topic))
	require.NoError(t, err)
	require.EqualValues(t, timedCount-4, got.Total())
	require.Contains(t, offsets(-1), fmt.Sprintf("low_watermark: %d", timedCount))
	require.Equal(t, at(timedCount), get("-2"))
	require.Equal(t, at(timedCount), get("-1"))
}

func TestJavaLogDirs(t *testing.T) {
	broker := target.Get(t)
	topic := timed(t, broker)
	out := java(t, broker, "kafka-log-dirs", "--describe", "--topic-list", topic)
	var dirs struct {
		Brokers []struct {
			LogDirs []struct {
				Error      *string `json:"error"`
				Partitions []struct {
					Partition string `json:"partition"`
					Size      int64  `json:"size"`
				} `json:"partitions"`
			} `json:"logDirs"`
		} `json:"brokers"`
	}
	_, fields, found := strings.Cut(out, "{") // the tool talks before it answers
	require.True(t, found, out)
	require.NoError(t, json.Unmarshal([]byte("{"+fields), &dirs), out)
	require.Len(t, dirs.Brokers, 1)
	found = false
	for _, dir := range dirs.Brokers[0].LogDirs {
		require.Nil(t, dir.Error)
		for _, p := range dir.Partitions {
			require.Equal(t, topic+"-0", p.Partition)
			require.Positive(t, p.Size)
			found = true
		}
	}
	require.True(t, found, out)
}

func TestJavaCluster(t *testing.T) {
	broker := target.Get(t)
	versions := java(t, broker, "kafka-broker-api-versions")
	for _, want := range []string{
		"Produce(0): 0 to 13 [usable: 13]", "Fetch(1): 4 to 18 [usable: 18]", "ListOffsets(2): 1 to 11 [usable: 11]",
		"Metadata(3): 0 to 13 [usable: 13]", "ApiVersions(18): 0 to 4 [usable: 4]",
	} {
		require.Contains(t, versions, want)
	}
	out, err := client.Java(t.Context(), nil, "kafka-cluster", "cluster-id", "--bootstrap-server", broker.Bootstrap)
	require.NoError(t, err)
	meta, err := kadm.NewClient(broker.Client(t)).BrokerMetadata(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, meta.Cluster)
	require.Equal(t, "Cluster ID: "+meta.Cluster, strings.TrimSpace(string(out)))
}
