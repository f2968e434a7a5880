package broker

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
)

func TestObserverHearsEverything(t *testing.T) {
	var mu sync.Mutex
	heard := map[string]int{}
	note := func(what string, n int) {
		mu.Lock()
		defer mu.Unlock()
		heard[what] += n
	}
	tb := start(t, func(c *Config) {
		c.Observer = Observer{
			Connections: func(n int) { note("connections", min(n, 1)) },
			Request:     func(api string, code int16, _ time.Duration) { note(api+" "+names(code), 1) },
			Appended:    func(topic string, _ int32, n int) { note("appended "+topic, n) },
			Produced: func(topic string, _ int32, n, _ int, _ time.Duration, code int16) {
				note("produced "+topic+" "+names(code), n)
			},
			ProduceRefused:  func(topic string, code int16) { note("refused "+topic+" "+names(code), 1) },
			ProduceAnswered: func(topic string, _ time.Duration, _ string) { note("answered "+topic, 1) },
			Fetched:         func(group, topic string, _ int32, n, _ int) { note("fetched "+topic+" by "+group, n) },
			FetchAnswered:   func(topic string, _ time.Duration, _ string) { note("fetch answered "+topic, 1) },
		}
	})
	id := tb.topic("t", 1)
	c := tb.dial()
	ask(c, produceRequest("", id, 0, batchOf(t, batchSpec(), "a", "b")), 13)
	ask(c, produceRequest("", id, 0, []byte("nonsense")), 13)
	ask(c, fetchRequest("", id, 0), 17)
	ask(c, kmsg.NewPtrDescribeACLsRequest(), 1)
	tb.AttributeReads(t.Context())
	mu.Lock()
	defer mu.Unlock()
	for what, n := range map[string]int{
		"CreateTopics NONE": 1, "Produce NONE": 1, "Produce INVALID_RECORD": 1, "Fetch NONE": 1, "DescribeAcls SECURITY_DISABLED": 1,
		"appended t": 2, "produced t NONE": 2, "refused t INVALID_RECORD": 1, "answered t": 2, "fetched t by ": 2, "fetch answered t": 1,
	} {
		require.Equal(t, n, heard[what], what)
	}
	require.Positive(t, heard["connections"])
}

// A session asks for what it was served last after everything else, so the partitions of two topics come to lie between each
// other: the Fetch is one of each topic all the same.
func TestAFetchIsToldOnceForEachTopic(t *testing.T) {
	heard := make(chan string, 100)
	ts := newTraces()
	tb := start(t, func(c *Config) {
		c.Tracer = ts
		c.Observer.FetchAnswered = func(topic string, _ time.Duration, _ string) { heard <- topic }
	})
	is := func(want ...string) {
		t.Helper()
		var got []string
		for len(heard) > 0 {
			got = append(got, <-heard)
		}
		require.Equal(t, want, got)
	}
	a, b := tb.topic("a", 2), tb.topic("b", 2)
	c := tb.dial()
	for p := range int32(2) {
		put(c, a, p, "x")
		put(c, b, p, "x")
	}
	first := fetchRequest("", a, 0, 1)
	first.Topics = append(first.Topics, fetchRequest("", b, 0, 1).Topics...)
	first.SessionEpoch, first.MaxBytes = 0, 1
	resp := ask(c, first, 17).(*kmsg.FetchResponse)
	require.Equal(t, 2, lastFetch(ts).Topics)
	is("a", "b")

	resp = ask(c, incremental(resp.SessionID, 1), 17).(*kmsg.FetchResponse)
	require.Len(t, resp.Topics, 3, "a, b, a")
	require.Equal(t, 2, lastFetch(ts).Topics)
	is("a", "b")
}

// lastFetch is how the next Fetch to end ended.
func lastFetch(ts *traces) TraceOutcome {
	for {
		if r := <-ts.ended; r.API == "Fetch" {
			return r.outcome
		}
	}
}

// A Produce may name a topic again, and another one between: it is one of each all the same.
func TestAProduceIsToldOnceForEachTopic(t *testing.T) {
	heard := make(chan string, 100)
	tb := start(t, func(c *Config) {
		c.Observer.ProduceAnswered = func(topic string, _ time.Duration, _ string) { heard <- topic }
	})
	a, b := tb.topic("a", 2), tb.topic("b", 1)
	c := tb.dial()
	for _, names := range [][]string{{"a"}, {"a", "a"}, {"a", "b", "a", "b", "b"}, {"a", "nowhere", "a"}} {
		req := produceRequest("a", a, 0, batchOf(t, batchSpec(), "v"))
		req.Topics = req.Topics[:0]
		want := map[string]bool{}
		for _, name := range names {
			id := map[string]catalog.TopicID{"a": a, "b": b, "nowhere": {1}}[name]
			req.Topics = append(req.Topics, produceRequest("", id, 0, batchOf(t, batchSpec(), "v")).Topics...)
			want[name] = name != "nowhere"
		}
		ask(c, req, 13)
		var told []string
		for len(heard) > 0 {
			told = append(told, <-heard)
		}
		var topics []string
		for name, exists := range want {
			if exists {
				topics = append(topics, name)
			}
		}
		require.ElementsMatch(t, topics, told, "%v", names)
	}
}
