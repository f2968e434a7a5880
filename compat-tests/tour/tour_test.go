package tour_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// The addresses the README uses.
const (
	kafkaAddr = "127.0.0.1:9092"
	httpAddr  = "127.0.0.1:8080"
)

// within is how long one command may take.
const within = time.Minute

// expected says, by a part of the command, what it must print. Every command
// needs an entry, and every entry a command.
var expected = []struct{ command, output string }{
	{`kcat -b 127.0.0.1:9092 -P -t greetings`, `^$`},
	{`kcat -b 127.0.0.1:9092 -C -t greetings -e -f '%p/%o %k=%s\n'`, `^0/0 alice=1\n0/1 bob=2\n0/2 alice=3\n$`},
	{`kcat -b 127.0.0.1:9092 -L`, `topic "greetings" with 1 partitions`},
	{`-Q -t greetings:0:$(date`, `offset 0`},
	{`-Q -t greetings:0:-1`, `offset 3`},
	{`-o s@$(date`, `^0 alice=1\n1 bob=2\n2 alice=3\n$`},
	{`kill -9`, `^$`},
	{`topic create orders`, `orders`},
	{`topic describe orders`, `(?s)orders.*2097152`},
	{`produce orders`, ``},
	{`consume orders --format`, `(?m)^\d/0 k1: v1$`},
	{`consume orders --offset @1h`, `"v2"`},
	{`topic list`, `(?s)greetings.*orders`},
	{`bench produce`, `99`},
	{`bench consume`, `MB/s`},
	{`bench e2e`, `99`},
	{`/ready`, `ready`},
	{`/metrics`, `(?m)^streamhouse_flush_objects_total [1-9]`},
	{`streamhouse inspect`, `objects`},
	{`streamhouse verify`, ``},
}

func TestTour(t *testing.T) {
	blocks := readBlocks(t, "Five minutes with kcat")
	require.GreaterOrEqual(t, len(blocks), 5, "blocks of the tour")
	term := newTerminals(t)
	used := map[string]bool{}
	for _, b := range blocks {
		if strings.Contains(b.before, "the broker stopped") {
			term.stop(t)
		}
		for _, command := range b.commands {
			words, _, _ := strings.Cut(command, "#")
			if strings.TrimSpace(words) == "streamhouse serve" {
				term.serve(t, command)
				continue
			}
			out := term.run(t, command)
			entries := 0
			for _, e := range expected {
				if strings.Contains(command, e.command) {
					require.Regexp(t, e.output, out, "what %q prints", command)
					used[e.command] = true
					entries++
				}
			}
			require.Positive(t, entries, "nothing is expected of %q: add what it must print", command)
		}
	}
	for _, e := range expected {
		require.True(t, used[e.command], "README.md no longer has a command with %q", e.command)
	}
}

// terminals are the two in which a reader of the page types.
type terminals struct {
	dir     string
	env     []string
	replace *strings.Replacer
	http    string
	pid     string // file that holds the broker's process id
	broker  *exec.Cmd
	output  bytes.Buffer
	exited  chan struct{}
}

func newTerminals(t *testing.T) *terminals {
	t.Helper()
	binary := os.Getenv("COMPAT_BINARY")
	if binary == "" {
		binary = filepath.Join(client.Root(), "..", "bin", "streamhouse")
	}
	require.FileExists(t, binary, "build it first: make build")
	binary, err := filepath.Abs(binary)
	require.NoError(t, err)
	bin := t.TempDir()
	require.NoError(t, os.Symlink(binary, filepath.Join(bin, "streamhouse")))
	pid := filepath.Join(bin, "pid")
	// The page's kill must not find somebody else's broker.
	pgrep := "#!/bin/sh\n[ \"$*\" = '-x streamhouse' ] && exec cat '" + pid + "'\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "pgrep"), []byte(pgrep), 0o700))

	w := &terminals{dir: t.TempDir(), pid: pid, http: httpAddr, replace: strings.NewReplacer()}
	w.env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "LC_ALL=C.UTF-8")
	if os.Getenv("COMPAT_TOUR_PORTS") == "free" || taken(t, kafkaAddr) || taken(t, httpAddr) {
		free := target.FreePorts(t, 2)
		t.Logf("not on the README's ports, but on %s and %s", free[0], free[1])
		w.http = free[1]
		w.replace = strings.NewReplacer(kafkaAddr, free[0], httpAddr, free[1])
		w.env = append(w.env, "STREAMHOUSE_ADDR="+free[0], "STREAMHOUSE_HTTP_ADDR="+free[1], "STREAMHOUSE_BOOTSTRAP="+free[0])
	}
	t.Cleanup(func() {
		if w.broker != nil {
			w.stop(t)
		}
		if t.Failed() {
			t.Logf("the broker wrote:\n%s", w.output.String())
		}
	})
	return w
}

func taken(t *testing.T, addr string) bool {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return true
	}
	require.NoError(t, l.Close())
	return false
}

// serve runs a command of the first terminal and waits until the broker is
// ready.
func (w *terminals) serve(t *testing.T, command string) {
	t.Helper()
	if w.broker != nil { // the line before killed it
		w.await(t)
	}
	w.output.Reset()
	cmd := exec.Command("bash", "-c", "exec "+w.replace.Replace(command))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.dir, w.env, &w.output, &w.output
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		close(exited)
	}()
	w.broker, w.exited = cmd, exited
	require.NoError(t, os.WriteFile(w.pid, fmt.Appendln(nil, cmd.Process.Pid), 0o600))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(within)
	for !w.ready(t) {
		select {
		case <-exited:
			w.broker = nil
			require.Fail(t, "the broker ended", "%s: %s", command, w.output.String())
		case <-limit:
			require.Fail(t, "the broker was not ready")
		case <-tick.C:
		}
	}
}

func (w *terminals) ready(t *testing.T) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.http+"/ready", http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// await waits for a broker that was told to end.
func (w *terminals) await(t *testing.T) {
	t.Helper()
	select {
	case <-w.exited:
	case <-time.After(within):
		_ = w.broker.Process.Kill() // already a failure
		require.Fail(t, "the broker did not end")
	}
	w.broker = nil
}

// stop is Ctrl-C in the first terminal.
func (w *terminals) stop(t *testing.T) {
	t.Helper()
	broker := w.broker
	require.NoError(t, broker.Process.Signal(syscall.SIGINT))
	w.await(t)
	require.True(t, broker.ProcessState.Success(), "the broker ended badly: %s", broker.ProcessState)
}

// run runs a command of the second terminal and returns its standard output.
func (w *terminals) run(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", w.replace.Replace(command))
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.dir, w.env, &out, &errs
	err := cmd.Run()
	require.NoError(t, err, "%s\n%s\n%s", command, out.String(), errs.String())
	return out.String()
}
