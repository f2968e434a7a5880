package pages_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/devstack"
)

// terminals are the two in which a reader types.
type terminals struct {
	stack  *devstack.Stack
	env    []string
	kept   []string // lines that stay in force
	pid    string   // file with the broker's process id
	broker *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

func newTerminals(t *testing.T, s *devstack.Stack) *terminals {
	t.Helper()
	binary := os.Getenv("COMPAT_BINARY")
	if binary == "" {
		binary = repository("bin", "streamhouse")
	}
	require.FileExists(t, binary, "build it first: make build")
	binary, err := filepath.Abs(binary)
	require.NoError(t, err)
	bin := t.TempDir()
	require.NoError(t, os.Symlink(binary, filepath.Join(bin, "streamhouse")))
	w := &terminals{stack: s, pid: filepath.Join(bin, "pid")}
	for name, script := range map[string]string{
		// The page's kill must not find somebody else's broker.
		"pgrep":    "[ \"$*\" = '-x streamhouse' ] && exec cat '" + w.pid + "'",
		"xdg-open": "exec curl -fsS \"$1\"",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	}
	broker, http := "localhost:"+s.Port("9092"), "localhost:"+s.Port("8080")
	for _, v := range s.Env {
		if !strings.HasPrefix(v, "STREAMHOUSE_") {
			w.env = append(w.env, v)
		}
	}
	w.env = append(w.env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "LC_ALL=C.UTF-8",
		"STREAMHOUSE_DATA_DIR="+filepath.Join(t.TempDir(), "data"), "STREAMHOUSE_GROUP_INITIAL_REBALANCE_DELAY=0s", "STREAMHOUSE_BINARY="+binary,
		// What a page does not name is its default.
		"STREAMHOUSE_ADDR="+broker, "STREAMHOUSE_ADVERTISED_ADDR="+broker, "STREAMHOUSE_HTTP_ADDR="+http, "STREAMHOUSE_BOOTSTRAP="+broker)
	t.Cleanup(func() {
		w.stop(t)
		if t.Failed() {
			t.Logf("the last broker wrote:\n%s", w.output.String())
		}
	})
	return w
}

// begin is a new page: with new terminals.
func (w *terminals) begin() { w.kept = nil }

func (w *terminals) keep(line string) { w.kept = append(w.kept, w.here(line)) }

// here puts this stack's ports and environment file in place of the page's.
func (w *terminals) here(command string) string {
	return strings.ReplaceAll(w.stack.Ports.Replace(command), "source .env.dev", "source '"+w.stack.File+"'")
}

func (w *terminals) command(ctx context.Context, line string) *exec.Cmd {
	script := strings.Join(append(append([]string{"set -e"}, w.kept...), w.here(line)), "\n")
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = repository(), w.env
	return cmd
}

// serve runs a broker in the first terminal, after ending the one that runs there, and waits until it is ready.
func (w *terminals) serve(t *testing.T, command string) {
	t.Helper()
	w.stop(t)
	w.output.Reset()
	cmd := w.command(context.Background(), "exec "+command)
	cmd.Stdout, cmd.Stderr = &w.output, &w.output
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		close(exited)
	}()
	w.broker, w.exited = cmd, exited
	require.NoError(t, os.WriteFile(w.pid, fmt.Appendln(nil, cmd.Process.Pid), 0o600))
	require.Eventually(t, func() bool {
		select {
		case <-exited:
			return true
		default:
			return w.ready()
		}
	}, within, 20*time.Millisecond, "the broker is not ready")
	if !w.ready() {
		<-exited
		w.broker = nil
		require.Fail(t, "the broker ended", w.output.String())
	}
}

func (w *terminals) ready() bool {
	resp, err := http.Get("http://localhost:" + w.stack.Port("8080") + "/ready")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stop is Ctrl-C in the first terminal, where a broker runs that the page has not killed.
func (w *terminals) stop(t *testing.T) {
	t.Helper()
	if w.broker == nil {
		return
	}
	broker := w.broker
	w.broker = nil
	err := broker.Process.Signal(syscall.SIGINT)
	select {
	case <-w.exited:
	case <-time.After(within):
		_ = broker.Process.Kill() // already a failure
		require.Fail(t, "the broker did not end")
	}
	status, ok := broker.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	killed := status.Signaled() && status.Signal() == syscall.SIGKILL
	require.True(t, killed || (err == nil && broker.ProcessState.Success()), "the broker ended badly: %s", broker.ProcessState)
}

// expect runs a command of the second terminal, which must succeed and print all that is wanted; one that only asks may do so at last.
func (w *terminals) expect(t *testing.T, command string, wants []*regexp.Regexp) {
	t.Helper()
	until := time.Now().Add(patience)
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		out, said, err := w.run(t, command)
		missing := (*regexp.Regexp)(nil)
		for _, want := range wants {
			if !want.MatchString(out) {
				missing = want
			}
		}
		if err == nil && missing == nil {
			return
		}
		if !asks.MatchString(command) || time.Now().After(until) {
			require.NoError(t, err, "%s\n%s\n%s", command, out, said)
			require.Nil(t, missing, "%s\nprinted\n%s\n%s\nnot %s", command, out, said, missing)
		}
		<-tick.C
	}
}

// run returns standard output, standard error and whether the command succeeded.
func (w *terminals) run(t *testing.T, command string) (out, said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := w.command(ctx, command)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}
