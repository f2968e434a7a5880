package devstack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// stack is a development stack of its own.
type stack struct {
	t         *testing.T
	env       []string
	minioPort string
	// Addresses of what watches.
	prometheus, alertmanager string
}

func newStack(t *testing.T) *stack {
	t.Helper()
	root := filepath.Join(client.Root(), "..")
	text, err := os.ReadFile(filepath.Join(root, ".env.dev"))
	require.NoError(t, err)
	s := &stack{t: t}
	postgres := port(t)
	s.minioPort = twoPorts(t)
	ports := target.FreePorts(t, 6)
	for i, p := range ports {
		ports[i] = strings.Replace(p, "127.0.0.1:", "localhost:", 1)
	}
	s.prometheus, s.alertmanager = ports[0], ports[1]
	env := string(text)
	for from, to := range map[string]string{
		"localhost:5432/": "localhost:" + postgres + "/", "localhost:9000": "localhost:" + s.minioPort, "localhost:9090": ports[0],
		"localhost:9093": ports[1], "localhost:9100": ports[2], "localhost:3000": ports[3], "0.0.0.0:8080": ports[4],
		"0.0.0.0:9092": ports[5], "localhost:9092": ports[5],
	} {
		require.Contains(t, env, from)
		env = strings.ReplaceAll(env, from, to)
	}
	dir, err := os.MkdirTemp("", "streamhouse-devstack-") //nolint:usetesting // Postgres runs as somebody else, to whom t.TempDir is closed
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	file := filepath.Join(dir, "env")
	require.NoError(t, os.WriteFile(file, []byte(env), 0o600))
	s.env = append(os.Environ(), "DEV_STACK=packages", "DEV_ENV="+file, "DEV_DIR="+filepath.Join(dir, "dev"))
	t.Cleanup(func() { s.run("reset") })
	return s
}

func port(t *testing.T) string {
	t.Helper()
	_, p, err := net.SplitHostPort(target.FreePorts(t, 1)[0])
	require.NoError(t, err)
	return p
}

// twoPorts finds a free port whose successor, the console's, is free too.
func twoPorts(t *testing.T) string {
	t.Helper()
	for range 50 {
		p := port(t)
		var n int
		_, err := fmt.Sscan(p, &n)
		require.NoError(t, err)
		if ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf(":%d", n+1)); err == nil {
			require.NoError(t, ln.Close())
			return p
		}
	}
	t.Fatal("found no two free ports beside each other")
	return ""
}

// run runs the script and returns what it said, and whether it succeeded.
func (s *stack) run(command string) (string, bool) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(client.Root(), "..", "scripts", "dev-setup.sh"), command)
	cmd.Env = s.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	s.t.Logf("dev-setup.sh %s: %v\n%s", command, err, &out)
	return out.String(), err == nil
}

func (s *stack) must(command string) string {
	s.t.Helper()
	out, ok := s.run(command)
	require.True(s.t, ok, command)
	return out
}

// sourced are the variables of the environment file, as a shell has them.
func (s *stack) sourced() map[string]string {
	s.t.Helper()
	cmd := exec.Command("bash", "-c", `source "$DEV_ENV" && env -0`)
	cmd.Env = s.env
	out, err := cmd.Output()
	require.NoError(s.t, err)
	vars := make(map[string]string)
	for kv := range strings.SplitSeq(string(out), "\x00") {
		if name, value, ok := strings.Cut(kv, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

func TestTheStackFromPackages(t *testing.T) {
	s := newStack(t)
	out, ok := s.run("status")
	require.False(t, ok, "nothing runs")
	require.Contains(t, out, "Postgres: not running")

	out = s.must("start")
	for _, want := range []string{"making a database cluster", "started Postgres", "made database streamhouse_metadata", "started MinIO", "made the private bucket streamhouse-data", "started Prometheus", "started Alertmanager", "started node-exporter", "Grafana"} {
		require.Contains(t, out, want)
	}
	require.Equal(t, http.StatusForbidden, s.anonymous(), "the bucket is private")
	out = s.must("start")
	require.Contains(t, out, "Postgres runs already")
	for _, name := range []string{"MinIO", "Prometheus", "Alertmanager", "node-exporter"} {
		require.Contains(t, out, name+" runs already")
	}
	require.NotContains(t, out, "made")
	s.must("status")
	s.watched()

	vars := s.sourced()
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

	s.must("stop")
	_, ok = s.run("status")
	require.False(t, ok)
	out = s.must("start")
	require.NotContains(t, out, "made", "data stays")
	b.Restart(t)
	require.EqualValues(t, 1, b.Ends(t, topic)[0].End)
	b.Stop(t)

	out = s.must("reset")
	require.Contains(t, out, "deleted")
	require.Error(t, s.ask(s.prometheus, "/-/ready", nil), "it was stopped")
	_, ok = s.run("frob")
	require.False(t, ok)
}

// anonymous asks for the bucket without credentials.
func (s *stack) anonymous() int {
	s.t.Helper()
	resp, err := http.Get("http://127.0.0.1:" + s.minioPort + "/streamhouse-data")
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
	vars := s.sourced()
	at := make(map[string]string)
	for _, t := range targets.Data.ActiveTargets {
		at[t.Labels["job"]] = "http://" + t.Labels["instance"]
	}
	require.Equal(s.t, map[string]string{
		"streamhouse-agents": "http://" + vars["STREAMHOUSE_HTTP_ADDR"], "node": vars["NODE_EXPORTER_URL"],
		"prometheus": vars["PROMETHEUS_URL"], "minio": "http://localhost:" + s.minioPort,
	}, at)
	require.Equal(s.t, vars["ALERTMANAGER_URL"]+"/api/v2/alerts", managers.Data.ActiveAlertmanagers[0].URL)
	require.NoError(s.t, s.ask(s.alertmanager, "/-/ready", nil))
	require.NoError(s.t, s.ask("localhost:"+s.minioPort, "/minio/v2/metrics/cluster", nil), "without a token")
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
	vars := s.sourced()
	_, rest, ok := strings.Cut(vars["STREAMHOUSE_CATALOG"], "@localhost:")
	require.True(t, ok)
	taken, _, _ := strings.Cut(rest, "/")
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+taken)
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	out, ok := s.run("start")
	require.False(t, ok)
	require.Contains(t, out, "port "+taken+", which Postgres needs, is used by something this script did not start")
}
