package broker

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var update = flag.Bool("update", false, "write docs/protocol.md anew")

const protocolDoc = "../docs/protocol.md"

// TestProtocolDoc checks docs/protocol.md against the tables. go test ./broker -run TestProtocolDoc -update writes it.
func TestProtocolDoc(t *testing.T) {
	want := protocolMarkdown()
	if *update {
		require.NoError(t, os.MkdirAll("../docs", 0o755))
		require.NoError(t, os.WriteFile(protocolDoc, []byte(want), 0o644))
	}
	got, err := os.ReadFile(protocolDoc)
	require.NoError(t, err)
	require.Equal(t, want, string(got), "run: go test ./broker -run TestProtocolDoc -update")
}

func TestTableIsSound(t *testing.T) {
	last := int16(-1)
	for _, a := range table() {
		require.Greater(t, a.key, last, "sorted, no key twice")
		last = a.key
		require.LessOrEqual(t, a.min, a.max)
		req := kmsg.RequestForKey(a.key)
		require.NotNil(t, req, a.name)
		require.GreaterOrEqual(t, req.MaxVersion(), a.max, a.name)
	}
	for i := 1; i < len(topicConfigs); i++ {
		require.Less(t, topicConfigs[i-1].name, topicConfigs[i].name)
	}
	for i := range topicConfigs {
		d := &topicConfigs[i]
		_, err := checkConfig(d.name, d.initial)
		require.NoError(t, err, "the default of %s is valid", d.name)
	}
}

func protocolMarkdown() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# What this broker answers")
	line("")
	line("Generated from the tables in `broker/api.go` and `broker/topicconfig.go` by")
	line("`go test ./broker -run TestProtocolDoc -update`. Do not edit.")
	line("")
	line("## Requests")
	line("")
	line("An API key or version that is not listed closes the connection, as in Apache Kafka, except that ApiVersions of an")
	line("unknown version is answered in version 0 with UNSUPPORTED_VERSION. `throttle_time_ms` is always 0.")
	line("")
	line("Any broker answers any request; what only the leader of a partition may say the others refuse with")
	line("NOT_LEADER_OR_FOLLOWER, FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH. Clients are told the addresses that brokers have on")
	line("the listener they came in by; of a broker without that listener its first one.")
	line("")
	line("| key | API | versions | different from Apache Kafka 4.3 |")
	line("|---|---|---|---|")
	for _, a := range table() {
		versions := fmt.Sprintf("%d–%d", a.min, a.max)
		if a.min == a.max {
			versions = fmt.Sprint(a.min)
		}
		line("| %d | %s | %s | %s |", a.key, a.name, versions, a.note)
	}
	line("")
	line("## What is checked of a produced batch")
	line("")
	line("%s", strings.TrimSpace(checkedBatches))
	line("")
	line("## Topic configs")
	line("")
	line("All topic configs of Apache Kafka 4.3 are known, typed and checked; any other name is INVALID_CONFIG.")
	line("")
	line("| config | type | default | effect |")
	line("|---|---|---|---|")
	for i := range topicConfigs {
		d := &topicConfigs[i]
		line("| %s | %s | %s | %s |", d.name, strings.ToLower(d.kind.String()), d.initial, d.effect)
	}
	line("")
	line("## Bounds")
	line("")
	line("%s", strings.TrimSpace(bounds))
	return b.String()
}

const checkedBatches = `
Each partition of a Produce takes exactly one batch of magic 2. In this order:

1. the leader's lease, then length, magic, base offset 0, ` + "`max.message.bytes`" + ` and CRC-32C: one pass over the bytes;
2. attributes (no unknown bits, no control bit, no LogAppendTime bit), codec, record count against the last offset delta,
   producer id, epoch and sequence;
3. every record: its lengths, its offset delta, its key where ` + "`cleanup.policy`" + ` has compact, its timestamp against
   ` + "`message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`" + `. Compressed batches are decompressed for
   this as a stream, within 128 MiB per batch: it costs processor time, not memory, and a compression bomb is
   MESSAGE_TOO_LARGE;
4. a wrong max timestamp is corrected, as Kafka does; LogAppendTime is written in; a batch whose codec is not the topic's
   ` + "`compression.type`" + ` is recompressed, and must still fit ` + "`max.message.bytes`" + `;
5. sequence and epoch of an idempotent producer.

Bytes are otherwise stored as they came: only base offset, leader epoch and, for LogAppendTime, timestamp and checksum
are patched.
`

const bounds = `
| what | default | at the bound |
|---|---|---|
| frame of a Produce | 100 MiB | connection closed |
| frame of any other request | 8 MiB | connection closed |
| array elements in one request | 262,144 | connection closed |
| bytes of requests in memory | 128 MiB | reading waits; a longer frame is admitted alone |
| requests, bytes in flight per connection | 64, 32 MiB | reading waits |
| record bytes in Fetch answers in memory | 128 MiB | answers shrink to about one batch |
| Fetch answer | 55 MiB | what is left comes with the next one |
| a started frame without progress | 30 s per MiB | connection closed |
| an answer that is not read | 30 s per MiB | connection closed |
| idle connection | 10 minutes | connection closed |
| connections | 10,000 | connection refused |
| fetch sessions, their partitions | 1,000, 400,000 | fetches without session |
| partitions of a topic, of the cluster | 10,000, 200,000 | INVALID_PARTITIONS |
`
