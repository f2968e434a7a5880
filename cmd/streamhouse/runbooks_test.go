package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// runbook is a page of docs/runbooks, taken apart.
type runbook struct {
	name   string
	blocks map[string][]string // lines of code by language
	spans  []string            // code within text
	links  []string
}

var (
	fence    = regexp.MustCompile("(?s)```([a-z]*)\n(.*?)\n```\n")
	codeSpan = regexp.MustCompile("(?s)`([^`]+)`")
	link     = regexp.MustCompile(`\]\(([^)]+)\)`)
)

func runbooks(t *testing.T) []runbook {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repository, "docs", "runbooks", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var all []runbook
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		r := runbook{name: filepath.Base(f), blocks: make(map[string][]string)}
		for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
			r.blocks[m[1]] = append(r.blocks[m[1]], strings.Split(strings.TrimSpace(m[2]), "\n")...)
		}
		prose := fence.ReplaceAllString(string(text), "")
		for _, m := range codeSpan.FindAllStringSubmatch(prose, -1) {
			r.spans = append(r.spans, strings.Join(strings.Fields(m[1]), " "))
		}
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			r.links = append(r.links, m[1])
		}
		all = append(all, r)
	}
	return all
}

// TestRunbooksNameWhatIsThere: who is woken by an alert types what its page says, so commands must parse, statements must run,
// and metrics and log lines must be those of the program.
func TestRunbooksNameWhatIsThere(t *testing.T) {
	families, err := os.ReadFile(filepath.Join(repository, "metrics", "testdata", "families.golden"))
	require.NoError(t, err)
	known := make(map[string]bool)
	for line := range strings.Lines(string(families)) {
		known[strings.Fields(line)[0]] = true
	}
	source := sources(t)
	fleet := newFleet(t)
	db, err := pgx.Connect(t.Context(), fleet.url)
	require.NoError(t, err)
	defer func() { _ = db.Close(t.Context()) }()

	commands, statements, messages := 0, 0, 0
	for _, r := range runbooks(t) {
		code := slices.Concat(r.blocks["sh"], r.spans)
		for _, c := range code {
			c, _, _ = strings.Cut(c, "   #")
			if _, after, piped := strings.Cut(c, "| streamhouse "); piped {
				c = "streamhouse " + after
			}
			if args, ok := strings.CutPrefix(c, "streamhouse "); ok {
				p, err := newParser(&cli{}, nil, nil)
				require.NoError(t, err)
				_, err = p.Parse(strings.Fields(args))
				if name := strings.Fields(args); err != nil && !slices.Contains(name, "--help") && len(name) <= 2 {
					_, err = p.Parse(append(name, "1")) // named in a sentence, without its argument
				}
				require.NoError(t, err, "%s: %s", r.name, c)
				commands++
			}
		}
		for _, c := range slices.Concat(r.blocks["promql"], r.spans) {
			for _, name := range regexp.MustCompile(`streamhouse_[a-z_]+`).FindAllString(c, -1) {
				base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
				require.True(t, known[name] || known[base], "%s: no metric %s", r.name, name)
			}
		}
		for statement := range strings.SplitSeq(strings.Join(r.blocks["sql"], "\n"), ";") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			_, err := db.Exec(t.Context(), statement)
			require.NoError(t, err, "%s: %s", r.name, statement)
			statements++
		}
		for _, s := range r.spans {
			if strings.HasSuffix(s, " again") {
				require.Contains(t, source, s, "%s: nothing logs that", r.name)
				messages++
			}
		}
	}
	require.Greater(t, commands, 40)
	require.Greater(t, statements, 8)
	require.Greater(t, messages, 5)
}

// TestRunbooksLinkToWhatIsThere: pages and headings.
func TestRunbooksLinkToWhatIsThere(t *testing.T) {
	for _, r := range runbooks(t) {
		for _, l := range r.links {
			file, anchor, _ := strings.Cut(l, "#")
			text, err := os.ReadFile(filepath.Join(repository, "docs", "runbooks", filepath.FromSlash(file)))
			require.NoError(t, err, "%s links to %s", r.name, l)
			if anchor != "" {
				require.Contains(t, anchors(string(text)), anchor, "%s links to %s", r.name, l)
			}
		}
	}
}

// anchors are the names that a page's headings are linked by.
func anchors(text string) (all []string) {
	for line := range strings.Lines(text) {
		if heading := strings.TrimLeft(line, "#"); heading != line {
			heading = strings.ToLower(strings.TrimSpace(heading))
			all = append(all, strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(heading, ""), " ", "-"))
		}
	}
	return all
}
