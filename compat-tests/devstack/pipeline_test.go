package devstack

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// TestCompletePipeline has scripts/test-complete-pipeline.sh follow records from a producer to an alert, on a stack of
// its own ports. The script's own checks are what is tested for; here is checked that none was left out.
func TestCompletePipeline(t *testing.T) {
	s := newStack(t)
	root := filepath.Join(client.Root(), "..")
	cmd := exec.CommandContext(t.Context(), "scripts/test-complete-pipeline.sh")
	cmd.Dir = root
	cmd.Env = slices.Concat(s.Env, []string{"STREAMHOUSE_BINARY=" + filepath.Join(root, "bin", "streamhouse")})
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	text, err := os.ReadFile(filepath.Join(root, "scripts", "test-complete-pipeline.sh"))
	require.NoError(t, err)
	steps := regexp.MustCompile(`(?m)^(?:step|need) `).FindAll(text, -1)
	said := regexp.MustCompile(`(?m)^  ok    `).FindAll(out, -1)
	require.GreaterOrEqual(t, len(steps), 30)
	require.Len(t, said, len(steps), string(out))
	t.Logf("%s", out)
}

// TestScriptsExplainThemselves: exit codes mean something even before anything was done.
func TestScriptsExplainThemselves(t *testing.T) {
	for _, name := range []string{"dev-setup.sh", "demo-e2e.sh", "demo-observability.sh", "test-complete-pipeline.sh"} {
		run := func(arg string) (string, int) {
			cmd := exec.CommandContext(t.Context(), filepath.Join(client.Root(), "..", "scripts", name), arg)
			cmd.Dir = t.TempDir() // from wherever
			out, err := cmd.CombinedOutput()
			if err != nil {
				require.ErrorAs(t, err, new(*exec.ExitError))
			}
			return string(out), cmd.ProcessState.ExitCode()
		}
		out, code := run("--help")
		require.Zero(t, code, "%s --help: %s", name, out)
		require.Regexp(t, "^"+regexp.QuoteMeta(name), out)
		require.NotContains(t, out, "shellcheck")
		out, code = run("nonsense")
		require.Equal(t, 2, code, "%s nonsense: %s", name, out)
		require.Contains(t, out, "usage: ")
	}
}
