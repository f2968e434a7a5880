package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// TestOperationsDocSaysWhatIsThere: an operator searches for log lines, metrics, flags and commands as docs/operations.md
// writes them, so they must be those of the program.
func TestOperationsDocSaysWhatIsThere(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs", "operations.md"))
	require.NoError(t, err)
	doc := string(text)

	t.Run("metrics", func(t *testing.T) {
		families, err := os.ReadFile(filepath.Join(repository, "metrics", "testdata", "families.golden"))
		require.NoError(t, err)
		for _, name := range regexp.MustCompile("`(streamhouse_[a-z_]+)").FindAllStringSubmatch(doc, -1) {
			if name[1] != "streamhouse_metadata" {
				require.Contains(t, string(families), name[1]+" ", "no such metric")
			}
		}
	})
	t.Run("commands and flags", func(t *testing.T) {
		p, err := newParser(&cli{}, nil, nil)
		require.NoError(t, err)
		flags := map[string]bool{"--replicas": true} // kubectl's
		commands := make(map[string]bool)
		var walk func(n *kong.Node, words string)
		walk = func(n *kong.Node, words string) {
			commands[words] = true
			for _, f := range n.Flags {
				flags["--"+f.Name] = true
			}
			for _, c := range n.Children {
				walk(c, strings.TrimSpace(words+" "+c.Name))
			}
		}
		walk(p.Model.Node, "")
		for _, flag := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(doc, -1) {
			require.True(t, flags[flag], "no flag %s", flag)
		}
		for _, m := range regexp.MustCompile("(?m)(?:^|`)streamhouse ([a-z]+)(?: ([a-z]+))?").FindAllStringSubmatch(doc, -1) {
			require.True(t, commands[m[1]], "no command %q", m[0])
			if m[1] == "move" || m[1] == "migrate" || m[1] == "topic" {
				require.True(t, commands[m[1]+" "+m[2]], "no command %q", m[0])
			}
		}
	})
	t.Run("log lines", func(t *testing.T) {
		_, table, ok := strings.Cut(doc, "## What each failure looks like")
		require.True(t, ok)
		table, _, _ = strings.Cut(table, "## Backup and restore")
		source := sources(t)
		checked := 0
		for line := range strings.Lines(table) {
			cells := strings.Split(line, " | ")
			if len(cells) < 4 {
				continue
			}
			for _, m := range regexp.MustCompile("`([a-z][a-z' ]+ [^`]*)`").FindAllStringSubmatch(cells[2], -1) {
				message := strings.TrimSuffix(m[1], " …")
				if message == "too many clients" || strings.HasPrefix(message, "streamhouse ") { // Postgres', and commands
					continue
				}
				require.Contains(t, source, message, "nothing logs that")
				checked++
			}
		}
		require.Greater(t, checked, 10, "the table is not read as it is written")
	})
}

// sources are all Go files of the module that are not tests.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"broker", "catalog", "cmd", "storage"} {
		err := filepath.WalkDir(filepath.Join(repository, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		require.NoError(t, err)
	}
	return all.String()
}
