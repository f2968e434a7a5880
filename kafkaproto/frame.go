package kafkaproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Frame sizes, in bytes.
const (
	// DefaultMaxFrameBytes is socket.request.max.bytes.
	DefaultMaxFrameBytes = 100 << 20
	// DefaultMaxOtherBytes bounds the frames that carry no records.
	DefaultMaxOtherBytes = 8 << 20

	// minFrame is the shortest request: key, version and correlation id.
	minFrame = 8
	// keySize is how much of a frame tells its API key and version.
	keySize = 4
	// provenBytes is how much of a large frame must have come before memory
	// for all of it is asked for.
	provenBytes = 64 << 10
	// eagerBytes is the largest frame memory is asked for at once.
	eagerBytes = 1 << 20

	keyProduce     = 0
	keyApiVersions = 18
)

// FrameError says that what came is no frame of this protocol: the connection
// has lost its place and can only be closed.
type FrameError struct {
	// Length is the claimed length in bytes.
	Length int32
	// Msg says what is wrong with it and what the bound is.
	Msg string
	// Err is why the frame did not arrive whole, nil where its length was the
	// reason. A frame cut off is io.ErrUnexpectedEOF.
	Err error
}

// Error implements error.
func (e *FrameError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("read frame of %d bytes: %v", e.Length, e.Err)
	}
	return fmt.Sprintf("frame length %d: %s", e.Length, e.Msg)
}

// Unwrap returns Err.
func (e *FrameError) Unwrap() error { return e.Err }

// Allocator hands out memory for frames. Alloc returns a slice of exactly n
// bytes, which may hold anything; it may block until so much is allowed. A
// FrameReader asks for each frame once and forgets the memory when it returns
// it, or fails: giving it back is up to those who handed it out.
type Allocator interface {
	Alloc(n int) []byte
}

// AllocFunc makes a function an Allocator.
type AllocFunc func(n int) []byte

// Alloc calls f.
func (f AllocFunc) Alloc(n int) []byte { return f(n) }

// FrameLimits bounds frames, in bytes without the length prefix. Zero fields
// mean the defaults.
type FrameLimits struct {
	// MaxBytes is for Produce, the only request whose size is that of data
	// (socket.request.max.bytes).
	MaxBytes int32
	// MaxOtherBytes is for every other request. It never exceeds MaxBytes.
	MaxOtherBytes int32
}

func (l FrameLimits) of(key int16) int32 {
	top, other := l.MaxBytes, l.MaxOtherBytes
	if top <= 0 {
		top = DefaultMaxFrameBytes
	}
	if other <= 0 {
		other = DefaultMaxOtherBytes
	}
	if key == keyProduce {
		return top
	}
	return min(top, other)
}

// FrameReader reads the frames of one connection. It is not for concurrent use.
// Its own memory is a few bytes, and 64 KiB more once a frame of over 1 MiB
// came.
type FrameReader struct {
	r      io.Reader
	limits FrameLimits
	alloc  Allocator
	head   [4 + keySize]byte
	first  []byte
}

// NewFrameReader reads from r, which should be buffered: a frame takes at least
// two reads. A nil alloc takes memory from the heap, in steps that follow what
// really arrived.
func NewFrameReader(r io.Reader, limits FrameLimits, alloc Allocator) *FrameReader {
	return &FrameReader{r: r, limits: limits, alloc: alloc}
}

// Next returns the next frame without its length prefix. Between frames the
// end of the stream is io.EOF, bare; inside one (after its length), and for a length that is
// negative, too short or over the limit of its API key, the error is a
// *FrameError. Other errors of the reader (deadlines, resets) are in its chain.
//
// A length is a claim. The memory of a frame of more than 1 MiB is asked for
// only after its first 64 KiB came, so that idle or lying connections hold
// next to nothing; what a sender may take its time for is for read deadlines.
func (f *FrameReader) Next() ([]byte, error) {
	if _, err := io.ReadFull(f.r, f.head[:4]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read frame length: %w", err)
	}
	n := int32(binary.BigEndian.Uint32(f.head[:]))
	switch {
	case n < 0:
		return nil, &FrameError{Length: n, Msg: "negative; this is not the Kafka protocol, or the stream is out of step"}
	case n < minFrame:
		return nil, &FrameError{Length: n, Msg: fmt.Sprintf("a request has at least %d bytes", minFrame)}
	case n > f.limits.of(keyProduce):
		return nil, tooLarge(n, f.limits.of(keyProduce))
	}
	if _, err := io.ReadFull(f.r, f.head[4:]); err != nil {
		return nil, cut(n, err)
	}
	key := int16(binary.BigEndian.Uint16(f.head[4:]))
	if limit := f.limits.of(key); n > limit {
		return nil, tooLarge(n, limit)
	}
	if f.alloc == nil {
		return f.grow(int(n))
	}
	have := f.head[4:]
	if n > eagerBytes {
		if f.first == nil {
			f.first = make([]byte, provenBytes)
		}
		copy(f.first, have)
		if _, err := io.ReadFull(f.r, f.first[keySize:]); err != nil {
			return nil, cut(n, err)
		}
		have = f.first
	}
	frame := f.alloc.Alloc(int(n))
	if len(frame) != int(n) {
		return nil, &FrameError{Length: n, Msg: fmt.Sprintf("%d bytes of memory were given for it", len(frame))}
	}
	copy(frame, have)
	if _, err := io.ReadFull(f.r, frame[len(have):]); err != nil {
		return nil, cut(n, err)
	}
	return frame, nil
}

// grow reads a frame of n bytes into memory that doubles as bytes arrive.
func (f *FrameReader) grow(n int) ([]byte, error) {
	frame := append(make([]byte, 0, min(n, provenBytes)), f.head[4:]...)
	for len(frame) < n {
		if len(frame) == cap(frame) {
			frame = append(make([]byte, 0, min(n, 2*cap(frame))), frame...)
		}
		at := len(frame)
		frame = frame[:cap(frame)]
		if _, err := io.ReadFull(f.r, frame[at:]); err != nil {
			return nil, cut(int32(n), err)
		}
	}
	return frame, nil
}

func tooLarge(n, limit int32) *FrameError {
	return &FrameError{Length: n, Msg: fmt.Sprintf("a request of this kind may have %d bytes", limit)}
}

// cut is the error of a frame that did not arrive whole.
func cut(n int32, err error) *FrameError {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &FrameError{Length: n, Err: err}
}

// ReadFrame reads one frame of at most maxBytes, whatever its API key. It is
// for clients and tests; connections keep a [FrameReader].
func ReadFrame(r io.Reader, maxBytes int32, alloc func(n int) []byte) ([]byte, error) {
	f := NewFrameReader(r, FrameLimits{MaxBytes: maxBytes, MaxOtherBytes: maxBytes}, nil)
	if alloc != nil {
		f.alloc = AllocFunc(alloc)
	}
	return f.Next()
}
