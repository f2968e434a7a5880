package pages_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

func repository(path ...string) string {
	return filepath.Join(append([]string{client.Root(), ".."}, path...)...)
}

// readBlocks returns what is in a page's blocks of one language.
func readBlocks(t *testing.T, page, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(repository("docs", page))
	require.NoError(t, err)
	rest := string(text)
	for {
		_, fenced, found := strings.Cut(rest, "```"+language+"\n")
		if !found {
			return blocks
		}
		body, after, found := strings.Cut(fenced, "```\n")
		require.True(t, found, "a block of %s is not closed: %.100q", page, fenced)
		blocks = append(blocks, body)
		rest = after
	}
}

// readCommands returns the lines of a page's blocks of sh.
func readCommands(t *testing.T, page string) (commands []string) {
	t.Helper()
	for _, block := range readBlocks(t, page, "sh") {
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				require.False(t, strings.HasSuffix(line, `\`), "a command over several lines is not understood here: %s", line)
				commands = append(commands, line)
			}
		}
	}
	require.NotEmpty(t, commands, page)
	return commands
}
