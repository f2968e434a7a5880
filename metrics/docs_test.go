package metrics

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	familyRow  = regexp.MustCompile("(?m)^\\| `(streamhouse_[a-z_]+)(?:\\{([a-z_,]*)\\})?` \\| (counter|gauge|histogram) \\| .+ \\|$")
	familyName = regexp.MustCompile(`\bstreamhouse_[a-z_]+`)
)

// TestTheGuideHasEveryFamily: docs/observability.md has a row for each family, with its type and labels, and names no other.
func TestTheGuideHasEveryFamily(t *testing.T) {
	golden, err := os.ReadFile("testdata/families.golden")
	require.NoError(t, err)
	guide, err := os.ReadFile("../docs/observability.md")
	require.NoError(t, err)

	kinds := make(map[string]string) // family to type
	var want, got []string
	for line := range strings.Lines(string(golden)) {
		line = strings.TrimSpace(line)
		name, rest, _ := strings.Cut(line, " ")
		kinds[name], _, _ = strings.Cut(rest, " ")
		want = append(want, line)
	}
	for _, row := range familyRow.FindAllStringSubmatch(string(guide), -1) {
		got = append(got, fmt.Sprintf("%s %s {%s}", row[1], row[3], row[2]))
	}
	require.ElementsMatch(t, want, got)

	for _, name := range familyName.FindAllString(string(guide), -1) {
		if kinds[name] != "" {
			continue
		}
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		require.Equal(t, "histogram", kinds[base], "the guide names %s, which is not exported", name)
	}
}
