package traces_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// settled is longer than a broker keeps spans to itself, 2 s.
const settled = 15 * time.Second

// configuration is Jaeger's default, of what is used here, with ports of its own: the default's are fixed, and a dozen.
const configuration = `
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {metrics: {level: none}}
receivers: {otlp: {protocols: {http: {endpoint: %q}}}}
exporters: {jaeger_storage_exporter: {trace_storage: memory}}
extensions:
  jaeger_storage: {backends: {memory: {memory: {max_traces: 100000}}}}
  jaeger_query: {storage: {traces: memory}, http: {endpoint: %q}, grpc: {endpoint: %q}}
`

// jaeger is a Jaeger that keeps traces in memory. Its methods are for the test's goroutine.
type jaeger struct {
	t              *testing.T
	otlp           string // its endpoint, as a broker is given it
	query          string // of its API
	config, output string // files
	cmd            *exec.Cmd
}

// program is the path of something in .tools/bin.
func program(t *testing.T, name, script string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(client.Root(), "..", ".tools", "bin", name))
	require.NoError(t, err)
	require.FileExists(t, path, "fetch it first: scripts/"+script)
	return path
}

func startJaeger(t *testing.T) *jaeger {
	t.Helper()
	ports, dir := target.FreePorts(t, 3), t.TempDir()
	j := &jaeger{
		t: t, otlp: "http://" + ports[0], query: "http://" + ports[1],
		config: filepath.Join(dir, "jaeger.yaml"), output: filepath.Join(dir, "jaeger.log"),
	}
	require.NoError(t, os.WriteFile(j.config, fmt.Appendf(nil, configuration, ports[0], ports[1], ports[2]), 0o600))
	t.Cleanup(func() {
		if j.cmd != nil {
			j.kill()
		}
		if t.Failed() {
			log, _ := os.ReadFile(j.output) // there may be none
			t.Logf("Jaeger wrote:\n%s", log[max(0, len(log)-4<<10):])
		}
	})
	j.up()
	return j
}

// up starts it and returns once it answers.
func (j *jaeger) up() {
	j.t.Helper()
	out, err := os.OpenFile(j.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(j.t, err)
	defer out.Close()
	cmd := exec.Command(program(j.t, "jaeger", "jaeger"), "--config", j.config)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "OTEL_TRACES_SAMPLER=always_off") // its own requests, which it would send to port 4317
	require.NoError(j.t, cmd.Start())
	j.cmd = cmd
	require.Eventually(j.t, func() bool {
		// Both ports: the API may be there before the receiver.
		return j.answers(j.query+"/api/services") && j.answers(j.otlp)
	}, time.Minute, 20*time.Millisecond, "Jaeger does not start")
}

// answers tells whether anything does.
func (j *jaeger) answers(at string) bool {
	ctx, cancel := context.WithTimeout(j.t.Context(), time.Second)
	defer cancel()
	_, _, err := get(ctx, at)
	return err == nil
}

// kill ends it with SIGKILL: what it had is gone.
func (j *jaeger) kill() {
	_ = j.cmd.Process.Kill() // gone is what it shall be
	_ = j.cmd.Wait()
	j.cmd = nil
}

// freeze has it hang, until it is killed.
func (j *jaeger) freeze() { require.NoError(j.t, j.cmd.Process.Signal(syscall.SIGSTOP)) }

func get(ctx context.Context, at string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// ask asks the query API and decodes the data of its answer.
func (j *jaeger) ask(path string, query url.Values, data any) {
	j.t.Helper()
	status, body, err := get(j.t.Context(), j.query+path+"?"+query.Encode())
	require.NoError(j.t, err)
	require.Equal(j.t, http.StatusOK, status, "%s", body)
	var answer struct {
		Data json.RawMessage
	}
	require.NoError(j.t, json.Unmarshal(body, &answer))
	require.NoError(j.t, json.Unmarshal(answer.Data, data))
}

// span is one as Jaeger tells it.
type span struct {
	TraceID, SpanID, OperationName string
	StartTime, Duration            int64 // µs
	References                     []reference
	Tags                           []tag
	Warnings                       []string

	trace *trace
}

type reference struct{ RefType, TraceID, SpanID string }

type tag struct {
	Key   string
	Value any
}

type trace struct {
	TraceID   string
	Spans     []*span
	Processes map[string]struct {
		ServiceName string
		Tags        []tag
	}
}

// search returns the spans called so, in traces that have one such span with these tags.
func (j *jaeger) search(operation string, tags map[string]string) (found []*span) {
	j.t.Helper()
	query := url.Values{"service": {"streamhouse"}, "operation": {operation}, "limit": {"5000"}}
	tags = maps.Clone(tags)
	wanted := tags["error"]
	delete(tags, "error") // Jaeger's memory, asked for "true", takes that for false
	if len(tags) > 0 {
		text, err := json.Marshal(tags)
		require.NoError(j.t, err)
		query.Set("tags", string(text))
	}
	var traces []*trace
	j.ask("/api/traces", query, &traces)
	for _, tr := range traces {
		for _, s := range tr.Spans {
			s.trace = tr
			if s.OperationName == operation && (wanted == "" || s.tags()["error"] == wanted) {
				found = append(found, s)
			}
		}
	}
	return found
}

// await searches until there are n such spans, and returns them.
func (j *jaeger) await(n int, operation string, tags map[string]string) (found []*span) {
	j.t.Helper()
	require.Eventually(j.t, func() bool {
		found = j.search(operation, tags)
		return len(found) >= n
	}, settled, 100*time.Millisecond, "spans %s %v do not come", operation, tags)
	return found
}

// one is the span that a reference leads to.
func (j *jaeger) one(r reference) *span {
	j.t.Helper()
	var traces []*trace
	j.ask("/api/traces/"+r.TraceID, nil, &traces)
	for _, tr := range traces {
		for _, s := range tr.Spans {
			if s.trace = tr; s.SpanID == r.SpanID {
				return s
			}
		}
	}
	require.Fail(j.t, "a link leads nowhere", "%v", r)
	return nil
}

// tags are a span's by name, as text, without those that are not the broker's.
func (s *span) tags() map[string]string {
	out := make(map[string]string)
	for _, t := range s.Tags {
		switch t.Key {
		case "otel.scope.name", "span.kind":
		default:
			out[t.Key] = fmt.Sprint(t.Value)
		}
	}
	return out
}

func (s *span) kind() string {
	for _, t := range s.Tags {
		if t.Key == "span.kind" {
			return fmt.Sprint(t.Value)
		}
	}
	return ""
}

// children are the spans below s.
func (s *span) children() (out []*span) {
	for _, c := range s.trace.Spans {
		if c.trace = s.trace; c.parent() == s.SpanID {
			out = append(out, c)
		}
	}
	return out
}

func (s *span) parent() string {
	for _, r := range s.References {
		if r.RefType == "CHILD_OF" {
			return r.SpanID
		}
	}
	return ""
}

// links are what it is linked to; Jaeger calls them so.
func (s *span) links() (out []reference) {
	for _, r := range s.References {
		if r.RefType == "FOLLOWS_FROM" {
			out = append(out, r)
		}
	}
	return out
}

// names are those of spans, by the time they began.
func names(spans []*span) (out []string) {
	for _, s := range spans {
		out = append(out, s.OperationName)
	}
	return out
}
