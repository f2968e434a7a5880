package traces_test

import (
	"context"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// A trace context as W3C's traceparent header has it. What instrumented clients put into records.
const (
	foreignTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent  = "00-" + foreignTrace + "-00f067aa0ba902b7-01"
)

func traced(j *jaeger, share float64) []string {
	return []string{"--tracing-endpoint", j.otlp, "--tracing-sample", strconv.FormatFloat(share, 'g', -1, 64)}
}

// produce sends records one by one, each in a request of its own.
func produce(t *testing.T, cl *kgo.Client, topic string, n int, headers ...kgo.RecordHeader) (slowest time.Duration) {
	t.Helper()
	for i := range n {
		began := time.Now()
		err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(strconv.Itoa(i)), Headers: headers}).FirstErr()
		require.NoError(t, err)
		slowest = max(slowest, time.Since(began))
	}
	return slowest
}

// consume reads n records of a topic from its beginning.
func consume(t *testing.T, cl *kgo.Client, n int) (records []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(records) < n {
		fetches := cl.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func from(topic string) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ClientID("reader"),
		kgo.FetchMaxWait(300 * time.Millisecond),
	}
}

func keys(tags map[string]string) []string { return slices.Sorted(maps.Keys(tags)) }

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

// part returns the one child of that name.
func part(t *testing.T, s *span, name string) *span {
	t.Helper()
	var found []*span
	for _, c := range s.children() {
		if c.OperationName == name {
			found = append(found, c)
		}
	}
	require.Len(t, found, 1, "%s of %s", name, s.OperationName)
	return found[0]
}

// TestJaegerShowsWhatThePageSays: a Produce, the log object it went into and the Fetch that read it, and each attribute.
func TestJaegerShowsWhatThePageSays(t *testing.T) {
	j := startJaeger(t)
	s := stack.Start(t, stack.Options{Brokers: 1, Flags: traced(j, 1)})
	topic := s.Topic(t, "traced", 1)
	cl := s.Client(t, kgo.ClientID("writer"))
	produce(t, cl, topic, 1)
	produce(t, cl, topic, 1, kgo.RecordHeader{Key: "traceparent", Value: []byte(traceparent)})

	var services []string
	produced := j.await(2, "Produce", map[string]string{"messaging.destination.name": topic})
	j.ask("/api/services", nil, &services)
	require.Equal(t, []string{"streamhouse"}, services)
	require.Len(t, produced, 2)
	require.NotEqual(t, produced[0].TraceID, produced[1].TraceID, "each request is a trace of its own")
	for _, p := range produced {
		a := p.tags()
		require.Equal(t, []string{
			"kafka.api.version", "kafka.bytes", "kafka.partitions", "kafka.topics", "messaging.client.id", "messaging.destination.name",
			"messaging.system", "streamhouse.broker.id", "streamhouse.store.gets",
		}, keys(a))
		require.Equal(t, []string{"kafka", "writer", "1", "1", "1", "0"}, []string{
			a["messaging.system"], a["messaging.client.id"], a["kafka.topics"], a["kafka.partitions"], a["streamhouse.broker.id"], a["streamhouse.store.gets"],
		})
		require.Equal(t, "server", p.kind())
		require.ElementsMatch(t, []string{"append", "wait for commit", "send"}, names(p.children()))
		require.Empty(t, p.parent())
		for _, tag := range p.trace.Processes["p1"].Tags {
			if tag.Key == "service.version" {
				require.NotEmpty(t, tag.Value)
			}
		}

		links := p.links()
		require.Len(t, links, 1)
		require.NotEqual(t, p.TraceID, links[0].TraceID)
		f := j.one(links[0])
		require.Equal(t, "flush", f.OperationName)
		require.Equal(t, []reference{{"FOLLOWS_FROM", p.TraceID, p.SpanID}}, f.links())
		require.ElementsMatch(t, []string{"PUT", "commit"}, names(f.children()))
		fa, put := f.tags(), part(t, f, "PUT")
		require.Equal(t, []string{
			"streamhouse.broker.id", "streamhouse.flush.batch_bytes", "streamhouse.flush.batches", "streamhouse.flush.requests",
			"streamhouse.object.bytes", "streamhouse.object.key", "streamhouse.object.partitions", "streamhouse.object.tries",
		}, keys(fa))
		require.Equal(t, a["kafka.bytes"], fa["streamhouse.flush.batch_bytes"])
		require.Equal(t, []string{"1", "1", "1", "1"}, []string{
			fa["streamhouse.flush.batches"], fa["streamhouse.flush.requests"], fa["streamhouse.object.partitions"], fa["streamhouse.object.tries"],
		})
		require.Equal(t, map[string]string{
			"streamhouse.object.key": fa["streamhouse.object.key"], "streamhouse.object.bytes": fa["streamhouse.object.bytes"],
		}, put.tags())
		require.Equal(t, "client", put.kind())
		// The order of things: sealed after the append began, stored, committed, answered. Jaeger cuts to whole µs.
		ends := func(s *span) int64 { return s.StartTime + s.Duration }
		require.LessOrEqual(t, part(t, p, "append").StartTime, f.StartTime)
		require.LessOrEqual(t, ends(put), part(t, f, "commit").StartTime+2)
		require.LessOrEqual(t, ends(f), ends(part(t, p, "wait for commit"))+2)
	}

	// A process that was just started has nothing in its caches.
	_, err := s.Brokers[0].Stop()
	require.NoError(t, err)
	require.NoError(t, s.Brokers[0].Start(t.Context()))
	reader := s.Client(t, from(topic)...)
	records := consume(t, reader, 2)
	require.Equal(t, []kgo.RecordHeader{{Key: "traceparent", Value: []byte(traceparent)}}, records[1].Headers, "it is the clients' affair")
	require.Empty(t, records[0].Headers)
	gets := 0
	for _, f := range j.await(1, "Fetch", map[string]string{"messaging.destination.name": topic, "messaging.client.id": "reader"}) {
		if a := f.tags(); a["kafka.bytes"] != "0" {
			require.Equal(t, []string{
				"kafka.api.version", "kafka.bytes", "kafka.partitions", "kafka.topics", "messaging.client.id", "messaging.destination.name",
				"messaging.system", "streamhouse.broker.id", "streamhouse.store.gets",
			}, keys(a))
			below := names(f.children())
			require.Subset(t, below, []string{"wait for earlier requests", "read", "send"})
			for _, c := range f.children() {
				if c.OperationName == "GET" {
					require.Equal(t, []string{"streamhouse.object.bytes", "streamhouse.object.key", "streamhouse.object.offset"}, keys(c.tags()))
					require.Contains(t, c.tags()["streamhouse.object.key"], "log/")
					gets++
				}
			}
		}
	}
	require.Positive(t, gets, "nothing was cached")
	require.Eventually(t, func() bool { // one that found nothing waits
		return slices.ContainsFunc(j.search("Fetch", nil), func(f *span) bool { return slices.Contains(names(f.children()), "wait for records") })
	}, settled, 100*time.Millisecond)

	status, _, err := get(t.Context(), j.query+"/api/traces/"+foreignTrace)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, status, "a trace begins at the broker")
	reader.Close()
	onThePage(t, j)
}

