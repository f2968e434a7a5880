package dashboards

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// board is what of a dashboard's JSON a browser needs to draw it.
type board struct {
	UID    string  `json:"uid"`
	Title  string  `json:"title"`
	Panels []panel `json:"panels"`

	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []struct {
			Expr string `json:"expr"`
		} `json:"list"`
	} `json:"annotations"`
}

type variable struct {
	Name  string          `json:"name"`
	Type  string          `json:"type"`
	Query json.RawMessage `json:"query"`
	Regex string          `json:"regex"`
}

type panel struct {
	Type        string          `json:"type"`
	Title       string          `json:"title"`
	GridPos     json.RawMessage `json:"gridPos"`
	FieldConfig json.RawMessage `json:"fieldConfig"`
	Options     json.RawMessage `json:"options"`
	Renamed     json.RawMessage `json:"transformations"`
	Targets     []query         `json:"targets"`
}

type query struct {
	RefID   string `json:"refId"`
	Expr    string `json:"expr"`
	Legend  string `json:"legendFormat"`
	Instant bool   `json:"instant"`
}

func readBoards(t *testing.T) (out []board) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(client.Root(), "..", "grafana", "dashboards", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		var b board
		require.NoError(t, json.Unmarshal(text, &b))
		out = append(out, b)
	}
	return out
}

// choices are values of a dashboard's variables, as Grafana writes them into a query: by name, regular expressions
// for those of many values.
type choices map[string]string

// everything is what a dashboard shows when it is opened, but for one job only.
func (b *board) everything(job string, window time.Duration) choices {
	out := choices{"__rate_interval": window.String(), "__range": (2 * window).String()}
	for _, v := range b.Templating.List {
		switch v.Type {
		case "query":
			out[v.Name] = ".*"
		case "textbox":
			out[v.Name] = v.text()
		}
	}
	out["job"] = job
	return out
}

// text is the query of a variable: text, or text in an object.
func (v *variable) text() string {
	var plain string
	if json.Unmarshal(v.Query, &plain) == nil {
		return plain
	}
	var object struct{ Query string }
	_ = json.Unmarshal(v.Query, &object) // what is neither is no text
	return object.Query
}

var reference = regexp.MustCompile(`\$(?:\{(\w+)\}|(\w+))`)

// in replaces the variables of a query.
func (c choices) in(t *testing.T, text string) string {
	t.Helper()
	return reference.ReplaceAllStringFunc(text, func(ref string) string {
		value, ok := c[strings.Trim(ref, "${}")]
		require.True(t, ok, "%s has no value: %s", ref, text)
		return value
	})
}

var legendLabel = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// labels are those a legend names.
func (q *query) labels() (out []string) {
	for _, m := range legendLabel.FindAllStringSubmatch(q.Legend, -1) {
		out = append(out, m[1])
	}
	return out
}
