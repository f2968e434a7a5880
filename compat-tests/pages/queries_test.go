package pages_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// noData are parts of queries that have an answer only where something is wrong, or is being mended.
var noData = []string{"deriv(streamhouse_consumer_lag_records", "delta(streamhouse_consumer_last_committed_offset", "oldest_append_age_seconds > 1", "(error_type)"}

var tableQuery = regexp.MustCompile("(?m)^\\| [^|`]+ \\| `(.*streamhouse_.*)` \\|$")

// askQueries asks the queries of the guide and of the cheatsheet's table: each is understood, names labels that its families have, and has an
// answer while there is some load.
func askQueries(t *testing.T, term *terminals, prometheus string) {
	t.Helper()
	queries := readBlocks(t, "observability.md", "promql")
	cheatsheet, err := os.ReadFile(repository("docs", "cheatsheet.md"))
	require.NoError(t, err)
	table := tableQuery.FindAllStringSubmatch(string(cheatsheet), -1)
	require.NotEmpty(t, table)
	for _, m := range table {
		queries = append(queries, m[1])
	}
	load := func() {
		for _, command := range []string{
			`seq 100 | kcat -b localhost:9092 -P -t asked`,
			`kcat -b localhost:9092 -G askers -X auto.offset.reset=earliest -c 100 -q asked`,
		} {
			_, said, err := term.run(t, command)
			require.NoError(t, err, said)
		}
	}
	load() // series begin
	require.Eventually(t, func() bool {
		n, err := query(prometheus, `streamhouse_producer_records_sent_total{topic="asked"} > 0`)
		return err == nil && n > 0
	}, patience, 200*time.Millisecond)
	load() // and rise
	families := goldenLabels(t)
	for _, q := range queries {
		checkLabels(t, families, q)
		got := 0
		require.Eventually(t, func() bool {
			got, err = query(prometheus, q)
			return err != nil || got > 0 || mayBeEmpty(q)
		}, patience, 300*time.Millisecond, "no data for %s", q)
		require.NoError(t, err, q)
	}
}

func mayBeEmpty(q string) bool {
	for _, part := range noData {
		if strings.Contains(q, part) {
			return true
		}
	}
	return false
}

// query returns the number of series.
func query(prometheus, q string) (int, error) {
	resp, err := http.PostForm(prometheus+"/api/v1/query", url.Values{"query": {q}})
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return len(answer.Data.Result), nil
}

// goldenLabels are the labels of each family, those that Prometheus adds included.
func goldenLabels(t *testing.T) map[string][]string {
	t.Helper()
	golden, err := os.ReadFile(repository("metrics", "testdata", "families.golden"))
	require.NoError(t, err)
	out := make(map[string][]string)
	for line := range strings.Lines(string(golden)) {
		name, labels, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, line)
		_, labels, _ = strings.Cut(labels, "{")
		out[name] = append(strings.Split(strings.TrimSuffix(labels, "}"), ","), "instance", "job", "le")
	}
	return out
}

var (
	selector = regexp.MustCompile(`(streamhouse_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`by \(([a-z_, ]+)\)`)
)

// checkLabels: a misspelt label is a query that never has data, or adds up what it should not.
func checkLabels(t *testing.T, families map[string][]string, q string) {
	t.Helper()
	all := make(map[string]bool)
	for _, s := range selector.FindAllStringSubmatch(q, -1) {
		labels := families[s[1]]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if labels == nil {
				labels = families[strings.TrimSuffix(s[1], suffix)]
			}
		}
		require.NotNil(t, labels, "no family is called %s", s[1])
		for _, l := range labels {
			all[l] = true
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			require.Contains(t, labels, m[1], q)
		}
	}
	if len(all) == 0 { // what Prometheus says of itself
		return
	}
	for _, g := range grouping.FindAllStringSubmatch(q, -1) {
		for l := range strings.SplitSeq(g[1], ",") {
			require.True(t, all[strings.TrimSpace(l)], "by %s: %s", l, q)
		}
	}
}
