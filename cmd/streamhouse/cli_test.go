package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	for _, kv := range os.Environ() { // what a developer has set must not decide a test
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "STREAMHOUSE_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	goleak.VerifyTestMain(postgrestest.Main(m))
}

type result struct {
	code        int
	out, stderr string
}

// exec runs a command line with text as its standard input.
func exec(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &stderr)
	return result{code, out.String(), stderr.String()}
}

// ok is exec that must succeed; it returns the output.
func ok(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	r := exec(t, stdin, args...)
	require.Equal(t, exitOK, r.code, "%v: %s%s", args, r.out, r.stderr)
	return r.out
}

// cluster starts a fake Kafka and points commands at it.
func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	t.Setenv("STREAMHOUSE_BOOTSTRAP", strings.Join(c.ListenAddrs(), ","))
	return c
}

func TestHelpNamesEveryCommandAndFlag(t *testing.T) {
	require.Equal(t, ok(t, "", "--help"), ok(t, ""), "no arguments are a question")
	p, err := newParser(&cli{}, nil, nil)
	require.NoError(t, err)
	for _, leaf := range p.Model.Leaves(true) {
		var words []string
		for n := leaf; n != nil && n.Type == kong.CommandNode; n = n.Parent {
			words = append([]string{n.Name}, words...)
		}
		help := ok(t, "", append(words, "--help")...)
		for _, flag := range leaf.Flags {
			require.Contains(t, help, "--", words)
			require.NotEmpty(t, flag.Help, "%v --%s", words, flag.Name)
			if len(flag.Envs) > 0 {
				require.True(t, strings.HasPrefix(flag.Envs[0], "STREAMHOUSE_"), flag.Name)
			}
		}
		require.NotContains(t, help, "${", words)
		require.NotContains(t, help, "panic", words)
	}
}

func TestUsageErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"frob"}, []string{"unexpected argument frob", "Run `streamhouse --help`"}},
		{[]string{"topic", "creat"}, []string{`did you mean "create"`, "Run `streamhouse topic --help`"}},
		{[]string{"bench", "produce", "--frob"}, []string{"unknown flag --frob", "Run `streamhouse bench produce --help`"}},
		{[]string{"serve", "--addr=x", "--catalog=postgres://h"}, []string{"--addr", "\n  --catalog", "streamhouse serve --help"}},
		{[]string{"serve", "--config=/does/not/exist.yaml"}, []string{"read configuration file"}},
		{[]string{"topic", "create", "t", "--partitions=0"}, []string{"--partitions 0"}},
		{[]string{"topic", "alter", "t"}, []string{"nothing to alter"}},
		{[]string{"topic", "alter", "t", "--partitions=-3"}, []string{"--partitions -3"}},
		{[]string{"consume", "t", "--format=%Z"}, []string{"--format"}},
		{[]string{"consume", "t", "--offset=soon"}, []string{"--offset"}},
		{[]string{"consume", "t", "--count=-1"}, []string{"--count"}},
		{[]string{"produce", "t", "--acks=1"}, []string{"--no-idempotent"}},
		{[]string{"produce", "t", "--acks=7"}, []string{"want all, 1 or 0"}},
		{[]string{"produce", "t", "--header==x"}, []string{"--header"}},
		{[]string{"produce", "t", `--key-separator=\q`}, []string{"unknown escape"}},
		{[]string{"produce", "t", "--format=json", "--key-separator=:"}, []string{"JSON says itself"}},
		{[]string{"produce", "t", "--partition=-2"}, []string{"--partition -2"}},
		{[]string{"produce", "t", "--batch-bytes=2GiB"}, []string{"--batch-bytes"}},
		{[]string{"produce", "t", "--max-line=0"}, []string{"--max-line"}},
		{[]string{"bench", "produce", "--record-size=1GiB"}, []string{"--record-size"}},
		{[]string{"bench", "produce", "--acks=x"}, []string{"--acks"}},
		{[]string{"bench", "produce", "--batch-bytes=0"}, []string{"--batch-bytes"}},
		{[]string{"bench", "produce", "--in-flight=-1"}, []string{"--in-flight"}},
		{[]string{"bench", "consume", "--fetch-max-bytes=2GiB"}, []string{"--fetch-max-bytes"}},
		{[]string{"bench", "e2e", "--rate=0"}, []string{"a rate above 0"}},
		{[]string{"bench", "e2e", "--replication-factor=-9"}, []string{"--replication-factor"}},
	} {
		r := exec(t, "", c.args...)
		require.Equal(t, exitUsage, r.code, c.args)
		require.Empty(t, r.out, c.args)
		for _, want := range c.want {
			require.Contains(t, r.stderr, want, c.args)
		}
	}
}

func TestServeCheckPrintsTheSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(file, []byte("addr: 127.0.0.1:1\nflush-interval: 5ms\nserve:\n  rack: r1\n"), 0o600))
	t.Setenv("STREAMHOUSE_CONFIG", file)
	t.Setenv("STREAMHOUSE_FLUSH_INTERVAL", "7ms")
	out := ok(t, "", "serve", "--check", "--rack=r2", "--listener=a=127.0.0.1:5@h")
	for _, want := range []string{"listener: a=127.0.0.1:5@h:5\n", "flush-interval: 7ms\n", "rack: r2\n", "catalog: sqlite:"} {
		require.Contains(t, out, want)
	}
	require.NoError(t, os.WriteFile(file, []byte("adr: x\n"), 0o600))
	r := exec(t, "", "serve", "--check")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, `did you mean "addr"?`)
}

func TestVersion(t *testing.T) {
	require.True(t, strings.HasPrefix(ok(t, "", "version"), "streamhouse "))
	var v versionInfo
	require.NoError(t, json.Unmarshal([]byte(ok(t, "", "version", "--json")), &v))
	require.NotEmpty(t, v.Go)
	require.Equal(t, "streamhouse v1 (0123456789ab, modified) go os/arch",
		versionInfo{Version: "v1", Revision: "0123456789abcdef", Modified: true, Go: "go", Platform: "os/arch"}.String())
	require.NotEmpty(t, buildVersion())
}

func TestTopicsLiveAndDie(t *testing.T) {
	cluster(t)
	require.Equal(t, "created a\ncreated b\n", ok(t, "", "topic", "create", "a", "b", "-p", "3", "-r", "1", "--set", "retention.ms=1000"))
	r := exec(t, "", "topic", "create", "a", "c", "--json", "-r", "1")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "create topic a: TOPIC_ALREADY_EXISTS")
	require.Contains(t, r.stderr, "topic alter")
	require.Contains(t, r.out, `"result":"failed"`)
	require.Contains(t, r.out, `"topic":"c"`)
	require.Equal(t, "exists a\n", ok(t, "", "topic", "create", "a", "-r", "1", "--if-not-exists"))
	require.Equal(t, "valid d\n", ok(t, "", "topic", "create", "d", "-r", "1", "--validate-only"))
	list := ok(t, "", "topic", "list")
	require.Contains(t, list, "a      3")
	require.NotContains(t, list, "d")
	require.Equal(t, 3, strings.Count(ok(t, "", "topic", "list", "--json", "--internal"), `"topic"`))

	require.Equal(t, "altered a\n", ok(t, "", "topic", "alter", "a", "-p", "5", "-c", "max.message.bytes=2000000", "--reset", "retention.ms"))
	var d topicDetails
	require.NoError(t, json.Unmarshal([]byte(ok(t, "", "topic", "describe", "a", "--json")), &d))
	require.Len(t, d.Partitions, 5)
	require.EqualValues(t, 0, *d.Partitions[4].HighWatermark)
	require.Equal(t, "max.message.bytes", d.Configs[0].Name)
	require.Len(t, d.Configs, 1)
	text := ok(t, "", "topic", "describe", "--configs")
	for _, want := range []string{"topic a (id", "topic b", "HIGH WATERMARK", "cleanup.policy", "max.message.bytes       2000000"} {
		require.Contains(t, text, want)
	}
	r = exec(t, "", "topic", "describe", "nope", "a")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "describe topic nope: UNKNOWN_TOPIC_OR_PARTITION")
	require.Contains(t, r.out, "topic a")
	r = exec(t, "", "topic", "alter", "nope", "-p", "9", "--json")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, `"result":"failed"`)

	r = exec(t, "", "topic", "delete", "a", "nope")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "deleted a\n", r.out)
	require.Contains(t, r.stderr, "delete topic nope: UNKNOWN_TOPIC_OR_PARTITION")
	require.Contains(t, ok(t, "", "topic", "delete", "a", "b", "--if-exists", "--json"), `{"topic":"b","result":"deleted"}`)
}

