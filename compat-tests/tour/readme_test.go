package tour_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// block is a fenced block of commands and the text between it and the one
// before.
type block struct {
	before   string
	commands []string
}

// readBlocks returns the sh blocks of one section of README.md.
func readBlocks(t *testing.T, section string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(client.Root(), "..", "README.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	require.True(t, found, "README.md has no section %q", section)
	rest, _, _ = strings.Cut(rest, "\n## ")
	var out []block
	for {
		before, fenced, found := strings.Cut(rest, "```sh\n")
		if !found {
			return out
		}
		body, after, found := strings.Cut(fenced, "```\n")
		require.True(t, found, "a block is not closed: %.100q", fenced)
		b := block{before: before}
		for line := range strings.Lines(body) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				b.commands = append(b.commands, line)
			}
		}
		out = append(out, b)
		rest = after
	}
}
