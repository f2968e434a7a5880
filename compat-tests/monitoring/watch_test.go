package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// watch is a Prometheus, an Alertmanager and a node-exporter with the repository's files, sped up. Everything else of the files is
// as it is.
type watch struct {
	t                        *testing.T
	prometheus, alertmanager string // addresses
	mu                       struct {
		sync.Mutex
		told map[string]bool // "receiver alertname", as the receivers heard them
	}
}

const patience = time.Minute

func newWatch(t *testing.T, brokers ...string) *watch {
	t.Helper()
	w := &watch{t: t}
	w.mu.told = make(map[string]bool)
	ports := target.FreePorts(t, 3)
	w.prometheus, w.alertmanager = ports[0], ports[1]
	dir := t.TempDir()

	pages := httptest.NewServer(http.HandlerFunc(w.hear))
	t.Cleanup(pages.Close)
	var am map[string]any
	read(t, repository("prometheus", "alertmanager.yml"), &am)
	for _, r := range am["receivers"].([]any) {
		receiver := r.(map[string]any)
		receiver["webhook_configs"] = []any{map[string]any{"url": pages.URL + "/" + receiver["name"].(string)}}
	}
	var quick func(route map[string]any)
	quick = func(route map[string]any) {
		route["group_wait"], route["group_interval"] = "0s", "1s"
		routes, _ := route["routes"].([]any)
		for _, r := range routes {
			quick(r.(map[string]any))
		}
	}
	quick(am["route"].(map[string]any))
	write(t, filepath.Join(dir, "alertmanager.yml"), am)

	var prom map[string]any
	read(t, repository("prometheus", "prometheus.yml"), &prom)
	global := prom["global"].(map[string]any)
	require.Equal(t, "15s", global["scrape_interval"])
	global["scrape_interval"], global["scrape_timeout"], global["evaluation_interval"] = "1s", "1s", "1s"
	for _, c := range prom["scrape_configs"].([]any) {
		delete(c.(map[string]any), "dns_sd_configs") // names that only containers have: this network may have others by them
	}
	write(t, filepath.Join(dir, "prometheus.yml"), prom)
	rules, err := os.ReadFile(repository("prometheus", "alerts.yml"))
	require.NoError(t, err)
	rules = regexp.MustCompile(`(?m)^( +)interval: 30s$`).ReplaceAll(rules, []byte("${1}interval: 1s"))
	rules = regexp.MustCompile(`(?m)^( +)for: [0-9]+m$`).ReplaceAll(rules, []byte("${1}for: 5s"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "alerts.yml"), rules, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "targets"), 0o700))
	for name, targets := range map[string][]string{
		"agents": brokers, "node": ports[2:], "prometheus": ports[:1], "alertmanager": ports[1:2], "minio": {},
	} {
		write(t, filepath.Join(dir, "targets", name+".yml"), []any{map[string]any{"targets": targets}})
	}

	start(t, "node_exporter", "--no-collector.systemd", "--no-collector.textfile", "--web.listen-address="+ports[2])
	start(t, "alertmanager", "--config.file="+filepath.Join(dir, "alertmanager.yml"), "--storage.path="+filepath.Join(dir, "alerts"),
		"--web.listen-address="+w.alertmanager, "--cluster.listen-address=")
	start(t, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+w.prometheus)
	w.until("Prometheus is ready", func() bool { return w.get(w.prometheus, "/-/ready", nil, nil) == nil })
	w.until("Alertmanager is ready", func() bool { return w.get(w.alertmanager, "/-/ready", nil, nil) == nil })
	return w
}

// start starts a program that must end well on SIGTERM when the test ends.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(tool(t, name), args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		if t.Failed() {
			t.Logf("%s ended: %v\n%s", name, err, log.String()[max(0, log.Len()-4000):])
		}
	})
}

// hear is a receiver of alerts, named by the path.
func (w *watch) hear(_ http.ResponseWriter, r *http.Request) {
	var message struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	if json.NewDecoder(r.Body).Decode(&message) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range message.Alerts {
		if a.Status == "firing" {
			w.mu.told[strings.TrimPrefix(r.URL.Path, "/")+" "+a.Labels["alertname"]] = true
		}
	}
}

func (w *watch) told(receiver, alert string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.told[receiver+" "+alert]
}

func (w *watch) until(what string, done func() bool) {
	w.t.Helper()
	require.Eventually(w.t, done, patience, 100*time.Millisecond, what)
}

