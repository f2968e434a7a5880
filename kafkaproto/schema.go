package kafkaproto

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Request bodies are walked once before kmsg decodes them. kmsg believes
// counts as far as bytes are left: an array may claim an element a byte (which
// costs up to a hundred times that in memory), and a tag section may claim
// four billion tags, each of which is then tried. The walk reads what is
// really there, and tells bytes that follow the body, which kmsg ignores.

type fieldKind uint8

const (
	kindFixed  fieldKind = iota // size bytes
	kindString                  // int16 or compact length
	kindBytes                   // int32 or compact length
	kindArray                   // of the fields of kids
	kindStruct                  // kids after a presence byte, -1 for null
	kindTags                    // tag section, in flexible versions only; kids are known tags, by size as tag
	kindTag                     // one known tag, kids its content
)

type field struct {
	kind     fieldKind
	nullable bool
	size     int // bytes of kindFixed, number of kindTag
	min, max int16
	kids     []field
}

// apiShape is what is known of one API's requests.
type apiShape struct {
	fields      []field
	hasBytes    bool  // some field aliases the body once decoded
	flexibleMin int16 // first flexible version
	maxVersion  int16 // newest version decoded
}

// shapes parses the table on first use: 95 short strings, well under 1 ms.
var shapes = sync.OnceValue(func() []apiShape {
	out := make([]apiShape, len(requestShapes))
	for key, text := range requestShapes {
		r := kmsg.RequestForKey(int16(key))
		if r == nil {
			continue
		}
		s := &out[key]
		s.maxVersion, s.flexibleMin = r.MaxVersion(), math.MaxInt16
		for v := r.MaxVersion(); v >= 0; v-- {
			if r.SetVersion(v); r.IsFlexible() {
				s.flexibleMin = v
			}
		}
		fields, rest, err := parseShape(text)
		if err != nil || rest != "" {
			// Nothing of such an API can be decoded; TestShapes keeps the
			// table from ever coming to this.
			s.maxVersion = -1
			continue
		}
		s.fields = fields
		s.hasBytes = strings.ContainsAny(text, "bB")
	}
	return out
})

// shapeOf returns nil for an API nobody knows.
func shapeOf(key int16) *apiShape {
	all := shapes()
	if key < 0 || int(key) >= len(all) || len(all[key].fields) == 0 {
		return nil
	}
	return &all[key]
}

// parseShape reads the notation of the table:
//
//	1 2 4 8 16      that many bytes
//	s S             string, nullable string
//	b B             bytes, nullable bytes
//	[ … ]           array of the fields within
//	{ … }           nullable struct
//	t               tag section, in flexible versions
//	t(0:< … > …)    tag section with tags whose content is known
//	3+: or 0-2:     the next field is there in these versions only
//
// It returns what follows the first closing bracket it did not open.
func parseShape(text string) (out []field, rest string, err error) {
	for {
		text = strings.TrimLeft(text, " ")
		if text == "" || strings.ContainsRune("]})>", rune(text[0])) {
			return out, text, nil
		}
		f := field{max: math.MaxInt16}
		if i := strings.IndexAny(text, " :[{(<"); i > 0 && text[i] == ':' {
			lo, hi, isRange := strings.Cut(strings.TrimSuffix(text[:i], "+"), "-")
			n, err := strconv.ParseInt(lo, 10, 16)
			if err != nil {
				return nil, "", fmt.Errorf("parse version in %q: %w", text, err)
			}
			f.min, text = int16(n), text[i+1:]
			if isRange {
				if n, err = strconv.ParseInt(hi, 10, 16); err != nil {
					return nil, "", fmt.Errorf("parse version in %q: %w", text, err)
				}
				f.max = int16(n)
			}
			if text == "" {
				return nil, "", fmt.Errorf("parse shape: no field after version %d", f.min)
			}
		}
		switch c := text[0]; c {
		case 's', 'S', 'b', 'B':
			f.kind, f.nullable = kindString, c == 'S' || c == 'B'
			if c == 'b' || c == 'B' {
				f.kind = kindBytes
			}
			text = text[1:]
		case '[', '{', '<':
			f.kind = map[byte]fieldKind{'[': kindArray, '{': kindStruct, '<': kindTag}[c]
			if c == '<' {
				f.size = int(f.min) // a tag's number is written where versions are
			}
			if f.kids, text, err = parseShape(text[1:]); err != nil {
				return nil, "", err
			}
			text = text[min(1, len(text)):]
		case 't':
			f.kind = kindTags
			if text = text[1:]; strings.HasPrefix(text, "(") {
				if f.kids, text, err = parseShape(text[1:]); err != nil {
					return nil, "", err
				}
				text = text[min(1, len(text)):]
			}
		default:
			end := strings.IndexAny(text+" ", " ]})>")
			if f.size, err = strconv.Atoi(text[:end]); err != nil {
				return nil, "", fmt.Errorf("parse size in %q: %w", text, err)
			}
			text = text[end:]
		}
		out = append(out, f)
	}
}

