package recordio

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func readAll(t *testing.T, in string, o ReaderOptions) []*kgo.Record {
	t.Helper()
	if o.MaxLineBytes == 0 {
		o.MaxLineBytes = 1 << 20
	}
	r := NewReader(iotest.OneByteReader(strings.NewReader(in)), o)
	var out []*kgo.Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		out = append(out, rec)
	}
}

func TestLinesBecomeRecords(t *testing.T) {
	got := readAll(t, "a:1:2\n:3\n\nnokey\r\nlast:", ReaderOptions{KeySeparator: ":", Key: []byte("dflt")})
	want := [][2]string{{"a", "1:2"}, {"", "3"}, {"dflt", ""}, {"dflt", "nokey\r"}, {"last", ""}}
	require.Len(t, got, len(want))
	for i, w := range want {
		require.Equal(t, []byte(w[0]), got[i].Key, i)
		require.Equal(t, []byte(w[1]), got[i].Value, i)
		require.NotNil(t, got[i].Value, "empty is not null")
		require.EqualValues(t, -1, got[i].Partition)
	}
}

func TestEmptyAsNullAndHeaders(t *testing.T) {
	headers, err := ParseHeaders([]string{"a=1=2", "b", "c="})
	require.NoError(t, err)
	require.Equal(t, []kgo.RecordHeader{{Key: "a", Value: []byte("1=2")}, {Key: "b"}, {Key: "c", Value: []byte{}}}, headers)
	_, err = ParseHeaders([]string{"=x"})
	require.Error(t, err)
	got := readAll(t, "k:\n:v\n", ReaderOptions{KeySeparator: ":", EmptyAsNull: true, Headers: headers})
	require.Nil(t, got[0].Value)
	require.Nil(t, got[1].Key)
	require.Equal(t, headers, got[1].Headers)
}

func TestLinesAreBounded(t *testing.T) {
	const limit = 100_000
	r := NewReader(strings.NewReader("ok\n"+strings.Repeat("x", limit)+"\n"), ReaderOptions{MaxLineBytes: limit})
	_, err := r.Next()
	require.NoError(t, err)
	rec, err := r.Next()
	require.NoError(t, err)
	require.Len(t, rec.Value, limit)
	r = NewReader(strings.NewReader("ok\n"+strings.Repeat("x", limit+2)+"\n"), ReaderOptions{MaxLineBytes: limit})
	_, err = r.Next()
	require.NoError(t, err)
	_, err = r.Next()
	require.ErrorContains(t, err, "line 2: longer than")
	r = NewReader(iotest.ErrReader(errors.New("disk on fire")), ReaderOptions{MaxLineBytes: limit})
	_, err = r.Next()
	require.ErrorContains(t, err, "disk on fire")
}

func TestJSONSurvivesTheRoundTrip(t *testing.T) {
	at := time.UnixMilli(1_767_225_600_123).UTC()
	records := []*kgo.Record{
		{Key: nil, Value: nil},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("k"), Value: []byte("<html> & \"quotes\" \u2028 ünï \x00"), Partition: 3, Offset: 9},
		{Key: []byte{0xff, 0}, Value: []byte{0xc3, 0x28}, Headers: []kgo.RecordHeader{
			{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{0xfe}}, {Key: "e", Value: []byte{}},
		}},
	}
	f, err := NewFormatter(FormatJSON)
	require.NoError(t, err)
	var text []byte
	for _, r := range records {
		r.Timestamp, r.Topic = at, "t"
		text = f.Append(text, nil, r)
	}
	require.Equal(t, len(records), bytes.Count(text, []byte("\n")))
	got := readAll(t, string(text)+"\n  \n", ReaderOptions{JSON: true})
	require.Len(t, got, len(records))
	for i, r := range records {
		require.Equal(t, r.Key, got[i].Key, i)
		require.Equal(t, r.Value, got[i].Value, i)
		require.Equal(t, r.Headers, got[i].Headers, i)
		require.Equal(t, r.Partition, got[i].Partition, i)
		require.True(t, r.Timestamp.Equal(got[i].Timestamp), i)
	}
}

func TestBadJSONNamesTheLine(t *testing.T) {
	for in, want := range map[string]string{
		"{":                                "parse JSON",
		"[]":                               "parse JSON",
		`{"valeu":"x"}`:                    "unknown field",
		`{"value":1}`:                      "parse JSON",
		`{} {}`:                            "more than one value",
		`{"key":"a","key_base64":"YQ=="}`:  "keep one",
		`{"value_base64":"%%%"}`:           "value_base64",
		`{"headers":[{"value_base64":1}]}`: "parse JSON",
		`{"headers":[{"key":"a","value":"x","value_base64":"eA=="}]}`: "keep one",
		`{"partition":-1}`:          "cannot be negative",
		`{"timestamp":"yesterday"}`: "timestamp",
	} {
		_, err := NewReader(strings.NewReader("{}\n"+in+"\n"), ReaderOptions{JSON: true, MaxLineBytes: 1000}).Next()
		require.NoError(t, err)
		r := NewReader(strings.NewReader("{}\n"+in+"\n"), ReaderOptions{JSON: true, MaxLineBytes: 1000})
		_, err = r.Next()
		require.NoError(t, err)
		_, err = r.Next()
		require.ErrorContains(t, err, "line 2", in)
		require.ErrorContains(t, err, want, in)
	}
}

