package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// javaClasses are the command-line tools of Apache Kafka, by the names of its
// bin folder.
var javaClasses = map[string]string{
	"kafka-acls":                   "org.apache.kafka.tools.AclCommand",
	"kafka-broker-api-versions":    "org.apache.kafka.tools.BrokerApiVersionsCommand",
	"kafka-client-metrics":         "org.apache.kafka.tools.ClientMetricsCommand",
	"kafka-cluster":                "org.apache.kafka.tools.ClusterTool",
	"kafka-configs":                "kafka.admin.ConfigCommand",
	"kafka-console-consumer":       "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"kafka-console-producer":       "org.apache.kafka.tools.ConsoleProducer",
	"kafka-console-share-consumer": "org.apache.kafka.tools.consumer.ConsoleShareConsumer",
	"kafka-consumer-groups":        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-delete-records":         "org.apache.kafka.tools.DeleteRecordsCommand",
	"kafka-features":               "org.apache.kafka.tools.FeatureCommand",
	"kafka-get-offsets":            "org.apache.kafka.tools.GetOffsetShell",
	"kafka-groups":                 "org.apache.kafka.tools.GroupsCommand",
	"kafka-leader-election":        "org.apache.kafka.tools.LeaderElectionCommand",
	"kafka-log-dirs":               "org.apache.kafka.tools.LogDirsCommand",
	"kafka-producer-perf-test":     "org.apache.kafka.tools.ProducerPerformance",
	"kafka-metadata-quorum":        "org.apache.kafka.tools.MetadataQuorumCommand",
	"kafka-reassign-partitions":    "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
	"kafka-share-groups":           "org.apache.kafka.tools.consumer.group.ShareGroupCommand",
	"kafka-topics":                 "org.apache.kafka.tools.TopicCommand",
	"kafka-transactions":           "org.apache.kafka.tools.TransactionsCommand",
}

// Java runs one of Apache Kafka's tools and returns its standard output.
func Java(ctx context.Context, stdin io.Reader, tool string, args ...string) ([]byte, error) {
	// The tools live for a second: compiling well would take longer than they run.
	out, err := Run(ctx, stdin, "java", javaArgs(tool, []string{"-XX:TieredStopAtLevel=1", "-Xmx128m"}, args)...)
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, out)
	}
	return out, nil
}

// JavaArgs is the command line of one of Apache Kafka's tools, for "java".
func JavaArgs(tool string, args ...string) []string {
	return javaArgs(tool, []string{"-XX:TieredStopAtLevel=1", "-Xmx128m"}, args)
}

func javaArgs(tool string, jvm, args []string) []string {
	all := append([]string{
		"-XX:+UseSerialGC", "-Dfile.encoding=UTF-8", "-Dlog4j2.configurationFile=" + filepath.Join(Root(), "clients", "java", "log4j2.yaml"),
		"-cp", filepath.Join(Installed(), "java", "libs", "*"),
	}, jvm...)
	return append(append(all, javaClasses[tool]), args...)
}

// JavaConsole is Apache Kafka's kafka-console-producer and
// kafka-console-consumer.
type JavaConsole struct{}

// Name implements Producer and Reader.
func (JavaConsole) Name() string { return "java-console" }

// Partitions implements Producer: keys choose the partition.
func (JavaConsole) Partitions() int32 { return 1 }

// nullMarker holds a character no generated text has.
const nullMarker = "~null~"

// consoleVariant is what ConsoleLine writes.
var consoleVariant = record.Variant{Text: true}

// ConsoleLine appends record i as kafka-console-producer reads it, given
// ConsoleProducerArgs, to b.
func ConsoleLine(b *bytes.Buffer, g *record.Generator, i uint32) {
	r := g.Record(i, consoleVariant)
	for j, h := range r.Headers {
		if j > 0 {
			b.WriteByte(',')
		}
		b.WriteString(h.Key)
		b.WriteByte(':')
		b.Write(orMarker(h.Value))
	}
	if len(r.Headers) == 0 {
		b.WriteString(nullMarker)
	}
	b.WriteByte('\t')
	b.Write(orMarker(r.Key))
	b.WriteByte('\t')
	b.Write(orMarker(r.Value))
	b.WriteByte('\n')
}

func orMarker(v []byte) []byte {
	if v == nil {
		return []byte(nullMarker)
	}
	return v
}

func consoleProducerArgs(job Job) []string {
	return javaArgs("kafka-console-producer", []string{"-Xmx256m"}, []string{
		"--bootstrap-server", job.Bootstrap, "--topic", job.Topic, "--compression-codec", job.Codec,
		"--reader-property", "parse.key=true", "--reader-property", "parse.headers=true",
		"--reader-property", "null.marker=" + nullMarker,
		"--message-send-max-retries", "2147483647", "--request-timeout-ms", "30000",
		"--batch-size", "65536", "--command-property", "linger.ms=5",
	})
}

// Produce implements Producer. The console producer exits with 0 whatever
// happens to its records; what it failed to send shows as missing.
func (JavaConsole) Produce(ctx context.Context, job Job) (Expected, error) {
	g := record.New(job.Seed)
	in := feed(func(b *bytes.Buffer, i int) { ConsoleLine(b, g, uint32(i)) }, job.Count)
	defer in.Close()
	if _, err := JavaConsoleFrom(ctx, in, job); err != nil {
		return Expected{}, err
	}
	return ConsoleExpected(job), nil
}

