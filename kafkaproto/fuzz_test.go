package kafkaproto

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzFrame: whatever comes, frames are read alike with and without an
// allocator and however the bytes arrive, within the limits.
func FuzzFrame(f *testing.F) {
	rng := rand.New(rand.NewPCG(11, 11))
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("fuzz"))
	var all []byte
	everyRequest(func(key, version int16) {
		if version == kmsg.RequestForKey(key).MaxVersion() {
			frame := format.AppendRequest(nil, randomRequest(rng, key, version), 1)
			f.Add(frame)
			all = append(all, frame...)
		}
	})
	for _, r := range corpus(f) {
		f.Add(r.frame)
	}
	f.Add(all)
	f.Add(all[:len(all)-1])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	limits := FrameLimits{MaxBytes: 1 << 20, MaxOtherBytes: 1 << 16}
	f.Fuzz(func(t *testing.T, stream []byte) {
		plain := NewFrameReader(bytes.NewReader(stream), limits, nil)
		pooled := NewFrameReader(iotest.OneByteReader(bytes.NewReader(stream)), limits, AllocFunc(func(n int) []byte {
			if n > 1<<20 {
				t.Fatalf("%d bytes asked for", n)
			}
			return make([]byte, n)
		}))
		var last RequestHeader
		for {
			frame, err := plain.Next()
			other, otherErr := pooled.Next()
			if !bytes.Equal(frame, other) || (err == nil) != (otherErr == nil) {
				t.Fatalf("read differently: %v, %v", err, otherErr)
			}
			if err != nil {
				var frameErr *FrameError
				if !errors.As(err, &frameErr) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("error %v", err)
				}
				return
			}
			h, body, err := ParseNextRequest(last, frame)
			if err == nil {
				last = h
				_, _ = DecodeBody(h, body)
			}
		}
	})
}

// FuzzDecodeRequest: a body either is refused, or decodes to a request that
// encodes and decodes to itself.
func FuzzDecodeRequest(f *testing.F) {
	rng := rand.New(rand.NewPCG(13, 13))
	everyRequest(func(key, version int16) {
		f.Add(key, version, randomRequest(rng, key, version).AppendTo(nil))
	})
	for _, r := range corpus(f) {
		if h, body, err := ParseRequest(r.frame[4:]); err == nil {
			f.Add(h.Key, h.Version, body)
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		h := RequestHeader{Key: key, Version: version}
		r, err := DecodeBody(h, body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnknownAPI) && !errors.Is(err, ErrUnsupportedVersion) {
				t.Fatalf("error %v", err)
			}
			return
		}
		once := r.AppendTo(nil)
		again, err := DecodeBody(h, once)
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if twice := again.AppendTo(nil); !bytes.Equal(once, twice) {
			t.Fatalf("%s version %d is not stable:\n%x\n%x", h.Name(), version, once, twice)
		}
	})
}