// get asks addr and decodes its answer. Anything but 200 is an error.
func (w *watch) get(addr, path string, query url.Values, into any) error {
	resp, err := http.Get("http://" + addr + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s: %w", path, resp.Status, body, err)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

type sample struct {
	Metric map[string]string
	Value  [2]any
}

// query is the answer to an instant query, which must be one that Prometheus understands.
func (w *watch) query(expr string) []sample {
	w.t.Helper()
	var answer struct {
		Data struct{ Result json.RawMessage }
	}
	require.NoError(w.t, w.get(w.prometheus, "/api/v1/query", url.Values{"query": {expr}}, &answer), expr)
	var samples []sample
	_ = json.Unmarshal(answer.Data.Result, &samples) // else it is a scalar
	return samples
}

type ruleState struct {
	Name, State, Health, LastError string
	Alerts                         []struct {
		Labels, Annotations map[string]string
		State               string
	}
}

func (w *watch) rules() map[string]ruleState {
	w.t.Helper()
	var answer struct {
		Data struct{ Groups []struct{ Rules []ruleState } }
	}
	require.NoError(w.t, w.get(w.prometheus, "/api/v1/rules", nil, &answer))
	all := make(map[string]ruleState)
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			all[r.Name] = r
		}
	}
	return all
}

// TestPrometheusWatchesABroker: a real broker with records and a group that is behind, watched by the repository's files; then
// the broker dies.
func TestPrometheusWatchesABroker(t *testing.T) {
	b := target.Start(t)
	const topic, group = "orders", "reports"
	fallBehind(t, b, topic, group, 12_000)
	w := newWatch(t, b.HTTP())

	w.until("the broker is scraped", func() bool {
		up := w.query(`up{job="streamhouse-agents"}`)
		return len(up) == 1 && up[0].Value[1] == "1" && up[0].Metric["instance"] == b.HTTP()
	})
	seen := make(map[string]bool)
	w.until("the group's lag is pending, then firing", func() bool {
		for _, a := range w.rules()["HighConsumerLag"].Alerts {
			require.Equal(t, map[string]string{
				"alertname": "HighConsumerLag", "severity": "warning", "component": "consumer", "group_id": group, "topic": topic, "partition": "0",
			}, a.Labels)
			require.Contains(t, a.Annotations["description"], "11900 records behind on partition 0 of orders")
			seen[a.State] = true
		}
		return seen["pending"] && seen["firing"]
	})
	w.until("the consumer's people are told", func() bool { return w.told("consumer", "HighConsumerLag") })
	require.False(t, w.told("on-call", "HighConsumerLag"), "nobody is woken by a warning")

	all := alerts(t)
	w.until("all rules were evaluated", func() bool {
		states := w.rules()
		for _, r := range all {
			s := states[r.Alert]
			require.Empty(t, s.LastError, r.Alert)
			if s.Health != "ok" {
				return false
			}
		}
		return len(states) == len(all)
	})
	for _, r := range all {
		for _, name := range metricName.FindAllString(r.Expr, -1) {
			require.NotEmpty(t, w.query(name), "%s asks for %s, which nobody exports", r.Alert, name)
		}
	}
	for _, expr := range runbookQueries(t) {
		w.query(expr)
	}
	t.Run("inhibition", w.inhibition)

	b.Kill(t)
	w.until("on-call is told that the broker is down", func() bool { return w.told("on-call", "AgentDown") })
	w.until("so are the agent's people", func() bool { return w.told("agent", "AgentDown") })
}

