package traces_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// expected is what each command of the page must print, by a part of it and in the page's order; "" for those that are not
// judged. The first two and the broker are run as the page says, in terminals of their own.
var expected = []struct{ part, prints string }{
	{"scripts/jaeger", ""},
	{".tools/bin/jaeger", ""},
	{"streamhouse serve", ""},
	{"topic create traced", `traced`},
	{"produce traced", ``},
	{"consume traced", `(?m)^1\n2\n3\n(.*\n)*100$`},
	{"/api/services |", `(?m)^streamhouse$`},
	{"/operations", `(?m)^Produce$`},
	{"operationName): ", `(?m)\A((append|wait for commit|send|Produce): \d+\n){4}\z`},
	{"FOLLOWS_FROM", `^[0-9a-f]{32}\n$`},
	{"tags=", `^[1-9]\d*\n$`},
	{"operation=flush", `(?m)^flush log/\S+$`},
}

// commands are those of the page's section on Jaeger.
func commands(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/tracing.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(text), "\n## In Jaeger\n")
	require.True(t, ok)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		all = append(all, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	return all
}

// TestThePage does what the page says, with the ports that it names: in a network namespace, where they are free.
func TestThePage(t *testing.T) {
	all := commands(t)
	require.Len(t, all, len(expected))
	dir := t.TempDir()
	root, err := filepath.Abs(filepath.Join(client.Root(), ".."))
	require.NoError(t, err)
	program(t, "jaeger", "jaeger")
	require.NoError(t, os.Symlink(filepath.Join(root, ".tools"), filepath.Join(dir, ".tools")))

	var script strings.Builder
	script.WriteString("set -euo pipefail\nip link set lo up\ntrap 'kill $(jobs -p); wait' EXIT\n" +
		"until_it_works() { for _ in {1..150}; do if \"$@\" >/dev/null 2>&1; then return; fi; sleep 0.2; done; echo \"$* failed\"; exit 1; }\n")
	for i, command := range all {
		require.Contains(t, command, expected[i].part)
		switch expected[i].part {
		case "scripts/jaeger": // it was, or the program would not be there
		case ".tools/bin/jaeger":
			fmt.Fprintf(&script, "%s >jaeger.log 2>&1 &\nuntil_it_works curl -f http://127.0.0.1:16686/api/services\n", command)
			// What the development stack's container is asked.
			script.WriteString("until_it_works curl -f http://127.0.0.1:13133/status\n")
		case "streamhouse serve":
			fmt.Fprintf(&script, "%s >broker.log 2>&1 &\nuntil_it_works curl -f http://127.0.0.1:8080/ready\n", command)
		case "/api/services |":
			fmt.Fprintf(&script, "sleep 3\necho '### %d'\n%s\n", i, command) // "after two seconds"
		default:
			fmt.Fprintf(&script, "echo '### %d'\n%s\n", i, command)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--net", "bash", "-c", script.String())
	cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		for _, log := range []string{"jaeger.log", "broker.log"} {
			text, _ := os.ReadFile(filepath.Join(dir, log)) // there may be none
			t.Logf("%s:\n%s", log, text)
		}
	}
	require.NoError(t, err, "%s%s", out, &stderr)
	t.Logf("%s", out)
	parts := regexp.MustCompile(`(?m)^### \d+\n`).Split(string(out), -1)[1:]
	require.Len(t, parts, len(all)-3)
	for i, part := range parts {
		require.Regexp(t, expected[i+3].prints, part, all[i+3])
	}
}
