package devstack

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// stack is a development stack, and where what watches it is.
type stack struct {
	*Stack
	t                        *testing.T
	prometheus, alertmanager string
}

func newStack(t *testing.T) *stack {
	t.Helper()
	s := New(t)
	return &stack{Stack: s, t: t, prometheus: "localhost:" + s.Port("9090"), alertmanager: "localhost:" + s.Port("9093")}
}

func TestTheStackFromPackages(t *testing.T) {
	s := newStack(t)
	out, ok := s.Run("status")
	require.False(t, ok, "nothing runs")
	require.Contains(t, out, "Postgres: not running")

	out = s.Must("start")
	for _, want := range []string{"making a database cluster", "started Postgres", "made database streamhouse_metadata", "started MinIO", "made the private bucket streamhouse-data", "started Prometheus", "started Alertmanager", "started node-exporter", "Grafana"} {
		require.Contains(t, out, want)
	}
	require.Equal(t, http.StatusForbidden, s.anonymous(), "the bucket is private")
	out = s.Must("start")
	require.Contains(t, out, "Postgres runs already")
	for _, name := range []string{"MinIO", "Prometheus", "Alertmanager", "node-exporter"} {
		require.Contains(t, out, name+" runs already")
	}
	require.NotContains(t, out, "made")
	s.Must("status")
	s.watched()

	vars := s.Vars()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "STREAMHOUSE_CATALOG", "STREAMHOUSE_STORE", "STREAMHOUSE_FLUSH_INTERVAL", "STREAMHOUSE_AUTO_CREATE_TOPICS",
	} {
		require.NotEmpty(t, vars[name], name)
		t.Setenv(name, vars[name])
	}
	b := target.Start(t) // on its own ports
	const topic = "kept"
	cl := b.Client(t, kgo.AllowAutoTopicCreation())
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("kept")}).FirstErr())
	b.Stop(t)

	s.Must("stop")
	_, ok = s.Run("status")
	require.False(t, ok)
	out = s.Must("start")
	require.NotContains(t, out, "made", "data stays")
	b.Restart(t)
	require.EqualValues(t, 1, b.Ends(t, topic)[0].End)
	b.Stop(t)

	out = s.Must("reset")
	require.Contains(t, out, "deleted")
	require.Error(t, s.ask(s.prometheus, "/-/ready", nil), "it was stopped")
	_, ok = s.Run("frob")
	require.False(t, ok)
}

// anonymous asks for the bucket without credentials.
func (s *stack) anonymous() int {
	s.t.Helper()
	resp, err := http.Get("http://127.0.0.1:" + s.Port("9000") + "/streamhouse-data")
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}

// watched: Prometheus has the repository's rules, knows all targets by this stack's addresses, and finds Alertmanager.
func (s *stack) watched() {
	s.t.Helper()
	var rules struct {
		Data struct {
			Groups []struct{ Rules []struct{ Name string } }
		}
	}
	require.NoError(s.t, s.ask(s.prometheus, "/api/v1/rules", &rules))
	alerts := 0
	for _, g := range rules.Data.Groups {
		alerts += len(g.Rules)
	}
	require.Equal(s.t, 17, alerts)
	var targets struct {
		Data struct {
			ActiveTargets []struct{ Labels map[string]string }
		}
	}
	var managers struct {
		Data struct{ ActiveAlertmanagers []struct{ URL string } }
	}
	require.Eventually(s.t, func() bool { // files of targets are read in the background
		return s.ask(s.prometheus, "/api/v1/targets", &targets) == nil && s.ask(s.prometheus, "/api/v1/alertmanagers", &managers) == nil &&
			len(targets.Data.ActiveTargets) == 4 && len(managers.Data.ActiveAlertmanagers) == 1
	}, 30*time.Second, 100*time.Millisecond)
	vars := s.Vars()
	at := make(map[string]string)
	for _, t := range targets.Data.ActiveTargets {
		at[t.Labels["job"]] = "http://" + t.Labels["instance"]
	}
	require.Equal(s.t, map[string]string{
		"streamhouse-agents": "http://localhost:" + s.Port("8080"), "node": vars["NODE_EXPORTER_URL"],
		"prometheus": vars["PROMETHEUS_URL"], "minio": "http://localhost:" + s.Port("9000"),
	}, at)
	require.Equal(s.t, vars["ALERTMANAGER_URL"]+"/api/v2/alerts", managers.Data.ActiveAlertmanagers[0].URL)
	require.NoError(s.t, s.ask(s.alertmanager, "/-/ready", nil))
	require.NoError(s.t, s.ask("localhost:"+s.Port("9000"), "/minio/v2/metrics/cluster", nil), "without a token")
}

// ask gets a page, and decodes it unless into is nil.
func (s *stack) ask(addr, path string, into any) error {
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// TestPortsInUseAreNamed: another Postgres on the port is neither used nor stopped.
func TestPortsInUseAreNamed(t *testing.T) {
	s := newStack(t)
	vars := s.Vars()
	_, rest, ok := strings.Cut(vars["STREAMHOUSE_CATALOG"], "@localhost:")
	require.True(t, ok)
	taken, _, _ := strings.Cut(rest, "/")
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+taken)
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	out, ok := s.Run("start")
	require.False(t, ok)
	require.Contains(t, out, "port "+taken+", which Postgres needs, is used by something this script did not start")
}
