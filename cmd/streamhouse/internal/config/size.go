package config

import (
	"fmt"
	"math"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/dustin/go-humanize"
)

// Size is a number of bytes.
type Size int64 //nolint:recvcheck // decoding needs a pointer, everything else is a value's

// Units.
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
)

// ParseSize understands a number with an optional unit: B; k, M, G, T (and kB, MB, ...) in thousands; KiB, MiB, GiB,
// TiB (and Ki, Mi, ...) in 1,024s.
func ParseSize(s string) (Size, error) {
	text := strings.TrimSpace(s)
	if text == "" || text[0] == '-' {
		return 0, fmt.Errorf("size %q: want a number of bytes such as 8MiB, 64MB or 1048576", s)
	}
	n, err := humanize.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("size %q: want a number of bytes such as 8MiB, 64MB or 1048576", s)
	}
	if n > math.MaxInt64 {
		return 0, fmt.Errorf("size %q: too large", s)
	}
	return Size(n), nil
}

// Decode lets the command line, the environment and the file give a size, in the file also as a plain number.
func (b *Size) Decode(ctx *kong.DecodeContext) error {
	t, err := ctx.Scan.PopValue("size")
	if err != nil {
		return fmt.Errorf("read size: %w", err)
	}
	text := fmt.Sprint(t.Value)
	if v, ok := t.Value.(float64); ok { // fmt.Sprint writes large ones with an exponent
		if v != math.Trunc(v) || v > 1<<53 {
			return fmt.Errorf("size %v: want a whole number of bytes", v)
		}
		text = fmt.Sprintf("%.0f", v)
	}
	n, err := ParseSize(text)
	if err != nil {
		return err
	}
	*b = n
	return nil
}

// String writes the size with the largest unit that keeps it whole, so that it parses to the same.
func (b Size) String() string {
	for _, u := range []struct {
		size Size
		name string
	}{{GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if b != 0 && b%u.size == 0 {
			return fmt.Sprintf("%d%s", b/u.size, u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}

// MarshalText writes the size as [Size.String] does.
func (b Size) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
