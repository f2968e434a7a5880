package dashboards

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// prometheus is a server of the distribution's package.
type prometheus struct{ addr string }

// scraping is the address of each instance, by job and by the instance's name.
type scraping map[string]map[string]string

// startPrometheus runs one until the test ends, and returns once it answers.
func startPrometheus(t *testing.T, jobs scraping) *prometheus {
	t.Helper()
	path := filepath.Join(client.Root(), "..", ".tools", "bin", "prometheus")
	if _, err := os.Stat(path); err != nil {
		path, err = exec.LookPath("prometheus")
		require.NoError(t, err, "Prometheus is missing: make servers, or scripts/need prometheus prometheus")
	}
	dir := t.TempDir()
	var config strings.Builder
	config.WriteString("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n")
	for job, instances := range jobs {
		fmt.Fprintf(&config, "  - job_name: %s\n    static_configs:\n", job)
		for name, addr := range instances {
			fmt.Fprintf(&config, "      - {targets: [%q], labels: {instance: %q}}\n", addr, name)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config.String()), 0o600))
	log, err := os.Create(filepath.Join(dir, "prometheus.log"))
	require.NoError(t, err)
	defer log.Close()
	p := &prometheus{addr: target.FreePorts(t, 1)[0]}
	cmd := exec.Command(path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.addr, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // gone is what it shall be
		_ = cmd.Wait()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("Prometheus said:\n%s", said)
		}
	})
	require.Eventually(t, func() bool {
		_, err := p.get(t.Context(), "/api/v1/query", url.Values{"query": {"vector(1)"}})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	return p
}

// series is one line: values at times in seconds since 1970.
type series struct {
	Labels map[string]string
	Times  []float64
	Values []float64
}

// has says whether any value is a number.
func (s *series) has() bool {
	for _, v := range s.Values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return true
		}
	}
	return false
}

func (p *prometheus) get(ctx context.Context, path string, args url.Values) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.addr+path, strings.NewReader(args.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if strings.HasPrefix(path, "/api/v1/label/") { // takes no POST
		req.Method, req.Body, req.ContentLength, req.URL.RawQuery = http.MethodGet, http.NoBody, 0, args.Encode()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", resp.Status, answer.Error)
	}
	return answer.Data, nil
}

// ask runs a query over a time; between equal ends, at that time.
func (p *prometheus) ask(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]series, error) {
	args := url.Values{"query": {expr}, "start": {unix(from)}, "end": {unix(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', 3, 64)}}
	data, err := p.get(ctx, "/api/v1/query_range", args)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, expr)
	}
	var answer struct {
		ResultType string
		Result     []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("read the answer to %s: %w", expr, err)
	}
	out := make([]series, 0, len(answer.Result))
	for _, r := range answer.Result {
		s := series{Labels: r.Metric}
		for _, pair := range r.Values {
			at, _ := pair[0].(float64)
			text, _ := pair[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("read the answer to %s: %w", expr, err)
			}
			s.Times, s.Values = append(s.Times, at), append(s.Values, value)
		}
		out = append(out, s)
	}
	return out, nil
}

// values are what a variable can be chosen from: the values of a label of the series that a selector matches.
func (p *prometheus) values(ctx context.Context, label, selector string) (out []string, err error) {
	data, err := p.get(ctx, "/api/v1/label/"+label+"/values", url.Values{"match[]": {selector}})
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(data, &out)
	return out, err
}

func unix(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
