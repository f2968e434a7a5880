package corpora_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// java runs Apache Kafka's tools.
func java(s session) {
	tool := func(name string, args ...string) {
		s.step(name, func(ctx context.Context) error {
			_, err := client.Java(ctx, nil, name, append([]string{"--bootstrap-server", s.bootstrap}, args...)...)
			return err
		})
	}
	tool("kafka-topics", "--create", "--topic", s.topic+"-extra", "--partitions", "2", "--replication-factor", "1",
		"--config", "retention.ms=-1", "--config", "cleanup.policy=compact,delete")
	tool("kafka-topics", "--describe")
	tool("kafka-topics", "--alter", "--topic", s.topic, "--partitions", "3")
	topic := []string{"--entity-type", "topics", "--entity-name", s.topic}
	tool("kafka-configs", append(topic, "--alter", "--add-config", "cleanup.policy=delete,max.message.bytes=900000")...)
	tool("kafka-configs", append(topic, "--alter", "--delete-config", "max.message.bytes")...)
	tool("kafka-configs", append(topic, "--describe", "--all")...)
	for _, entity := range []string{"brokers", "clients", "users", "groups", "client-metrics"} {
		tool("kafka-configs", "--entity-type", entity, "--describe")
	}
	tool("kafka-configs", "--entity-type", "clients", "--entity-name", "a", "--alter", "--add-config", "producer_byte_rate=1000000")
	tool("kafka-configs", "--entity-type", "users", "--entity-name", "a", "--alter", "--add-config", "SCRAM-SHA-256=[iterations=4096,password=a]")

	s.produce(client.JavaConsole{})
	s.produce(client.JavaPerf{})
	s.read(client.JavaConsole{})
	for _, when := range []string{"-1", "-2", "-3", "-4", "-5", "1700000000000"} {
		tool("kafka-get-offsets", "--topic", s.topic, "--time", when)
	}
	s.step("kafka-delete-records", func(ctx context.Context) error {
		path := filepath.Join(s.t.TempDir(), "offsets.json")
		text := fmt.Sprintf(`{"version":1,"partitions":[{"topic":%q,"partition":0,"offset":1}]}`, s.topic)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		_, err := client.Java(ctx, nil, "kafka-delete-records", "--bootstrap-server", s.bootstrap, "--offset-json-file", path)
		return err
	})
	tool("kafka-log-dirs", "--describe")
	tool("kafka-broker-api-versions")
	s.step("kafka-cluster", func(ctx context.Context) error {
		_, err := client.Java(ctx, nil, "kafka-cluster", "list-endpoints", "--bootstrap-server", s.bootstrap)
		return err
	})
	tool("kafka-acls", "--list")
	tool("kafka-acls", "--add", "--allow-principal", "User:a", "--operation", "Read", "--topic", s.topic)
	tool("kafka-features", "describe")
	tool("kafka-metadata-quorum", "describe", "--status")
	tool("kafka-leader-election", "--election-type", "preferred", "--topic", s.topic, "--partition", "0")
	tool("kafka-reassign-partitions", "--list")
	tool("kafka-client-metrics", "--list")

	// Groups, transactions, share groups: sent whole only where there are coordinators.
	consume := []string{"--topic", s.topic, "--from-beginning", "--max-messages", "3", "--timeout-ms", "5000"}
	tool("kafka-console-consumer", append(consume, "--group", "classic", "--command-property", "group.protocol=classic")...)
	tool("kafka-console-consumer", append(consume, "--group", "consumer", "--command-property", "group.protocol=consumer",
		"--isolation-level", "read_committed")...)
	tool("kafka-console-share-consumer", "--topic", s.topic, "--max-messages", "1", "--timeout-ms", "3000", "--group", "share")
	tool("kafka-producer-perf-test", "--topic", s.topic, "--num-records", "10", "--record-size", "100", "--throughput", "-1",
		"--transactional-id", "perf", "--transaction-duration-ms", "1000")
	tool("kafka-groups", "--list")
	tool("kafka-consumer-groups", "--describe", "--group", "classic")
	tool("kafka-consumer-groups", "--describe", "--group", "consumer", "--members")
	tool("kafka-consumer-groups", "--reset-offsets", "--group", "classic", "--topic", s.topic, "--to-earliest", "--execute")
	tool("kafka-consumer-groups", "--delete-offsets", "--group", "classic", "--topic", s.topic)
	tool("kafka-consumer-groups", "--delete", "--group", "classic")
	tool("kafka-share-groups", "--describe", "--group", "share")
	tool("kafka-transactions", "list")
	tool("kafka-transactions", "describe", "--transactional-id", "perf")
	tool("kafka-transactions", "describe-producers", "--topic", s.topic, "--partition", "0")
	tool("kafka-topics", "--delete", "--topic", s.topic)
}

