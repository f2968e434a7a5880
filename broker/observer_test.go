package broker

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
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
