package record_test

import (
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// TestLanguagesAgree holds the three generators and digests together: were they
// to differ, a producer in another language would look like a broken broker.
func TestLanguagesAgree(t *testing.T) {
	const seed, count = "4000000007", "20000"
	g, s := record.New(4000000007), record.NewSummer()
	for i := range 20000 {
		r := g.Record(uint32(i), record.Variant{})
		s.Add(int64(i), &r)
	}
	want := record.Digests{0: s.Digest()}
	for _, command := range [][]string{
		{"python3", "../clients/python/gen.py", seed, count},
		{"node", "../clients/node/gen.js", seed, count},
	} {
		t.Run(command[0], func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).Output()
			require.NoError(t, err)
			var got record.Digests
			require.NoError(t, json.Unmarshal(out, &got))
			require.Equal(t, want, got)
		})
	}
}

// TestEverythingOccurs: a generator that never made a null header would pass
// every comparison and prove nothing.
func TestEverythingOccurs(t *testing.T) {
	g := record.New(1)
	seen := map[string]int{}
	for i := range 20000 {
		r := g.Record(uint32(i), record.Variant{})
		seen["key "+kind(r.Key)]++
		seen["value "+kind(r.Value)]++
		for _, h := range r.Headers {
			seen["header "+kind(h.Value)]++
		}
		if len(r.Headers) == 3 {
			seen["three headers"]++
		}
		if len(r.Value) > 16<<10 {
			seen["large value"]++
		}
	}
	for _, want := range []string{
		"key null", "key empty", "key bytes", "value null", "value empty", "value bytes",
		"header null", "header empty", "header bytes", "three headers", "large value",
	} {
		require.NotZero(t, seen[want], want)
	}
}

// TestVariants checks that a variant changes what it says, for the lines kcat
// and the console producer are fed.
func TestVariants(t *testing.T) {
	g := record.New(2)
	headers := g.Record(7, record.Variant{Text: true}).Headers
	for i := range uint32(5000) {
		r := g.Record(i, record.Variant{Text: true, Nulls: record.NullsOnly, FixedHeaders: true, HeadersOf: 7})
		require.NotEqual(t, "empty", kind(r.Key))
		require.NotEqual(t, "empty", kind(r.Value))
		require.Equal(t, headers, r.Headers)
		require.Regexp(t, `^[A-Za-z0-9._-]*$`, string(r.Value))
		r = g.Record(i, record.Variant{Nulls: record.EmptyOnly})
		require.NotEqual(t, "null", kind(r.Value))
	}
}

func kind(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) == 0:
		return "empty"
	default:
		return "bytes"
	}
}