// kcat runs kcat with the distribution's librdkafka.
func kcat(s session) {
	run := func(args ...string) {
		s.step("kcat "+args[0], func(ctx context.Context) error {
			_, err := client.Run(ctx, nil, "kcat", append([]string{"-b", s.bootstrap}, args...)...)
			return err
		})
	}
	s.produce(client.Kcat{})
	s.read(client.Kcat{})
	run("-L")
	run("-L", "-t", s.topic)
	run("-Q", "-t", s.topic+":0:1700000000000")
	run("-C", "-t", s.topic, "-o", "-1", "-e", "-X", "isolation.level=read_uncommitted")
	run("-G", "kcat", "-e", "-c", "2", "-X", "auto.offset.reset=earliest", s.topic)
}

func confluent(s session) {
	c := client.Python{Client: "confluent-kafka"}
	s.produce(c)
	s.read(c)
	offsets(s, c)
	s.within(time.Minute).step("confluent-kafka", func(ctx context.Context) error { return c.Requests(ctx, s.bootstrap, s.topic) })
}

func kafkaPython(s session) {
	c := client.Python{Client: "kafka-python"}
	s.produce(c)
	s.read(c)
	offsets(s, c)
	s.within(time.Minute).step("kafka-python", func(ctx context.Context) error { return c.Requests(ctx, s.bootstrap, s.topic) })
}

func kafkaJS(s session) {
	s.produce(client.KafkaJS{})
	offsets(s, client.KafkaJS{})
	s.within(time.Minute).step("kafkajs", func(ctx context.Context) error { return client.KafkaJS{}.Requests(ctx, s.bootstrap, s.topic) })
}

func offsets(s session, c interface {
	Offsets(ctx context.Context, bootstrap, topic string, partition int32, timestamps []int64) ([]int64, error)
},
) {
	s.step("offsets", func(ctx context.Context) error {
		_, err := c.Offsets(ctx, s.bootstrap, s.topic, 0, []int64{1_700_000_000_000})
		return err
	})
}

// franz runs franz-go and its kadm.
func franz(s session) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	s.step("create", func(ctx context.Context) error {
		_, err := admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": new("-1")}, s.topic+"-extra")
		return err
	})
	s.produce(client.Franz{})
	s.read(client.Franz{})
	s.step("admin", func(ctx context.Context) error {
		for _, do := range []func() error{
			func() error { _, err := admin.Metadata(ctx); return err },
			func() error { _, err := admin.ListStartOffsets(ctx, s.topic); return err },
			func() error { _, err := admin.ListOffsetsAfterMilli(ctx, 1_700_000_000_000, s.topic); return err },
			func() error { _, err := admin.DescribeTopicConfigs(ctx, s.topic); return err },
			func() error {
				_, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: new("1000000")}}, s.topic)
				return err
			},
			func() error { _, err := admin.UpdatePartitions(ctx, 3, s.topic); return err },
			func() error { _, err := admin.DescribeAllLogDirs(ctx, nil); return err },
			func() error { _, err := admin.ListGroups(ctx); return err },
			func() error { _, err := admin.ListTransactions(ctx, nil, nil); return err },
			func() error {
				o := kadm.Offsets{}
				o.Add(kadm.Offset{Topic: s.topic, Partition: 0, At: 1, LeaderEpoch: -1})
				_, err := admin.DeleteRecords(ctx, o)
				return err
			},
		} {
			if err := do(); err != nil {
				s.t.Logf("franz-go: %v", err)
			}
		}
		return nil
	})
	s.step("group", func(ctx context.Context) error {
		member, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.ConsumerGroup("franz"), kgo.ConsumeTopics(s.topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second))
		if err != nil {
			return err
		}
		defer member.CloseAllowingRebalance()
		if err := member.PollFetches(ctx).Err(); err != nil {
			return err
		}
		return member.CommitUncommittedOffsets(ctx)
	})
	s.step("transaction", func(ctx context.Context) error {
		tx, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.TransactionalID("franz"), kgo.DefaultProduceTopic(s.topic))
		if err != nil {
			return err
		}
		defer tx.Close()
		if err := tx.BeginTransaction(); err != nil {
			return err
		}
		if err := tx.ProduceSync(ctx, kgo.StringRecord("a")).FirstErr(); err != nil {
			return err
		}
		return tx.EndTransaction(ctx, kgo.TryCommit)
	})
	s.step("delete", func(ctx context.Context) error {
		_, err := admin.DeleteTopics(ctx, s.topic)
		return err
	})
}
