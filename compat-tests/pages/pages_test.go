package pages_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/devstack"
)

const (
	// within is how long one command may take.
	within = time.Minute
	// patience is how long one that only asks may print something else than is expected of it.
	patience = 30 * time.Second
)

// asks are commands that change nothing, and so may be repeated.
var asks = regexp.MustCompile(`^(curl|psql|streamhouse (group (lag|list|describe)|topic (list|describe)|brokers|leases)|\.tools/bin/(promtool|amtool) (query|check|--\S+ (alert query|config)))\b`)

func TestPages(t *testing.T) {
	s := devstack.New(t)
	s.Must("start")
	scrapeOften(t, s)
	term := newTerminals(t, s)
	done, left := make(map[string]bool), make(map[string]bool)
	for _, page := range []string{"quickstart.md", "cheatsheet.md", "testing.md", "observability.md"} {
		ok := t.Run(page, func(t *testing.T) { walk(t, term, page, done, left) })
		if !ok {
			return
		}
	}
	for _, c := range notRun {
		require.True(t, left[c.command], "no page has %q", c.command)
	}
	t.Run("queries", func(t *testing.T) { askQueries(t, term, "http://localhost:"+s.Port("9090")) })
}

// walk does what a page says.
func walk(t *testing.T, term *terminals, page string, done, left map[string]bool) {
	t.Helper()
	term.begin()
	used := make(map[string]bool)
	for _, command := range readCommands(t, page) {
		if _, skip := leave(command); skip != "" {
			left[skip] = true
			checkExists(t, command)
			continue
		}
		command = strings.ReplaceAll(command, "go run ./cmd/streamhouse", "streamhouse")
		words, _, _ := strings.Cut(command, " #")
		words = strings.TrimSpace(words)
		switch {
		case words == "streamhouse serve":
			term.serve(t, words)
			continue
		case strings.HasPrefix(words, "source ") || strings.HasPrefix(words, "export "):
			term.keep(words)
			continue
		case slices.Contains(once, words):
			if done[words] {
				continue
			}
			done[words] = true
		}
		var wants []*regexp.Regexp
		for _, e := range expected[page] {
			if strings.Contains(command, e.command) {
				wants = append(wants, regexp.MustCompile(e.output))
				used[e.command] = true
			}
		}
		require.NotEmpty(t, wants, "nothing is expected of %q: add what it must print", command)
		term.expect(t, command, wants)
	}
	for _, e := range expected[page] {
		require.True(t, used[e.command], "%s no longer has a command with %q", page, e.command)
	}
}

// leave says by which entry, if any, a command is not run.
func leave(command string) (why, entry string) {
	for _, c := range notRun {
		if strings.HasPrefix(command, c.command) {
			return c.why, c.command
		}
	}
	return "", ""
}

var (
	variable   = regexp.MustCompile(`^([A-Z_]+)=\S+$`)
	makeTarget = regexp.MustCompile(`(?m)^([a-z-]+):`)
)

// checkExists looks for what a command that is not run names: targets of make, variables, scripts, packages, flags.
func checkExists(t *testing.T, command string) {
	t.Helper()
	makefile, err := os.ReadFile(repository("Makefile"))
	require.NoError(t, err)
	var targets []string
	for _, m := range makeTarget.FindAllStringSubmatch(string(makefile), -1) {
		targets = append(targets, m[1])
	}
	command, _, _ = strings.Cut(command, " #")
	words := strings.Fields(command)
	readBy := string(makefile) // what heeds the variables
	for _, w := range words {
		if strings.HasPrefix(w, "scripts/") {
			text, err := os.ReadFile(repository(w))
			require.NoError(t, err, command)
			info, err := os.Stat(repository(w))
			require.NoError(t, err)
			require.NotZero(t, info.Mode()&0o100, "%s cannot be run", w)
			readBy = string(text)
		}
	}
	isMake, isSetup := false, false
	for _, w := range words {
		switch v := variable.FindStringSubmatch(w); {
		case v != nil:
			require.True(t, strings.Contains(readBy, v[1]), "nobody heeds %s of %s", v[1], command)
		case w == "make":
			isMake = true
		case isMake:
			require.Contains(t, targets, w, command)
		case isSetup:
			require.True(t, strings.Contains(readBy, "packages_"+w+"()"), command)
		case w == "scripts/dev-setup.sh":
			isSetup = true
		case strings.HasPrefix(w, "./"):
			require.True(t, isDir(repository(w)) || isDir(repository("compat-tests", w)), command)
		}
	}
	if i := slices.Index(words, "run"); i >= 0 && words[0] == "go" {
		checkFlags(t, repository(words[i+1]), words[i+2:])
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// checkFlags: an example's source has the flags.
func checkFlags(t *testing.T, dir string, args []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "main.go"))
	require.NoError(t, err)
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "--"); ok {
			require.Contains(t, string(text), `"`+name+`"`, "flag of %s", dir)
		}
	}
}

// scrapeOften has the stack's Prometheus scrape each second: nobody waits for 15.
func scrapeOften(t *testing.T, s *devstack.Stack) {
	t.Helper()
	file := filepath.Join(s.Dir, "prometheus", "prometheus.yml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	faster := regexp.MustCompile(`(scrape_interval|scrape_timeout|evaluation_interval): \d+s`).ReplaceAll(text, []byte("$1: 1s"))
	require.NotEqual(t, string(text), string(faster))
	require.NoError(t, os.WriteFile(file, faster, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "curl", "-fsS", "-X", "POST", "http://localhost:"+s.Port("9090")+"/-/reload")
	cmd.Stderr = &out
	require.NoError(t, cmd.Run(), out.String())
}
