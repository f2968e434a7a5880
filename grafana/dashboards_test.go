package grafana

import (
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write dashboards/*.json instead of comparing")

func TestMain(m *testing.M) {
	plugins.RegisterDefaultPlugins() // or the model takes any options of panels, and any queries
	os.Exit(m.Run())                 //nolint:forbidigo // this is the main of a test
}

const folder = "dashboards"

// The files are what the code writes, and nothing else lies beside them.
func TestFilesAreWritten(t *testing.T) {
	files, err := Files()
	require.NoError(t, err)
	for name, text := range files {
		path := filepath.Join(folder, name)
		if *update {
			require.NoError(t, os.MkdirAll(folder, 0o755))
			require.NoError(t, os.WriteFile(path, text, 0o644))
			continue
		}
		was, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, string(text), string(was), "%s is not what the code writes: make dashboards", path)
	}
	there, err := filepath.Glob(filepath.Join(folder, "*"))
	require.NoError(t, err)
	var want []string
	for name := range files {
		want = append(want, filepath.Join(folder, name))
	}
	assert.ElementsMatch(t, want, there)
}

// readAll reads each file as Grafana's own model does.
func readAll(t *testing.T) map[string]dashboard.Dashboard {
	t.Helper()
	out := make(map[string]dashboard.Dashboard)
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	require.NoError(t, err)
	require.Len(t, paths, len(boards()))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		out[filepath.Base(path)] = read(t, text)
	}
	return out
}

// read reads a dashboard strictly: fields that Grafana's model does not know, or that it wants and are not there, are errors.
func read(t *testing.T, text []byte) dashboard.Dashboard {
	t.Helper()
	var strict, d dashboard.Dashboard
	require.Empty(t, wrong(strict.UnmarshalJSONStrict(text)))
	require.NoError(t, json.Unmarshal(text, &d)) // what the strict reading makes is not complete: an error of nothing leaves its field out
	require.NoError(t, d.Validate())
	return d
}

// wrong is what an error of the SDK is made of: a list of nothing is an error to Go, too.
func wrong(err error) []string {
	var list cog.BuildErrors
	if !errors.As(err, &list) {
		if err == nil {
			return nil
		}
		return []string{err.Error()}
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Error())
	}
	return out
}

// The strictness reaches the options of panels and the queries, too.
func TestReadingIsStrict(t *testing.T) {
	files, err := Files()
	require.NoError(t, err)
	text := string(files["streamhouse-overview.json"])
	for _, field := range []string{"timezone", "description", "mode", "legendFormat", "lineWidth", "allValue", "expr"} {
		broken := strings.Replace(text, `"`+field+`"`, `"`+field+`s"`, 1)
		require.NotEqual(t, text, broken, field)
		var d dashboard.Dashboard
		assert.NotEmpty(t, wrong(d.UnmarshalJSONStrict([]byte(broken))), "%ss was taken", field)
	}
}

func panelsOf(d dashboard.Dashboard) (out []dashboard.Panel) {
	for _, p := range d.Panels {
		if p.Panel != nil {
			out = append(out, *p.Panel)
		}
	}
	return out
}

type target struct {
	Datasource                struct{ Type, UID string }
	Expr, LegendFormat, RefID string
	Instant, Range            bool
}

func targetsOf(t *testing.T, p dashboard.Panel) (out []target) {
	t.Helper()
	text, err := json.Marshal(p.Targets)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &out))
	return out
}

func TestDashboardsAreSound(t *testing.T) {
	uids := map[string]bool{}
	for name, d := range readAll(t) {
		t.Run(name, func(t *testing.T) {
			require.NotNil(t, d.Uid)
			assert.False(t, uids[*d.Uid], "two dashboards have uid %s", *d.Uid)
			uids[*d.Uid] = true
			assert.Nil(t, d.Id, "an id is given by the Grafana that imports it")
			assert.NotEmpty(t, *d.Title)
			assert.NotEmpty(t, *d.Description)
			assert.Contains(t, d.Tags, "streamhouse", "dashboards link to each other by this tag")
			assert.Regexp(t, `^\d+[sm]$`, *d.Refresh)

			ids := map[uint32]bool{}
			titles := map[string]bool{}
			for _, p := range d.Panels {
				if p.RowPanel != nil {
					assert.False(t, ids[p.RowPanel.Id], "id %d twice", p.RowPanel.Id)
					ids[p.RowPanel.Id] = true
				}
			}
			for _, p := range panelsOf(d) {
				assert.False(t, ids[*p.Id] || *p.Id == 0, "id %d twice, or 0", *p.Id)
				ids[*p.Id] = true
				assert.False(t, titles[*p.Title], "two panels are called %s", *p.Title)
				titles[*p.Title] = true
				assert.NotEmpty(t, *p.Description, "%s says nothing of what to do", *p.Title)
				assert.NotRegexp(t, `(?i)retention\.(ms|bytes)|bounds it`, *p.Description, "%s: retention is not enforced", *p.Title)
				assert.NotEmpty(t, *p.FieldConfig.Defaults.Unit, "%s has no unit", *p.Title)
				if p.Type == "timeseries" && *p.FieldConfig.Defaults.Unit == "short" {
					custom, err := json.Marshal(p.FieldConfig.Defaults.Custom)
					require.NoError(t, err)
					assert.Contains(t, string(custom), `"axisLabel"`, "%s has bare numbers, and does not say of what", *p.Title)
				}
				checkTargets(t, p)
			}
			checkPlaces(t, d)
			checkVariables(t, d)
		})
	}
}

func checkTargets(t *testing.T, p dashboard.Panel) {
	t.Helper()
	targets := targetsOf(t, p)
	require.NotEmpty(t, targets, *p.Title)
	refs := map[string]bool{}
	for _, q := range targets {
		assert.Equal(t, "${datasource}", q.Datasource.UID, *p.Title)
		assert.Equal(t, "prometheus", q.Datasource.Type, *p.Title)
		assert.False(t, refs[q.RefID], "%s: query %s twice", *p.Title, q.RefID)
		refs[q.RefID] = true
		assert.True(t, q.Instant != q.Range, *p.Title)
		if p.Type == "timeseries" {
			assert.NotEmpty(t, q.LegendFormat, "%s: %s", *p.Title, q.Expr)
		}
		checkExpr(t, *p.Title, q)
	}
}

var (
	selector  = regexp.MustCompile(`\b(streamhouse|process|go)_[a-z0-9_]+(\{[^}]*\})?`)
	window    = regexp.MustCompile(`\[([^\]]*)\]`)
	labelSets = regexp.MustCompile(`\bby \(([^)]*)\)`)
	legends   = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
	byARate   = regexp.MustCompile(`/ *sum( by \([^)]*\))? *\( *(rate|increase|deriv)\(`)
)

func checkExpr(t *testing.T, title string, q target) {
	t.Helper()
	assert.NotContains(t, q.Expr, "@", "%s: a short name is left", title)
	assert.NotRegexp(t, byARate, q.Expr, "%s: NaN or Inf while nothing happens: divide by what is > 0", title)
	found := selector.FindAllStringSubmatch(q.Expr, -1)
	require.NotEmpty(t, found, "%s asks for no metric: %s", title, q.Expr)
	known := families(t)
	for _, m := range found {
		assert.Contains(t, m[2], `job=~"$job"`, "%s: of whose brokers is %s", title, m[0])
		for label := range strings.SplitSeq(strings.Trim(m[2], "{}"), ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(label), "=")
			assert.False(t, strings.TrimSuffix(name, "!") == "instance" && value != `~"$instance"`, "%s: a broker by its name: %s", title, m[0])
		}
		metric, _, _ := strings.Cut(m[0], "{")
		if !strings.HasPrefix(metric, "streamhouse_") {
			continue
		}
		assert.True(t, known.has(metric), "%s asks for %s, which is not in metrics/testdata/families.golden", title, metric)
		for _, name := range labelNames(m[2]) {
			assert.True(t, known.hasLabel(metric, name), "%s: %s has no label %s", title, metric, name)
		}
	}
	for _, m := range window.FindAllStringSubmatch(q.Expr, -1) {
		assert.Contains(t, []string{"$__rate_interval", "$__range"}, m[1], title)
	}
	// What a sum is by, its metrics have; and what the legend names, the query keeps.
	kept := map[string]bool{}
	for _, m := range labelSets.FindAllStringSubmatch(q.Expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			label = strings.TrimSpace(label)
			kept[label] = true
			had := slices.ContainsFunc(found, func(m []string) bool {
				metric, _, _ := strings.Cut(m[0], "{")
				return known.hasLabel(metric, label)
			})
			assert.True(t, had, "%s: no metric has label %s: %s", title, label, q.Expr)
		}
	}
	for _, m := range legends.FindAllStringSubmatch(q.LegendFormat, -1) {
		metric, _, _ := strings.Cut(found[0][0], "{")
		assert.True(t, kept[m[1]] || len(kept) == 0 && known.hasLabel(metric, m[1]), "%s: nothing gives the legend %s", title, q.LegendFormat)
	}
}

func labelNames(matchers string) (out []string) {
	for _, m := range regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)"`).FindAllStringSubmatch(matchers, -1) {
		out = append(out, m[1])
	}
	return out
}

// golden is metrics/testdata/families.golden: labels by name.
type golden map[string][]string

func families(t *testing.T) golden {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "metrics", "testdata", "families.golden"))
	require.NoError(t, err)
	out := golden{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		require.Len(t, fields, 3, line)
		labels := strings.Split(strings.Trim(fields[2], "{}"), ",")
		if fields[1] != "histogram" {
			out[fields[0]] = labels
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			out[fields[0]+suffix] = labels
		}
		out[fields[0]+"_bucket"] = append(slices.Clone(labels), "le")
	}
	require.Greater(t, len(out), 22)
	return out
}

func (g golden) has(metric string) bool { _, ok := g[metric]; return ok }

func (g golden) hasLabel(metric, label string) bool {
	return label == "job" || label == "instance" || slices.Contains(g[metric], label)
}

// Panels lie beside and below each other, on a grid of 24, and not on each other.
func checkPlaces(t *testing.T, d dashboard.Dashboard) {
	t.Helper()
	taken := map[[2]uint32]string{}
	for _, p := range d.Panels {
		var pos dashboard.GridPos
		var title string
		if p.Panel != nil {
			pos, title = *p.Panel.GridPos, *p.Panel.Title
		} else {
			pos, title = *p.RowPanel.GridPos, *p.RowPanel.Title
		}
		assert.LessOrEqual(t, pos.X+pos.W, uint32(24), title)
		for x := range pos.W {
			for y := range pos.H {
				at := [2]uint32{pos.X + x, pos.Y + y}
				require.Empty(t, taken[at], "%s lies on %s", title, taken[at])
				taken[at] = title
			}
		}
	}
}

func checkVariables(t *testing.T, d dashboard.Dashboard) {
	t.Helper()
	text, err := json.Marshal(d.Panels)
	require.NoError(t, err)
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`\$\{?([a-z_]+)`).FindAllStringSubmatch(string(text), -1) {
		used[m[1]] = true
	}
	defined := map[string]bool{}
	for _, v := range d.Templating.List {
		defined[v.Name] = true
		assert.True(t, used[v.Name], "no query uses $%s", v.Name)
		if v.Type == dashboard.VariableTypeQuery {
			assert.Equal(t, "${datasource}", *v.Datasource.Uid)
		}
	}
	assert.True(t, defined["datasource"])
	for name := range maps.Keys(used) {
		assert.True(t, defined[name] || strings.HasPrefix(name, "__"), "$%s is not defined", name)
	}
}

// Links lead to pages that are there.
func TestRunbooksExist(t *testing.T) {
	for _, d := range readAll(t) {
		for _, p := range panelsOf(d) {
			for _, link := range p.Links {
				name, ok := strings.CutPrefix(*link.Url, runbooks)
				require.True(t, ok, *link.Url)
				assert.FileExists(t, filepath.Join("..", "docs", "runbooks", name), *p.Title)
			}
		}
	}
}

// The overview is what people know by name: these seven, in this order, with these thresholds.
func TestOverview(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(folder, "streamhouse-overview.json"))
	require.NoError(t, err)
	d := read(t, text)
	assert.Equal(t, "streamhouse-overview", *d.Uid)
	assert.Equal(t, "StreamHouse Overview", *d.Title)
	assert.Equal(t, "10s", *d.Refresh)
	var titles []string
	at := map[string][]float64{}
	for _, p := range panelsOf(d) {
		titles = append(titles, *p.Title)
		for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
			if step.Value != nil {
				at[*p.Title] = append(at[*p.Title], *step.Value)
			}
		}
	}
	assert.Equal(t, []string{
		"Producer Throughput", "Consumer Throughput", "Consumer Lag", "Producer Latency p50/p95/p99",
		"Agent Active Partitions", "Producer Error Rate", "Average Batch Size",
	}, titles)
	assert.Len(t, d.Panels, 7)
	assert.Equal(t, []float64{1000, 10000}, at["Consumer Lag"])
	assert.Equal(t, []float64{0.05, 0.1}, at["Producer Latency p50/p95/p99"])
}
