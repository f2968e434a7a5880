package recordio

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Names of formats that are not layouts.
const (
	FormatRaw  = "raw"
	FormatJSON = "json"
)

// Formatter writes records as text. It is for one goroutine.
type Formatter struct {
	pieces []piece
}

type piece func(dst []byte, p *kgo.FetchPartition, r *kgo.Record) []byte

// NewFormatter understands raw, json, or a layout in the language of rpk and franz-go:
//
//	%t topic   %p partition   %o offset   %e leader epoch   %d timestamp in ms
//	%k key     %v value       %h headers as k=v,k=v, or as %h{%k:%v } says, each
//	%K %V %H   length of key and value, number of headers
//	%% a percent sign; \n \t \r \\ \xNN
//
// Verbs take modifiers in braces: %k{hex}, %v{base64}, %d{go[2006-01-02]}, %o{big64}.
func NewFormatter(format string) (*Formatter, error) {
	switch format {
	case FormatRaw:
		return &Formatter{pieces: []piece{func(dst []byte, _ *kgo.FetchPartition, r *kgo.Record) []byte {
			return append(append(dst, r.Value...), '\n')
		}}}, nil
	case FormatJSON:
		return &Formatter{pieces: []piece{func(dst []byte, _ *kgo.FetchPartition, r *kgo.Record) []byte {
			return appendJSON(dst, r)
		}}}, nil
	}
	f := &Formatter{}
	for i, layout := range splitAtHeaders(format) {
		if i > 0 {
			f.pieces = append(f.pieces, appendHeaders)
		}
		if layout == "" {
			continue
		}
		inner, err := kgo.NewRecordFormatter(layout)
		if err != nil {
			return nil, fmt.Errorf("format %q: %w", format, err)
		}
		f.pieces = append(f.pieces, inner.AppendPartitionRecord)
	}
	return f, nil
}

// Append appends the text of a record, which came in p.
func (f *Formatter) Append(dst []byte, p *kgo.FetchPartition, r *kgo.Record) []byte {
	for _, piece := range f.pieces {
		dst = piece(dst, p, r)
	}
	return dst
}

func appendHeaders(dst []byte, _ *kgo.FetchPartition, r *kgo.Record) []byte {
	for i, h := range r.Headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, h.Key...)
		if h.Value != nil {
			dst = append(append(dst, '='), h.Value...)
		}
	}
	return dst
}

// splitAtHeaders cuts a layout at each %h that has no braces; those are ours, the rest is the library's.
func splitAtHeaders(layout string) []string {
	var out []string
	from := 0
	for i := 0; i+1 < len(layout); i++ {
		switch {
		case layout[i] == '\\':
			i++
		case layout[i] != '%':
		case layout[i+1] == 'h' && (i+2 == len(layout) || layout[i+2] != '{'):
			out = append(out, layout[from:i])
			from = i + 2
			i++
		default:
			i = endOfVerb(layout, i+1)
		}
	}
	return append(out, layout[from:])
}

// endOfVerb returns the index of the last byte of the verb whose letter is at i, braces included.
func endOfVerb(layout string, i int) int {
	if layout[i] == '%' || layout[i] == '{' || layout[i] == '}' || i+1 == len(layout) || layout[i+1] != '{' {
		return i
	}
	depth := 0
	for j := i + 1; j < len(layout); j++ {
		switch layout[j] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return j
			}
		}
	}
	return len(layout) - 1 // not closed: the library says so
}
