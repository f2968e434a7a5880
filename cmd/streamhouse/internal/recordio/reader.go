package recordio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ReaderOptions say how input becomes records.
type ReaderOptions struct {
	JSON         bool
	KeySeparator string             // of lines; "" for no keys
	Key          []byte             // of every record that has none of its own; nil for null
	EmptyAsNull  bool               // an empty key or value is null
	Headers      []kgo.RecordHeader // of every record, after its own
	MaxLineBytes int                // a longer line is an error
}

// Reader reads records.
type Reader struct {
	in   *bufio.Reader
	opts ReaderOptions
	line int
}

// NewReader reads from in, a line at a time.
func NewReader(in io.Reader, o ReaderOptions) *Reader {
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), opts: o}
}

// Next returns the next record, with Partition -1 where the input names none; io.EOF at the end. The record is the
// caller's. Errors name the line.
func (r *Reader) Next() (*kgo.Record, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return nil, err
		}
		if r.opts.JSON && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		rec, err := r.parse(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", r.line, err)
		}
		if rec.Key == nil {
			rec.Key = r.opts.Key
		}
		if r.opts.EmptyAsNull {
			if len(rec.Key) == 0 {
				rec.Key = nil
			}
			if len(rec.Value) == 0 {
				rec.Value = nil
			}
		}
		rec.Headers = append(rec.Headers, r.opts.Headers...)
		return rec, nil
	}
}

// readLine returns a line without its end, in memory of its own.
func (r *Reader) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		if len(line)+len(part) > r.opts.MaxLineBytes+1 {
			return nil, fmt.Errorf("line %d: longer than %d bytes", r.line+1, r.opts.MaxLineBytes)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			r.line++
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			r.line++
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("read line %d: %w", r.line+1, err)
		}
	}
}

func (r *Reader) parse(line []byte) (*kgo.Record, error) {
	if r.opts.JSON {
		return parseJSON(line)
	}
	rec := &kgo.Record{Partition: -1, Value: line}
	if rec.Value == nil {
		rec.Value = []byte{}
	}
	if sep := r.opts.KeySeparator; sep != "" {
		if key, value, ok := bytes.Cut(line, []byte(sep)); ok {
			rec.Key, rec.Value = key, value
		}
	}
	return rec, nil
}

// ParseHeaders understands KEY=VALUE, and KEY alone for a null value.
func ParseHeaders(in []string) ([]kgo.RecordHeader, error) {
	var out []kgo.RecordHeader
	for _, s := range in {
		key, value, has := strings.Cut(s, "=")
		if key == "" {
			return nil, fmt.Errorf("header %q: want KEY=VALUE", s)
		}
		h := kgo.RecordHeader{Key: key}
		if has {
			h.Value = []byte(value)
		}
		out = append(out, h)
	}
	return out, nil
}

// Unescape understands \t, \n, \r, \0, \\ and \xNN, so that a shell can give separators.
func Unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", fmt.Errorf("%q ends in a backslash", s)
		}
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			var v byte
			if i+2 >= len(s) {
				return "", fmt.Errorf(`%q: want two hexadecimal digits after \x`, s)
			}
			if _, err := fmt.Sscanf(s[i+1:i+3], "%02x", &v); err != nil {
				return "", fmt.Errorf(`%q: want two hexadecimal digits after \x`, s)
			}
			b.WriteByte(v)
			i += 2
		default:
			return "", fmt.Errorf(`%q: unknown escape \%c; there are \t \n \r \0 \\ \xNN`, s, s[i])
		}
	}
	return b.String(), nil
}
