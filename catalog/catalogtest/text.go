package catalogtest

import (
	"fmt"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"time"
)

// text writes a value down for comparison: all fields, String methods or not; nil and empty alike; times as instants;
// long bytes by length and checksum.
func text(v any) string {
	b := &strings.Builder{}
	writeText(b, reflect.ValueOf(v))
	return b.String()
}

func writeText(b *strings.Builder, v reflect.Value) {
	if !v.IsValid() {
		b.WriteString("-")
		return
	}
	if t, ok := reflect.TypeAssert[time.Time](v); ok {
		b.WriteString(t.UTC().Format("15:04:05.000000"))
		return
	}
	switch v.Kind() {
	case reflect.Interface:
		writeText(b, v.Elem())
	case reflect.Struct:
		b.WriteByte('{')
		for i := range v.NumField() {
			if i > 0 {
				b.WriteByte(' ')
			}
			if f := v.Type().Field(i); !f.Anonymous {
				b.WriteString(f.Name + ":")
			}
			writeText(b, v.Field(i))
		}
		b.WriteByte('}')
	case reflect.Slice, reflect.Array:
		writeList(b, v)
	case reflect.Map:
		var lines []string
		for _, k := range v.MapKeys() {
			lines = append(lines, text(k.Interface())+"="+text(v.MapIndex(k).Interface()))
		}
		slices.Sort(lines)
		fmt.Fprint(b, lines)
	case reflect.String:
		fmt.Fprintf(b, "%q", v.String())
	default:
		fmt.Fprint(b, v.Interface())
	}
}

func writeList(b *strings.Builder, v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		raw := make([]byte, v.Len())
		reflect.Copy(reflect.ValueOf(raw), v)
		if len(raw) <= 16 {
			fmt.Fprintf(b, "%x", raw)
		} else {
			fmt.Fprintf(b, "%d bytes %08x", len(raw), crc32.ChecksumIEEE(raw))
		}
		return
	}
	b.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			b.WriteByte(' ')
		}
		writeText(b, v.Index(i))
	}
	b.WriteByte(']')
}
