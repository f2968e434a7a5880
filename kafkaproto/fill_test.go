package kafkaproto

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill puts random values into every exported field of v, a kmsg struct, with
// arrays of up to three elements and now and then a tag nobody knows.
func fill(rng *rand.Rand, v reflect.Value) {
	if tags, ok := reflect.TypeAssert[*kmsg.Tags](v.Addr()); ok {
		if rng.IntN(4) == 0 {
			tags.Set(100+rng.Uint32N(100_000), make([]byte, rng.IntN(200)))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "Version" {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Slice:
		if n := rng.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		b := make([]byte, rng.IntN(200))
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(rng.Int64() >> rng.IntN(64))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(rng.Uint64() >> rng.IntN(64))
	case reflect.Float64:
		v.SetFloat(rng.Float64())
	default:
		panic("kmsg has a new kind of field: " + v.Type().String())
	}
}

func randomRequest(rng *rand.Rand, key, version int16) kmsg.Request {
	r := kmsg.RequestForKey(key)
	r.SetVersion(version)
	fill(rng, reflect.ValueOf(r).Elem())
	r.SetVersion(version)
	return r
}

// everyRequest calls f for each API key and version kmsg knows.
func everyRequest(f func(key, version int16)) {
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		r := kmsg.RequestForKey(key)
		if r == nil {
			continue
		}
		for v := int16(0); v <= r.MaxVersion(); v++ {
			f(key, v)
		}
	}
}

// TestShapes holds the table against kmsg: what kmsg encodes, the walk reads
// to the last byte, and any cut or extra byte is refused.
func TestShapes(t *testing.T) {
	require.Len(t, requestShapes, kmsg.MaxKey+1, "a new API in kmsg needs its shape")
	rng := rand.New(rand.NewPCG(7, 7))
	everyRequest(func(key, version int16) {
		for range 30 {
			r := randomRequest(rng, key, version)
			body := r.AppendTo(nil)
			h := RequestHeader{Key: key, Version: version}
			got, err := DecodeBody(h, body)
			require.NoError(t, err, "%s version %d", RequestName(key), version)
			require.Equal(t, body, got.AppendTo(nil), "%s version %d", RequestName(key), version)
			require.Equal(t, version, got.GetVersion())
			require.Equal(t, r.IsFlexible(), h.Flexible())

			_, err = DecodeBody(h, append(slices.Clip(body), 0))
			require.ErrorIs(t, err, ErrMalformed, "%s version %d with a byte more", RequestName(key), version)
			if len(body) > 0 {
				_, err = DecodeBody(h, body[:rng.IntN(len(body))])
				require.ErrorIs(t, err, ErrMalformed, "%s version %d cut", RequestName(key), version)
			}
		}
	})
}