// onThePage: whatever Jaeger got is in docs/tracing.md, and Jaeger finds nothing to warn of. While a request is under way, it
// says that the parents of its parts are missing.
func onThePage(t *testing.T, j *jaeger) {
	t.Helper()
	text, err := os.ReadFile("../../docs/tracing.md")
	require.NoError(t, err)
	var operations []string
	j.ask("/api/services/streamhouse/operations", nil, &operations)
	require.GreaterOrEqual(t, len(operations), 11)
	for _, operation := range operations {
		require.Regexp(t, `(?m)^\| (\*\*|– )`+regexp.QuoteMeta(operation)+`(\*\*)? \|`, string(text))
		require.Eventually(t, func() bool {
			return !slices.ContainsFunc(j.search(operation, nil), func(s *span) bool { return len(s.Warnings) > 0 })
		}, settled, 100*time.Millisecond, operation)
		for _, s := range j.search(operation, nil) {
			for key := range s.tags() {
				if key == "error" || strings.HasPrefix(key, "otel.") {
					continue // what Jaeger makes of a span's status
				}
				short := key[strings.LastIndexByte(key, '.'):]
				require.Regexp(t, "`("+regexp.QuoteMeta(key)+"|"+regexp.QuoteMeta(short)+")`", string(text))
			}
		}
	}
}

// TestAShareOfRequestsIsTraced: a quarter, whatever the records' own trace context wants.
func TestAShareOfRequestsIsTraced(t *testing.T) {
	const requests = 400
	for share, want := range map[float64][2]int{0.25: {56, 144}, 0: {0, 0}} { // five standard deviations
		j := startJaeger(t)
		b := target.Start(t, traced(j, share)...)
		topic := b.Topic(t, "share", 1, nil)
		cl := b.Client(t, kgo.ProducerLinger(0))
		produce(t, cl, topic, requests, kgo.RecordHeader{Key: "traceparent", Value: []byte(traceparent)})
		b.Stop(t) // which sends the rest
		got := len(j.search("Produce", map[string]string{"messaging.destination.name": topic}))
		t.Logf("%v of %d requests: %d traces", share, requests, got)
		require.GreaterOrEqual(t, got, want[0])
		require.LessOrEqual(t, got, want[1])
		b.Restart(t) // the topic is deleted at the end
	}
}

