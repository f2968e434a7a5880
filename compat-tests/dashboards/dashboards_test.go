package dashboards

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

const (
	clusterJob  = "streamhouse-agents"
	embeddedJob = "embedded"
	// window stands for $__rate_interval: some scrapes, of which a slow machine may miss one or two.
	window = 8 * time.Second
	// wave is from one crest of the load to the next: long enough for a group to fall behind, and be seen catching up.
	wave = 20 * time.Second
	// patience is how long all queries may take to have data, from when there was trouble; the load goes on until they have.
	patience = 90 * time.Second
)

// onlyInACluster are panels that have no data, or not for all of their queries, where there is one broker with a catalog and
// a store of its own, and nobody breaks them.
var onlyInACluster = map[string]bool{
	"Object store errors":                 true,
	"Retries and throttling":              true,
	"HTTP exchanges":                      true,
	"Catalog errors":                      true,
	"Connections to Postgres":             true,
	"Delay of other brokers' log objects": true,
	"Duration of lease moves p99":         true,
}

// oldQueries stand in dashboards and scripts of other people, word by word: names and labels have to stay as they are.
var oldQueries = []string{
	`histogram_quantile(0.99, rate(streamhouse_producer_send_duration_seconds_bucket[5m]))`,
	`rate(streamhouse_consumer_records_consumed_total[5m])`,
	`streamhouse_consumer_lag_records`,
	`rate(streamhouse_producer_records_sent_total[5m])`,
	`streamhouse_producer_batch_size_records_sum / streamhouse_producer_batch_size_records_count`,
}

func TestQueriesHaveData(t *testing.T) {
	if os.Getenv("DASHBOARDS_PICTURES") != "" {
		// No part is missing: this run was asked for the pictures, which need the machine for their own load.
		t.Skip("pictures are being drawn")
	}
	boards := readBoards(t)
	s := stack.Start(t, stack.Options{Brokers: 2})
	alone := target.Start(t)
	p := startPrometheus(t, scraping{clusterJob: addresses(s), embeddedJob: {"localhost:8080": alone.HTTP()}})
	begin := time.Now()
	loads := []*load{startLoad(t, s.Seeds(), wave), startLoad(t, []string{alone.Bootstrap}, wave)}
	for _, l := range loads {
		l.trip(t)
	}
	pause(t.Context(), 4*time.Second) // what is counted for the first time is not yet an increase
	for _, l := range loads {
		l.more(t)
		l.comeAndGo(t)
	}
	trouble(t, s, p)

	troubled := time.Now()
	open := unanswered(t, boards)
	for len(open) > 0 {
		pause(t.Context(), 3*time.Second)
		late := time.Since(troubled) > patience
		open = slices.DeleteFunc(open, func(q asking) bool {
			err := q.check(t.Context(), p, begin)
			if late {
				assert.NoError(t, err, "%s, %s, job %s", q.board, q.panel, q.job)
			}
			return err == nil
		})
		if len(open) > 0 {
			t.Logf("%s of load: %d queries are without data, the first for %s", time.Since(begin).Round(time.Second), len(open), open[0].panel)
		}
		if late {
			break
		}
	}
	choicesWork(t, p, boards)
}

// addresses are where brokers of a cluster tell their metrics.
func addresses(s *stack.Stack) map[string]string {
	out := make(map[string]string)
	for _, b := range s.Brokers {
		out[fmt.Sprintf("broker-%d:8080", b.ID)] = b.HTTP
	}
	return out
}

// trouble adds a broker, to which leases move, and has the store and the catalog fail until calls of both did. That may take a
// while: a call of the store is tried again for a quarter of a minute, and a connection to the catalog may break between two calls.
func trouble(t *testing.T, s *stack.Stack, p *prometheus) {
	t.Helper()
	_, err := s.Join(t)
	require.NoError(t, err)
	counted := func(metric, labels string) bool {
		expr := fmt.Sprintf("streamhouse_%s{job=%q%s}", metric, clusterJob, labels)
		found, err := p.ask(t.Context(), expr, time.Now(), time.Now(), time.Second)
		return err == nil && len(found) > 0
	}
	s.Store.Refuse(1)
	require.Eventually(t, func() bool {
		return counted("objstore_requests_total", `, status!="ok"`) && counted("objstore_retries_total", "")
	}, 45*time.Second, time.Second, "no call of a store that refuses everything has failed")
	s.Store.Heal()
	require.Eventually(t, func() bool {
		for _, b := range s.Brokers {
			b.Postgres.Break()
		}
		return counted("catalog_requests_total", `, status!="ok"`)
	}, 30*time.Second, time.Second, "no call of a catalog whose connections break has failed")
}

