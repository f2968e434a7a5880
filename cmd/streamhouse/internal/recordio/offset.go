package recordio

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// OffsetKind says what an [Offset] counts from.
type OffsetKind int

// The kinds.
const (
	OffsetStart OffsetKind = iota // N after the log start
	OffsetEnd                     // N before the end
	OffsetExact                   // N
	OffsetTime                    // the first record at or after Time
)

// Offset is where to start reading a partition.
type Offset struct {
	Kind OffsetKind
	N    int64
	Time time.Time
}

// ParseOffset understands start, end, N, +N (after the start), -N (before the end), and @TIME, where TIME is
// milliseconds since 1970, RFC 3339, a date, or a duration before now, as @1h.
func ParseOffset(s string, now time.Time) (Offset, error) {
	bad := func() (Offset, error) {
		return Offset{}, fmt.Errorf("offset %q: want start, end, N, +N, -N (from the end) or @TIME "+
			"(milliseconds, 2006-01-02T15:04:05Z, or 1h for an hour ago)", s)
	}
	switch s {
	case "start", "beginning", "earliest":
		return Offset{Kind: OffsetStart}, nil
	case "end", "latest":
		return Offset{Kind: OffsetEnd}, nil
	case "":
		return bad()
	}
	if text, ok := strings.CutPrefix(s, "@"); ok {
		t, ok := parseTime(text, now)
		if !ok {
			return bad()
		}
		return Offset{Kind: OffsetTime, Time: t}, nil
	}
	kind := OffsetExact
	switch s[0] {
	case '+':
		kind = OffsetStart
	case '-':
		kind = OffsetEnd
	}
	digits := s
	if kind != OffsetExact {
		digits = s[1:]
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return bad()
	}
	return Offset{Kind: kind, N: int64(n)}, nil
}

func parseTime(s string, now time.Time) (time.Time, bool) {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.UnixMilli(ms), true
	}
	if d, err := time.ParseDuration(strings.TrimPrefix(s, "-")); err == nil {
		return now.Add(-d), true
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// Resolve works out the offset for a partition that spans start to end. after is the offset of the first record at or
// after Time, or -1 where there is none.
func (o Offset) Resolve(start, end, after int64) int64 {
	at := start
	switch o.Kind {
	case OffsetStart:
		if at = start + o.N; at < start { // too large for an int64
			at = end
		}
	case OffsetEnd:
		at = end - o.N
	case OffsetExact:
		at = o.N
	case OffsetTime:
		if at = after; at < 0 {
			at = end
		}
	}
	return min(max(at, start), end)
}
