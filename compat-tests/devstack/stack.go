package devstack

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// Stack is a development stack of its own: a folder, an environment file, and free ports in place of those of .env.dev. It is
// removed when the test ends.
type Stack struct {
	// Env is the environment in which scripts/dev-setup.sh works on this stack.
	Env []string
	// File is its environment file, in place of .env.dev, and Dir where its data is.
	File, Dir string
	// Ports replaces the ports of .env.dev, where they are behind "localhost:" or "0.0.0.0:", by this stack's.
	Ports *strings.Replacer

	t     *testing.T
	ports map[string]string
}

// envPorts are the ports of .env.dev that are replaced.
var envPorts = []string{"3000", "5432", "8080", "9000", "9090", "9092", "9093", "9100"}

// New makes the folder and the environment file, and starts nothing.
func New(t *testing.T) *Stack {
	t.Helper()
	s := &Stack{t: t, ports: make(map[string]string)}
	var pairs []string
	for _, p := range envPorts {
		s.ports[p] = strconv.Itoa(target.FreeRun(t, 2)) // MinIO's console takes the one after it
		for _, host := range []string{"localhost:", "0.0.0.0:"} {
			pairs = append(pairs, host+p, host+s.ports[p])
		}
	}
	s.Ports = strings.NewReplacer(pairs...)

	text, err := os.ReadFile(filepath.Join(client.Root(), "..", ".env.dev"))
	require.NoError(t, err)
	for _, p := range envPorts {
		require.Contains(t, string(text), ":"+p, ".env.dev")
	}
	folder, err := os.MkdirTemp("", "streamhouse-devstack-") //nolint:usetesting // Postgres runs as somebody else, to whom t.TempDir is closed
	require.NoError(t, err)
	require.NoError(t, os.Chmod(folder, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	s.File, s.Dir = filepath.Join(folder, "env"), filepath.Join(folder, "dev")
	require.NoError(t, os.WriteFile(s.File, []byte(s.Ports.Replace(string(text))), 0o600))
	s.Env = append(os.Environ(), "DEV_STACK=packages", "DEV_ENV="+s.File, "DEV_DIR="+s.Dir)
	t.Cleanup(func() { s.Run("reset") })
	return s
}

// Port is this stack's port in place of one of .env.dev.
func (s *Stack) Port(usual string) string {
	s.t.Helper()
	require.Contains(s.t, s.ports, usual)
	return s.ports[usual]
}

// Run runs scripts/dev-setup.sh and returns what it said, and whether it succeeded.
func (s *Stack) Run(command string) (string, bool) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(client.Root(), "..", "scripts", "dev-setup.sh"), command)
	cmd.Env = s.Env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	s.t.Logf("dev-setup.sh %s: %v\n%s", command, err, &out)
	return out.String(), err == nil
}

// Must runs the script, which must succeed.
func (s *Stack) Must(command string) string {
	s.t.Helper()
	out, ok := s.Run(command)
	require.True(s.t, ok, command)
	return out
}

// Vars are the variables of the environment file, as a shell has them.
func (s *Stack) Vars() map[string]string {
	s.t.Helper()
	cmd := exec.Command("bash", "-c", `source "$DEV_ENV" && env -0`)
	cmd.Env = s.Env
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
