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