func TestRecordsSurviveTheRoundTrip(t *testing.T) {
	cluster(t, kfake.SeedTopics(3, "t"))
	r := exec(t, "a:1\nb:2\n:\nnokey\n", "produce", "t", "-K", ":", "-Z", "-H", "h=1", "-H", "n", "-z", "zstd", "-p", "1")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Equal(t, "4 records written to t\n", r.stderr)
	text := ok(t, "", "consume", "t", "-p", "1", "--format", `%p/%o %k=%v [%h]\n`)
	require.Equal(t, "1/0 a=1 [h=1,n]\n1/1 b=2 [h=1,n]\n1/2 = [h=1,n]\n1/3 =nokey [h=1,n]\n", text)

	// What JSON says is what was there: copied to another topic by way of JSON, it is the same.
	lines := ok(t, "", "consume", "t", "--format", "json")
	require.Contains(t, lines, `"headers":[{"key":"h","value":"1"},{"key":"n"}]`)
	cluster(t, kfake.SeedTopics(3, "t"))
	ok(t, lines, "produce", "t", "--format", "json", "--acks", "1", "--no-idempotent", "-q")
	require.Equal(t, lines, ok(t, "", "consume", "t", "--format", "json"))

	file := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(file, []byte("x\ny"), 0o600))
	ok(t, "", "produce", "t", "-f", file, "-k", "key", "-p", "2")
	require.Equal(t, "key x\nkey y\n", ok(t, "", "consume", "t", "-p", "2", "--format", `%k %v\n`))
	r = exec(t, "", "produce", "t", "-f", file+".not")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "no such file")
}

func TestWhereConsumingStartsAndEnds(t *testing.T) {
	cluster(t, kfake.SeedTopics(2, "t"))
	var in strings.Builder
	for i := range 10 {
		in.WriteString(`{"value":"` + string(rune('0'+i)) + `","partition":` + string(rune('0'+i%2)) +
			`,"timestamp":"2020-01-01T00:00:0` + string(rune('0'+i)) + `Z"}` + "\n")
	}
	ok(t, in.String(), "produce", "t", "--format", "json") // older than any timeout: that is no reason to fail
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "0 1 2 3 4 5 6 7 8 9"},
		{[]string{"-p", "1"}, "1 3 5 7 9"},
		{[]string{"-p", "0,1", "-o", "3"}, "6 7 8 9"},
		{[]string{"-o", "-1"}, "8 9"},
		{[]string{"-o", "+4"}, "8 9"},
		{[]string{"-o", "@2020-01-01T00:00:06Z"}, "6 7 8 9"},
		{[]string{"-o", "@2021-01-01"}, ""},
		{[]string{"-o", "end"}, ""},
		{[]string{"-o", "1000"}, ""},
		{[]string{"-p", "1", "-n", "2"}, "1 3"},
		{[]string{"-p", "1", "-n", "2", "--follow"}, "1 3"},
		{[]string{"-p", "1", "--read-uncommitted", "-q"}, "1 3 5 7 9"},
	} {
		got := strings.Fields(ok(t, "", append([]string{"consume", "t"}, c.args...)...))
		slices.Sort(got)
		require.Equal(t, c.want, strings.Join(got, " "), c.args)
	}
	r := exec(t, "", "consume", "t", "-p", "7")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "topic t has partitions 0 to 1")
	r = exec(t, "", "consume", "nope")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "UNKNOWN_TOPIC_OR_PARTITION")
	require.Contains(t, r.stderr, "topic list")
}