// TestErrorsAndNothingElseAreErrors: what went wrong is marked so, with a name that can be searched for.
func TestErrorsAndNothingElseAreErrors(t *testing.T) {
	j := startJaeger(t)
	s := stack.Start(t, stack.Options{Brokers: 1, Flags: traced(j, 1)})
	topic := s.Topic(t, "faults", 1)
	cl := s.Client(t, kgo.RecordRetries(100))

	{ // Kafka's
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 1000
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = "not-there"
		rt.Partitions = append(rt.Partitions, kmsg.NewProduceRequestTopicPartition())
		req.Topics = append(req.Topics, rt)
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(req.Key(), 9) // later ones have ids of topics
		resp, err := s.Client(t, kgo.MaxVersions(versions)).Broker(1).Request(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, kerr.UnknownTopicOrPartition.Code, resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
		p := j.await(1, "Produce", map[string]string{"error": "true", "messaging.destination.name": "not-there"})[0]
		require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", p.tags()["error.type"])
		require.Equal(t, "ERROR", p.tags()["otel.status_code"])
	}

	{ // a consumer that leaves: none
		produce(t, cl, topic, 1)
		reader := s.Client(t, append(from(topic), kgo.ClientID("leaver"), kgo.FetchMaxWait(time.Minute))...)
		consume(t, reader, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // there is nothing more: the client's next request waits
		defer cancel()
		require.Empty(t, reader.PollFetches(ctx).Records())
		reader.Close()
		left := j.await(1, "Fetch", map[string]string{"messaging.client.id": "leaver", "streamhouse.called_off": "true"})[0]
		require.Contains(t, names(left.children()), "wait for records")
		require.Empty(t, j.search("Fetch", map[string]string{"messaging.client.id": "leaver", "error": "true"}))
	}

	{ // the store's
		s.Store.Refuse(1)
		done := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cl.Produce(ctx, &kgo.Record{Topic: topic, Value: []byte("late")}, func(_ *kgo.Record, err error) { done <- err })
		put := wait(t, j, "PUT", map[string]string{"error": "true"})
		s.Store.Heal()
		require.NoError(t, <-done)
		require.Equal(t, "SlowDown", put.tags()["error.type"])
		require.Contains(t, put.tags()["otel.status_description"], "SlowDown")
		flush := j.await(1, "flush", map[string]string{"streamhouse.object.tries": "2"})[0]
		require.Equal(t, []string{"PUT", "PUT", "commit"}, sorted(names(flush.children())))
		require.Empty(t, flush.tags()["error"], "it is stored in the end")
	}
	onThePage(t, j)
}

// wait is await for what takes as long as a store is tried.
func wait(t *testing.T, j *jaeger, operation string, tags map[string]string) *span {
	t.Helper()
	var found []*span
	require.Eventually(t, func() bool {
		found = j.search(operation, tags)
		return len(found) > 0
	}, 2*time.Minute, 200*time.Millisecond, "no %s %v", operation, tags)
	return found[0]
}

// TestNobodyNoticesThatJaegerIsGone: records go on at their pace while Jaeger hangs, is dead, and is back.
func TestNobodyNoticesThatJaegerIsGone(t *testing.T) {
	const n = 300
	j := startJaeger(t)
	s := stack.Start(t, stack.Options{Brokers: 1, Flags: traced(j, 1)})
	cl := s.Client(t)
	for _, phase := range []struct {
		name  string
		enter func()
		seen  bool
	}{
		{"it is there", func() {}, true},
		{"it hangs", j.freeze, false},
		{"it is dead", func() { j.kill() }, false},
		{"it is back", j.up, true},
	} {
		phase.enter()
		topic := s.Topic(t, "away", 1)
		began := time.Now()
		slowest := produce(t, cl, topic, n)
		t.Logf("%s: %d records in %s, the slowest in %s", phase.name, n, time.Since(began).Round(time.Millisecond), slowest.Round(time.Millisecond))
		require.Less(t, slowest, 2*time.Second, phase.name)
		require.Len(t, consume(t, s.Client(t, from(topic)...), n), n)
		if phase.seen {
			require.Len(t, j.await(n, "Produce", map[string]string{"messaging.destination.name": topic}), n)
		}
	}
	log := s.Brokers[0].LogFrom(0)
	require.Equal(t, 1, strings.Count(log, "spans could not be sent"), "it is said, and once a minute")
}
