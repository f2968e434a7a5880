package dashboards

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// pixels of a picture: 24 columns, and rows of 36, as page/draw.js lays panels out.
const (
	pictureWidth = 1440
	rowHeight    = 36
	headHeight   = 62
	largest      = 300 << 10
)

// TestPictures is no check of anything: it draws docs/images/*.png anew. See doc.go.
func TestPictures(t *testing.T) {
	folder := os.Getenv("DASHBOARDS_PICTURES")
	if folder == "" {
		// It checks nothing, it writes docs/images for minutes: a tool, in a test for the sake of the load it shares.
		t.Skip("draws pictures: make dashboard-pictures")
	}
	lasting, err := time.ParseDuration(os.Getenv("DASHBOARDS_FOR"))
	if err != nil {
		lasting = 5 * time.Minute
	}
	browser, err := exec.LookPath("chromium")
	require.NoError(t, err, "scripts/need chromium chromium")
	require.DirExists(t, filepath.Join(client.Root(), "dashboards", "page", "node_modules", "uplot"), "npm ci --prefix compat-tests/dashboards/page")

	s := stack.Start(t, stack.Options{Brokers: 3, Flags: []string{"--flush-interval", "50ms", "--tail-cache-bytes", "1MiB", "--cache-bytes", "4MiB"}})
	p := startPrometheus(t, scraping{clusterJob: addresses(s)})
	l := startLoad(t, s.Seeds(), lasting*2/5)
	pause(t.Context(), 2*window) // rates need a past
	begin := time.Now()
	event := func(at float64) { pause(t.Context(), time.Until(begin.Add(time.Duration(at*float64(lasting))))) }

	event(0.25)
	l.trip(t)
	event(0.35)
	s.Store.Refuse(0.1)
	event(0.4)
	s.Store.Heal()
	event(0.5)
	require.NoError(t, s.Brokers[2].Kill())
	event(0.6)
	require.NoError(t, s.Brokers[2].Start(t.Context()))
	l.more(t)
	event(1)

	end := time.Now()
	for _, b := range readBoards(t) {
		draw(t, browser, folder, p, &b, begin, end)
	}
}

// answered is a panel as page/draw.js reads it: its JSON, its queries with what Prometheus answered.
type answered struct {
	panel

	Targets []answeredQuery `json:"targets"`
}

type answeredQuery struct {
	query

	Series []drawn `json:"series"`
}

// drawn is a series in JSON, which has no NaN.
type drawn struct {
	Labels map[string]string
	Times  []float64
	Values []*float64
}

func draw(t *testing.T, browser, folder string, p *prometheus, b *board, begin, end time.Time) {
	t.Helper()
	step := max(time.Second, (end.Sub(begin) / 240).Round(time.Second))
	chosen := b.everything(clusterJob, window)
	chosen["__range"] = fmt.Sprintf("%ds", int(end.Sub(begin).Seconds()))
	page := struct {
		Title  string     `json:"title"`
		Note   string     `json:"note"`
		From   int64      `json:"from"`
		To     int64      `json:"to"`
		Step   float64    `json:"step"`
		Panels []answered `json:"panels"`
	}{
		Title: b.Title,
		Note: fmt.Sprintf("Drawn from the queries of grafana/dashboards/%s.json by Prometheus, %s to %s UTC. This is not Grafana.",
			b.UID, begin.UTC().Format("2006-01-02 15:04"), end.UTC().Format("15:04")),
		From: begin.Unix(), To: end.Unix(), Step: step.Seconds(),
	}
	rows := 0
	for _, panel := range b.Panels {
		a := answered{panel: panel}
		for _, q := range panel.Targets {
			from := begin.Truncate(time.Second)
			if q.Instant {
				from = end
			}
			found, err := p.ask(t.Context(), chosen.in(t, q.Expr), from, end, step)
			require.NoError(t, err)
			aq := answeredQuery{query: q}
			for _, s := range found {
				d := drawn{Labels: s.Labels, Times: s.Times}
				for _, v := range s.Values {
					if math.IsNaN(v) || math.IsInf(v, 0) {
						d.Values = append(d.Values, nil)
						continue
					}
					d.Values = append(d.Values, &v)
				}
				aq.Series = append(aq.Series, d)
			}
			a.Targets = append(a.Targets, aq)
		}
		page.Panels = append(page.Panels, a)
		var at struct{ Y, H int }
		require.NoError(t, json.Unmarshal(panel.GridPos, &at))
		rows = max(rows, at.Y+at.H)
	}
	text, err := json.Marshal(page)
	require.NoError(t, err)
	dir := t.TempDir()
	for _, name := range []string{"page.html", "draw.js", "node_modules"} {
		require.NoError(t, os.Symlink(filepath.Join(client.Root(), "dashboards", "page", name), filepath.Join(dir, name)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.js"), append([]byte("const DATA = "), text...), 0o600))
	to := filepath.Join(folder, b.UID+".png")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	cmd := exec.CommandContext(t.Context(), browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
		"--allow-file-access-from-files", "--user-data-dir="+filepath.Join(dir, "profile"),
		fmt.Sprintf("--window-size=%d,%d", pictureWidth, headHeight+rows*rowHeight), "--screenshot="+to, "file://"+filepath.Join(dir, "page.html"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.CommandContext(t.Context(), "pngquant", "--nofs", "--force", "--ext", ".png", "64", to).CombinedOutput()
	require.NoError(t, err, "scripts/need pngquant pngquant: %s", out)
	info, err := os.Stat(to)
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64(largest), to)
	if keep := os.Getenv("DASHBOARDS_DATA"); keep != "" { // to work on page/ without another load
		require.NoError(t, os.MkdirAll(keep, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(keep, b.UID+".js"), append([]byte("const DATA = "), text...), 0o600))
	}
	t.Logf("%s: %d bytes", to, info.Size())
}