// asking is one query of one panel, to one job.
type asking struct {
	board, panel, job string
	query             query
	expr              string
}

// unanswered are all queries of all dashboards, to all jobs.
func unanswered(t *testing.T, boards []board) (out []asking) {
	t.Helper()
	for _, b := range boards {
		for _, job := range []string{clusterJob, embeddedJob} {
			chosen := b.everything(job, window)
			for _, p := range b.Panels {
				if job == embeddedJob && onlyInACluster[p.Title] {
					continue
				}
				for _, q := range p.Targets {
					out = append(out, asking{board: b.Title, panel: p.Title, job: job, query: q, expr: chosen.in(t, q.Expr)})
				}
			}
		}
	}
	for _, expr := range oldQueries {
		out = append(out, asking{board: "other people's dashboards", panel: expr, job: "any", expr: expr})
	}
	require.Greater(t, len(out), 100)
	return out
}

// check says what is wrong with the answer.
func (q *asking) check(ctx context.Context, p *prometheus, begin time.Time) error {
	from := begin
	if q.query.Instant {
		from = time.Now().Add(-window)
	}
	found, err := p.ask(ctx, q.expr, from, time.Now(), time.Second)
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(s series) bool { return !s.has() })
	if len(found) == 0 {
		return fmt.Errorf("no data: %s", q.expr)
	}
	for _, s := range found {
		for _, label := range q.query.labels() {
			if s.Labels[label] == "" {
				return fmt.Errorf("the legend %s finds no %s in %v: %s", q.query.Legend, label, s.Labels, q.expr)
			}
		}
	}
	return nil
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// choicesWork checks the variables: what there is to choose, and that panels keep to it.
func choicesWork(t *testing.T, p *prometheus, boards []board) {
	t.Helper()
	want := map[string][]string{
		"job": {embeddedJob, clusterJob}, "topic": {"clicks", "orders", "payments", "returns", "tight"}, "group_id": {"audit", "billing", "search"},
	}
	for _, b := range boards {
		all := b.everything(clusterJob, window)
		for _, v := range b.Templating.List {
			m := labelValues.FindStringSubmatch(v.text())
			if v.Type != "query" {
				continue
			}
			require.NotNil(t, m, v.text())
			got, err := p.values(t.Context(), m[2], all.in(t, m[1]))
			require.NoError(t, err)
			if v.Name == "instance" {
				assert.Equal(t, []string{"broker-1:8080", "broker-2:8080"}, got)
				continue
			}
			if v.Regex == "/^(?!__)/" {
				got = slices.DeleteFunc(got, func(name string) bool { return strings.HasPrefix(name, "__") })
			}
			assert.Equal(t, want[v.Name], got, "%s in %s", v.Name, b.Title)
		}
		for _, mark := range b.Annotations.List {
			if mark.Expr != "" {
				_, err := p.ask(t.Context(), all.in(t, mark.Expr), time.Now().Add(-window), time.Now(), time.Second)
				assert.NoError(t, err)
			}
		}
		one := maps.Clone(all)
		maps.Copy(one, choices{"topic": "orders", "group_id": "billing"})
		for _, panel := range b.Panels {
			for _, q := range panel.Targets {
				found, err := p.ask(t.Context(), one.in(t, q.Expr), time.Now().Add(-window), time.Now(), time.Second)
				require.NoError(t, err)
				for _, s := range found {
					assert.Contains(t, []string{"", "orders", "nothing"}, s.Labels["topic"], "%s: %s", panel.Title, q.Expr)
					assert.Contains(t, []string{"", "billing", "nobody"}, s.Labels["group_id"], "%s: %s", panel.Title, q.Expr)
				}
			}
		}
	}
}