func TestFormats(t *testing.T) {
	r := &kgo.Record{
		Topic: "t", Partition: 1, Offset: 2, Key: []byte("k"), Value: []byte("v"),
		Timestamp: time.UnixMilli(1000), Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b"}},
	}
	for format, want := range map[string]string{
		"raw":                         "v\n",
		`%t/%p/%o %k %v [%h]\n`:       "t/1/2 k v [a=1,b]\n",
		`%h`:                          "a=1,b",
		`%h{%k:%v;}%h`:                "a:1;b:;a=1,b",
		`%%h %v{hex} %k{base64}%{%}`:  "%h 76 aw=={}",
		`%K %V %H %d \x41\t`:          "1 1 2 1000 A\t",
		`%d{go[2006-01-02T15:04:05]}`: "1970-01-01T00:00:01",
		"":                            "",
	} {
		f, err := NewFormatter(format)
		require.NoError(t, err, format)
		require.Equal(t, want, string(f.Append(nil, &kgo.FetchPartition{}, r)), format)
	}
	for _, format := range []string{"%", "%Z", "%v{", "%h{", "%h{%z}", `\q`, "%v{nope}"} {
		_, err := NewFormatter(format)
		require.ErrorContains(t, err, "format", format)
	}
}

func TestUnescape(t *testing.T) {
	got, err := Unescape(`a\t\n\r\0\\\x1fz`)
	require.NoError(t, err)
	require.Equal(t, "a\t\n\r\x00\\\x1fz", got)
	for _, s := range []string{`\`, `\q`, `\x1`, `\xzz`} {
		_, err := Unescape(s)
		require.Error(t, err, s)
	}
}

func TestOffsets(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const start, end, after = 10, 100, 42
	for in, want := range map[string]int64{
		"start": 10, "beginning": 10, "earliest": 10, "end": 100, "latest": 100,
		"0": 10, "50": 50, "1000": 100, "+5": 15, "+1000": 100, "-1": 99, "-1000": 10, "-0": 100,
		"@1767225600000": 42, "@2026-01-01T00:00:00Z": 42, "@2026-01-01": 42, "@1h": 42, "@-1h": 42,
		"+9223372036854775807": 100,
	} {
		o, err := ParseOffset(in, now)
		require.NoError(t, err, in)
		require.EqualValues(t, want, o.Resolve(start, end, after), in)
	}
	o, err := ParseOffset("@1h", now)
	require.NoError(t, err)
	require.True(t, o.Time.Equal(now.Add(-time.Hour)))
	require.EqualValues(t, 100, o.Resolve(start, end, -1), "nothing that late: the end")
	for _, in := range []string{"", "x", "@", "@later", "1.5", "--1", "9223372036854775808", "+", "-"} {
		_, err := ParseOffset(in, now)
		require.Error(t, err, in)
	}
}

func FuzzParseOffset(f *testing.F) {
	f.Add("-5")
	f.Add("@2026-01-01")
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOffset(s, time.Unix(0, 0))
		if err != nil {
			return
		}
		for _, end := range []int64{0, 5, math.MaxInt64} {
			if at := o.Resolve(0, end, 3); at < 0 || at > end {
				t.Fatalf("%q resolves to %d of 0..%d", s, at, end)
			}
		}
	})
}

func FuzzFormat(f *testing.F) {
	for _, s := range []string{`%t %h{%k}%h\n`, `%v{unpack[>I]}`, `%d{strftime[%F]}`} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		if ft, err := NewFormatter(s); err == nil {
			ft.Append(nil, &kgo.FetchPartition{}, &kgo.Record{Headers: []kgo.RecordHeader{{Key: "a"}}})
		}
	})
}

func FuzzJSONLine(f *testing.F) {
	f.Add([]byte(`{"key":"a","headers":[{"key":"h","value_base64":"/w=="}],"partition":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseJSON(line)
		if err != nil {
			return
		}
		if y := r.Timestamp.Year(); y < 0 || y > 9999 {
			return // RFC 3339 has no such years
		}
		r.Partition = max(r.Partition, 0) // as a consumed record's is
		back, err := parseJSON(appendJSON(nil, r))
		if err != nil || !bytes.Equal(back.Key, r.Key) || !bytes.Equal(back.Value, r.Value) {
			t.Fatalf("%q does not survive: %v", line, err)
		}
	})
}
