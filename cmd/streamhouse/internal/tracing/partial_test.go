package tracing

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/streamhouse/streamhouse/broker"
)

// partialSuccess is an ExportTraceServiceResponse with a partial_success in it, and a field that we do not know.
func partialSuccess(rejected int64, message string) []byte {
	var in []byte
	in = protowire.AppendTag(in, 1, protowire.VarintType)
	in = protowire.AppendVarint(in, uint64(rejected))
	in = protowire.AppendTag(in, 2, protowire.BytesType)
	in = protowire.AppendString(in, message)
	in = protowire.AppendTag(in, 9, protowire.BytesType)
	in = protowire.AppendString(in, "of another version")
	out := protowire.AppendTag(nil, 1, protowire.BytesType)
	return protowire.AppendBytes(out, in)
}

// A collector takes a batch with 200 and says inside that it dropped some of it.
func TestSpansRefusedInside200AreCountedAndSaid(t *testing.T) {
	const sent = 5
	for name, c := range map[string]struct {
		kind   string
		answer []byte
		want   []string // in the one line; none: nothing is said
	}{
		"some":             {"application/x-protobuf", partialSuccess(3, "span too old"), []string{"spans=3", "span too old"}},
		"more than sent":   {"application/x-protobuf", partialSuccess(1<<40, ""), []string{"spans=5"}},
		"with parameters":  {"application/x-protobuf; charset=x", partialSuccess(2, ""), []string{"spans=2"}},
		"a long message":   {"application/x-protobuf", partialSuccess(1, strings.Repeat("m", 10<<10)), []string{"spans=1", "mmm…"}},
		"none":             {"application/x-protobuf", partialSuccess(0, "I have an opinion"), nil},
		"less than none":   {"application/x-protobuf", partialSuccess(-1, ""), nil},
		"all well":         {"application/x-protobuf", nil, nil},
		"not an answer":    {"application/x-protobuf", []byte("\xff\xff\xff"), nil},
		"cut off":          {"application/x-protobuf", partialSuccess(3, "x")[:5], nil},
		"of another kind":  {"text/plain", partialSuccess(3, "x"), nil},
		"a number for one": {"application/x-protobuf", protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 3), nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", c.kind)
				_, _ = w.Write(c.answer)
			}))
			t.Cleanup(s.Close)
			u, err := url.Parse(s.URL)
			require.NoError(t, err)
			var out bytes.Buffer
			tr := New(t.Context(), Options{Endpoint: u, Ratio: 1, Version: "test", Logger: slog.New(slog.NewTextHandler(&out, nil))})
			for range sent {
				tr.Begin(broker.TracedRequest{API: "Fetch", Received: time.Now()}).End(broker.TraceOutcome{})
			}
			tr.Shutdown(context.Background())
			if c.want == nil {
				require.Empty(t, out.String())
				return
			}
			require.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
			require.Less(t, out.Len(), 2<<10)
			for _, want := range append(c.want, "spans could not be sent, and are dropped", "the collector refused") {
				require.Contains(t, out.String(), want)
			}
		})
	}
}