// fallBehind writes records, and has a group read and commit a hundred of them. One batch is refused, so that errors are counted.
func fallBehind(t *testing.T, b *target.Broker, topic, group string, records int) {
	t.Helper()
	cl := b.Client(t, kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic(topic))
	batch := make([]*kgo.Record, records)
	for i := range batch {
		batch[i] = &kgo.Record{Value: []byte("record")}
	}
	require.NoError(t, cl.ProduceSync(t.Context(), batch...).FirstErr())

	reader := b.Client(t, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fetches := reader.PollRecords(t.Context(), 100)
	require.NoError(t, fetches.Err())
	require.Equal(t, 100, fetches.NumRecords())
	require.NoError(t, reader.CommitRecords(t.Context(), fetches.Records()...))
	reader.Close()

	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = make([]byte, 100)
	bad := kmsg.NewPtrProduceRequest()
	bad.Acks, bad.TimeoutMillis = -1, 1000
	bad.SetVersion(9) // topics by name
	bad.Topics = append(bad.Topics, kmsg.ProduceRequestTopic{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{part}})
	raw := b.Client(t, kgo.MaxVersions(versions(9)))
	answer, err := raw.SeedBrokers()[0].Request(t.Context(), bad)
	require.NoError(t, err)
	require.Error(t, kerr.ErrorForCode(answer.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode))
}

// inhibition: what is critical silences the warnings about the same thing, and no others.
func (w *watch) inhibition(t *testing.T) {
	type labels = map[string]string
	orders := func(l labels) labels {
		for k, v := range (labels{"group_id": "g", "topic": "orders", "partition": "7"}) {
			if l[k] == "" {
				l[k] = v
			}
		}
		l["component"] = "consumer"
		return l
	}
	atA := func(name, severity, component, topic string) labels {
		l := labels{"alertname": name, "severity": severity, "component": component, "instance": "a:1"}
		if topic != "" {
			l["topic"] = topic
		}
		return l
	}
	disk := atA("DiskSpaceLow", "critical", "system", "")
	disk["mountpoint"] = "/"
	posted := []struct {
		labels     labels
		suppressed bool
	}{
		{orders(labels{"alertname": "CriticalConsumerLag", "severity": "critical"}), false},
		{orders(labels{"alertname": "HighConsumerLag", "severity": "warning"}), true},
		{orders(labels{"alertname": "ConsumerStalled", "severity": "warning"}), true},
		{orders(labels{"alertname": "HighConsumerLag", "severity": "warning", "partition": "8"}), false},
		{orders(labels{"alertname": "HighConsumerLag", "severity": "warning", "group_id": "h"}), false},
		{atA("CriticalProducerErrorRate", "critical", "producer", "orders"), false},
		{atA("HighProducerErrorRate", "warning", "producer", "orders"), true},
		{atA("HighProducerErrorRate", "warning", "producer", "clicks"), false},
		{atA("HighAgentWriteLatency", "warning", "agent", "orders"), false},
		{atA("AgentDown", "critical", "agent", ""), false},
		{atA("AgentNotReady", "warning", "agent", ""), true},
		{disk, false},
		{atA("HighCPUUsage", "warning", "system", ""), false},
	}
	var body []map[string]any
	for _, p := range posted {
		p.labels["posted"] = "yes"
		body = append(body, map[string]any{"labels": p.labels})
	}
	text, err := json.Marshal(body)
	require.NoError(t, err)
	resp, err := http.Post("http://"+w.alertmanager+"/api/v2/alerts", "application/json", bytes.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var all []struct {
		Labels labels
		Status struct {
			State       string
			InhibitedBy []string
		}
	}
	silenced := func() map[string]bool {
		require.NoError(t, w.get(w.alertmanager, "/api/v2/alerts", url.Values{"filter": {`posted="yes"`}}, &all))
		out := make(map[string]bool)
		for _, a := range all {
			out[fmt.Sprint(a.Labels)] = len(a.Status.InhibitedBy) > 0
		}
		return out
	}
	want := make(map[string]bool)
	for _, p := range posted {
		want[fmt.Sprint(p.labels)] = p.suppressed
	}
	// What silences what is worked out a moment after alerts came in.
	w.until(fmt.Sprintf("alerts are silenced as wanted: %v", want), func() bool { return maps.Equal(want, silenced()) })
}

// TestMetricsAreClean: Prometheus' own linter has nothing to say of a broker that works.
func TestMetricsAreClean(t *testing.T) {
	b := target.Start(t)
	fallBehind(t, b, "orders", "reports", 1000)
	resp, err := http.Get("http://" + b.HTTP() + "/metrics")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `streamhouse_consumer_lag_records{group_id="reports"`)
	cmd := exec.Command(tool(t, "promtool"), "check", "metrics")
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Empty(t, string(out))
}

// runbookQueries are the lines of PromQL that runbooks show.
func runbookQueries(t *testing.T) (all []string) {
	t.Helper()
	files, err := filepath.Glob(repository("docs", "runbooks", "*.md"))
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("(?s)```promql\n(.*?)\n```").FindAllStringSubmatch(string(text), -1) {
			all = append(all, strings.Split(strings.TrimSpace(m[1]), "\n")...)
		}
	}
	require.Greater(t, len(all), 17)
	return all
}

// versions bounds the version of Produce.
func versions(produce int16) *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(kmsg.Produce.Int16(), produce)
	return v
}
