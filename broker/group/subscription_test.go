package group

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCompilePattern(t *testing.T) {
	for _, c := range []struct {
		regex string
		yes   []string
		no    []string
	}{
		{"foo|bar", []string{"foo", "bar"}, []string{"foobar", "afoo", "bart", ""}},
		{"a.c", []string{"abc", "a.c"}, []string{"ac", "abcd"}},
		{"^orders-.*$", []string{"orders-", "orders-eu"}, []string{"orders", "x-orders-eu"}},
		{"(?i)foo", []string{"FOO"}, []string{"FOO "}},
		{".{200}", []string{strings.Repeat("x", 200)}, []string{"x"}},
	} {
		p, err := compilePattern(c.regex)
		require.NoError(t, err, c.regex)
		for _, s := range c.yes {
			require.True(t, p.MatchString(s), "%s matches %s", c.regex, s)
		}
		for _, s := range c.no {
			require.False(t, p.MatchString(s), "%s matches %s", c.regex, s)
		}
	}
	for _, bad := range []string{
		"a(b", "a)(b", "*", "[", `(?=a)`, `(a)\1`, "a{1001}", // no RE2
		strings.Repeat("a", maxRegexBytes+1), strings.Repeat(".{1000}", 20), // too much
	} {
		_, err := compilePattern(bad)
		require.Error(t, err, bad[:min(len(bad), 20)])
	}
}