// JavaConsoleFrom runs kafka-console-producer on lines made by ConsoleLine until
// they end, and returns its standard output.
func JavaConsoleFrom(ctx context.Context, lines io.Reader, job Job) ([]byte, error) {
	return Run(ctx, lines, "java", consoleProducerArgs(job)...)
}

// ConsoleExpected is what job leaves behind when sent by kafka-console-producer.
func ConsoleExpected(job Job) Expected {
	return expected(job, false, func(int) record.Variant { return consoleVariant })
}

// fieldEnd and lineEnd separate what kafka-console-consumer prints. They are
// long and improbable because it prints keys and values as they are.
const (
	fieldEnd   = "<~field:9f2c61d4e07b~>"
	lineEnd    = "<~line:53ab8e17f6c0~>\n"
	headerEnd  = "<~header:b70d14c95e2a~>"
	nullOutput = "<~null:1e84d6fa20c7~>"
)

// Read implements Reader: one kafka-console-consumer per partition, with
// --partition and --offset.
func (JavaConsole) Read(ctx context.Context, bootstrap, topic string, ranges map[int32]Range) (record.Digests, error) {
	sums := map[int32]*record.Summer{}
	for p, rng := range ranges {
		s := record.NewSummer()
		sums[p] = s
		if rng.End <= rng.Start {
			continue
		}
		args := []string{
			"--bootstrap-server", bootstrap, "--topic", topic, "--partition", strconv.Itoa(int(p)),
			"--offset", strconv.FormatInt(rng.Start, 10), "--max-messages", strconv.FormatInt(rng.End-rng.Start, 10),
			"--timeout-ms", "30000",
		}
		for _, property := range []string{
			"print.timestamp=true", "print.offset=true", "print.headers=true", "print.key=true", "print.value=true",
			"key.separator=" + fieldEnd, "line.separator=" + lineEnd, "headers.separator=" + headerEnd, "null.literal=" + nullOutput,
		} {
			args = append(args, "--formatter-property", property)
		}
		err := stream(ctx, nil, func(r io.Reader) error { return parseConsole(r, s) }, "java",
			javaArgs("kafka-console-consumer", []string{"-Xmx256m"}, args)...)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
	}
	return digests(sums), nil
}

func parseConsole(in io.Reader, s *record.Summer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<20), 64<<20)
	lines.Split(func(data []byte, _ bool) (int, []byte, error) {
		if i := bytes.Index(data, []byte(lineEnd)); i >= 0 {
			return i + len(lineEnd), data[:i], nil
		}
		return 0, nil, nil
	})
	for lines.Scan() {
		fields := bytes.Split(lines.Bytes(), []byte(fieldEnd))
		if len(fields) != 5 { // timestamp, offset, headers, key, value
			return fmt.Errorf("record after %d has %d fields: %.200q", s.Next()-1, len(fields), lines.Bytes())
		}
		_, ts, _ := strings.Cut(string(fields[0]), ":")
		timestamp, err := strconv.ParseInt(ts, 10, 64)
		if err != nil {
			return fmt.Errorf("timestamp after %d: %w", s.Next()-1, err)
		}
		offset, err := strconv.ParseInt(strings.TrimPrefix(string(fields[1]), "Offset:"), 10, 64)
		if err != nil {
			return fmt.Errorf("offset after %d: %w", s.Next()-1, err)
		}
		rec := record.Record{Timestamp: timestamp, Key: orNull(fields[3]), Value: orNull(fields[4])}
		if string(fields[2]) != "NO_HEADERS" {
			for h := range bytes.SplitSeq(fields[2], []byte(headerEnd)) {
				name, value, ok := bytes.Cut(h, []byte(":"))
				if !ok {
					return fmt.Errorf("record %d has a header without value: %q", offset, h)
				}
				rec.Headers = append(rec.Headers, record.Header{Key: string(name), Value: orNull(value)})
			}
		}
		s.Add(offset, &rec)
	}
	return lines.Err()
}

func orNull(b []byte) []byte {
	if string(b) == nullOutput {
		return nil
	}
	return b
}

// JavaPerf is Apache Kafka's kafka-producer-perf-test.
type JavaPerf struct{}

// Name implements Producer.
func (JavaPerf) Name() string { return "java-perf" }

// Partitions implements Producer. Records have no keys, so partitions are taken
// in turns of a batch; what is where is not known, and need not be.
func (JavaPerf) Partitions() int32 { return 0 }

// PerfRecordSize is the size of the values JavaPerf sends, in bytes.
const PerfRecordSize = 200

// Produce implements Producer.
func (JavaPerf) Produce(ctx context.Context, job Job) (Expected, error) {
	out, err := Run(ctx, nil, "java", javaArgs("kafka-producer-perf-test", []string{"-Xmx256m"}, []string{
		"--bootstrap-server", job.Bootstrap, "--topic", job.Topic, "--num-records", strconv.Itoa(job.Count),
		"--record-size", strconv.Itoa(PerfRecordSize), "--throughput", "-1",
		"--command-property", "compression.type=" + job.Codec, "acks=all",
	})...)
	if err != nil {
		return Expected{}, err
	}
	if want := strconv.Itoa(job.Count) + " records sent"; !bytes.Contains(out, []byte(want)) {
		return Expected{}, fmt.Errorf("perf test did not report %q: %s", want, out)
	}
	return Expected{Total: int64(job.Count)}, nil
}