// notify is a writer that says when text came.
type notify struct {
	bytes.Buffer
	wrote chan struct{}
}

func (n *notify) Write(p []byte) (int, error) {
	defer func() {
		select {
		case n.wrote <- struct{}{}:
		default:
		}
	}()
	return n.Buffer.Write(p)
}

func TestFollowWaitsForMoreUntilInterrupted(t *testing.T) {
	cluster(t, kfake.SeedTopics(1, "t"))
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out := &notify{wrote: make(chan struct{}, 1)}
	done := make(chan int, 1)
	go func() {
		var stderr bytes.Buffer
		done <- run(ctx, []string{"consume", "t", "-f"}, strings.NewReader(""), out, &stderr)
	}()
	ok(t, "one\n", "produce", "t")
	<-out.wrote
	interrupt()
	require.Equal(t, exitOK, <-done, "an interrupt is how following ends")
	require.Equal(t, "one\n", out.String())
}

type stuckReader struct{ release <-chan struct{} }

func (s stuckReader) Read([]byte) (int, error) {
	<-s.release
	return 0, errors.New("released")
}

func TestInterruptEndsProduceAtATerminal(t *testing.T) {
	cluster(t, kfake.SeedTopics(1, "t"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	var out, stderr bytes.Buffer
	require.Equal(t, exitFailed, run(ctx, []string{"produce", "t"}, stuckReader{release}, &out, &stderr))
	require.Contains(t, stderr.String(), "0 records written to t")
}

func TestProduceCountsWhatWasAcknowledged(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "t"))
	r := exec(t, "good\n{bad\n", "produce", "t", "--format", "json")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "line 1: parse JSON")
	require.Contains(t, r.stderr, "0 records written")
	r = exec(t, `{"value":"good"}`+"\n{bad\n", "produce", "t", "--format", "json")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "1 records written to t")
	require.Contains(t, r.stderr, "line 2")
	r = exec(t, "x\n", "produce", "t", "-p", "9")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "0 records written")

	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, nil, true // never answered
	})
	r = exec(t, "x\n", "produce", "t", "--timeout", "200ms")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "0 records written to t")
	require.Contains(t, r.stderr, "no acknowledgement for 200ms; is a broker listening at")
}

func TestABrokerThatIsNotThereIsNamed(t *testing.T) {
	t.Setenv("STREAMHOUSE_BOOTSTRAP", "127.0.0.1:1")
	for _, args := range [][]string{
		{"topic", "list"},
		{"topic", "create", "t"},
		{"topic", "describe"},
		{"topic", "delete", "t"},
		{"topic", "alter", "t", "-p", "2"},
		{"topic", "alter", "t", "-c", "a=b"},
		{"consume", "t"},
		{"produce", "t"},
	} {
		r := exec(t, "x\n", append(args, "--timeout", "300ms")...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.stderr, "is a broker listening at 127.0.0.1:1 (--bootstrap)?", args)
	}
}

func TestBenchCommands(t *testing.T) {
	cluster(t)
	out := ok(t, "", "bench", "produce", "-n", "3000", "-s", "100B", "--warm-up", "0s", "--partitions", "2", "--topic-config", "retention.ms=1000")
	require.Contains(t, out, "produced")
	require.Contains(t, out, "acknowledged")
	var res struct {
		Consumed struct{ Records int64 }
	}
	require.NoError(t, json.Unmarshal([]byte(ok(t, "", "bench", "consume", "--json")), &res))
	require.EqualValues(t, 3000, res.Consumed.Records)
	out = ok(t, "", "bench", "e2e", "-n", "50", "-r", "1000", "--warm-up", "0s")
	require.Contains(t, out, "end to end")
	out = ok(t, "", "bench", "consume", "--while-producing", "-n", "100", "--warm-up", "0s", "--topic", "w")
	require.Contains(t, out, "consumed")
	r := exec(t, "", "bench", "consume", "--topic", "none")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "produce to it first")
}