// walker goes over one body.
type walker struct {
	b        []byte // what is left
	version  int16
	flexible bool
	elements int  // array elements and tags that may still come
	unknown  bool // a tag nobody knows was seen; decoded requests alias it
}

var (
	errShort    = fmt.Errorf("%w: it ends within a field", ErrMalformed)
	errLength   = fmt.Errorf("%w: a length is negative", ErrMalformed)
	errVarint   = fmt.Errorf("%w: a length has too many bits", ErrMalformed)
	errElements = fmt.Errorf("%w: it has too many elements", ErrMalformed)
)

func (w *walker) skip(n int) error {
	if n > len(w.b) {
		return errShort
	}
	w.b = w.b[n:]
	return nil
}

func (w *walker) uvarint() (int, error) {
	if len(w.b) > 0 && w.b[0] < 0x80 {
		v := int(w.b[0])
		w.b = w.b[1:]
		return v, nil
	}
	v, n := binary.Uvarint(w.b)
	switch {
	case n == 0:
		return 0, errShort
	// Five bytes: kmsg looks no further, so neither may the walk.
	case n < 0 || n > 5 || v > math.MaxInt32:
		return 0, errVarint
	}
	w.b = w.b[n:]
	return int(v), nil
}

// length reads a length of so many bytes, or a compact one; -1 is null.
func (w *walker) length(size int) (int, error) {
	if w.flexible {
		n, err := w.uvarint()
		return n - 1, err
	}
	if len(w.b) < size {
		return 0, errShort
	}
	var n int
	if size == 2 {
		n = int(int16(binary.BigEndian.Uint16(w.b)))
	} else {
		n = int(int32(binary.BigEndian.Uint32(w.b)))
	}
	w.b = w.b[size:]
	if n < -1 {
		return 0, errLength
	}
	return n, nil
}

func (w *walker) count(n int) error {
	// Each element has at least a byte, so a lie ends here before the loop.
	if n > len(w.b) {
		return errShort
	}
	if w.elements -= n; w.elements < 0 {
		return errElements
	}
	return nil
}

func (w *walker) walk(fields []field) error {
	for i := range fields {
		f := &fields[i]
		if w.version < f.min || w.version > f.max {
			continue
		}
		if err := w.field(f); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) field(f *field) error {
	switch f.kind {
	case kindFixed:
		return w.skip(f.size)
	case kindString, kindBytes:
		size := 2
		if f.kind == kindBytes {
			size = 4
		}
		n, err := w.length(size)
		if err != nil {
			return err
		}
		if n < 0 {
			if f.nullable {
				return nil
			}
			return errLength
		}
		return w.skip(n)
	case kindArray:
		n, err := w.length(4)
		if err != nil || n < 0 {
			return err
		}
		if err := w.count(n); err != nil {
			return err
		}
		for range n {
			if err := w.walk(f.kids); err != nil {
				return err
			}
		}
		return nil
	case kindStruct:
		if len(w.b) == 0 {
			return errShort
		}
		present := int8(w.b[0])
		w.b = w.b[1:]
		if present == -1 {
			return nil
		}
		return w.walk(f.kids)
	case kindTags:
		if w.flexible {
			return w.tags(f.kids)
		}
	case kindTag:
	}
	return nil
}

func (w *walker) tags(known []field) error {
	n, err := w.uvarint()
	if err != nil {
		return err
	}
	if err := w.count(n); err != nil {
		return err
	}
	for range n {
		tag, err := w.uvarint()
		if err != nil {
			return err
		}
		size, err := w.uvarint()
		if err != nil {
			return err
		}
		if size > len(w.b) {
			return errShort
		}
		content := w.b[:size]
		w.b = w.b[size:]
		i := 0
		for i < len(known) && known[i].size != tag {
			i++
		}
		if i == len(known) {
			w.unknown = true
			continue
		}
		in := walker{b: content, version: w.version, flexible: true, elements: w.elements}
		if err := in.walk(known[i].kids); err != nil {
			return err
		}
		w.elements, w.unknown = in.elements, w.unknown || in.unknown
	}
	return nil
}
