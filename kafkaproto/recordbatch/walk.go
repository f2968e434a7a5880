package recordbatch

import (
	"errors"
	"io"
	"sync"
)

// walk goes over the records of one batch, in memory or as a stream, and
// checks each. Both forms check the same; they are separate because the first
// is to run at memory speed.
type walk struct {
	firstTimestamp int64
	minTimestamp   int64 // inclusive, as is maxTimestamp
	maxTimestamp   int64
	latest         int64 // latest timestamp seen
	n              int32
	lastDelta      int32
	requireKey     bool
	gaps           bool // offsets need only grow, as after compaction
}

// What uvarint says when there is no number to return.
const (
	varintShort = -1 // the bytes end within it
	varintLong  = -2 // it has more bits than its type
)

// uvarint reads an unsigned varint of at most 64 bits at p[i]. It returns where
// the next byte is, or one of the negative codes. Callers read one-byte
// numbers, which nearly all are, themselves.
func uvarint(p []byte, i int) (v uint64, next int) {
	var shift uint
	for ; i < len(p); i++ {
		c := p[i]
		if shift == 63 && c > 1 {
			return 0, varintLong
		}
		if c < 0x80 {
			return v | uint64(c)<<shift, i + 1
		}
		v |= uint64(c&0x7f) << shift
		shift += 7
	}
	return 0, varintShort
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func isInt32(v int64) bool { return v == int64(int32(v)) }

// memory walks records that are not compressed. The function is long because
// its parts would be calls: a batch of 100-byte records has 10,000 of them a
// MiB, and one call each for seven numbers is what the walk would cost.
func (w *walk) memory(p []byte) error {
	i, prev := 0, int64(-1)
	for r := range int(w.n) {
		var u uint64
		// Length of the record: everything below is judged against its end.
		if i < len(p) && p[i] < 0x80 {
			u = uint64(p[i])
			i++
		} else if u, i = uvarint(p, i); i < 0 {
			return badVarint(r, "length", i)
		}
		length := unzigzag(u)
		if length < 0 || length > int64(len(p)-i) {
			return recordError(KindInvalidRecord, r, "the record claims %d bytes; %d are left in the batch", length, len(p)-i)
		}
		end := i + int(length)
		q := p[:end]
		i++ // attributes, which have no meaning yet

		if i < len(q) && q[i] < 0x80 {
			u = uint64(q[i])
			i++
		} else if u, i = uvarint(q, i); i < 0 {
			return badVarint(r, "timestamp delta", i)
		}
		ts := w.firstTimestamp + unzigzag(u)
		if ts != NoTimestamp && (ts < w.minTimestamp || ts > w.maxTimestamp) {
			return w.badTimestamp(r, ts)
		}
		w.latest = max(w.latest, ts)

		if i < len(q) && q[i] < 0x80 {
			u = uint64(q[i])
			i++
		} else if u, i = uvarint(q, i); i < 0 {
			return badVarint(r, "offset delta", i)
		}
		delta := unzigzag(u)
		if delta != prev+1 && (!w.gaps || delta <= prev) || delta > int64(w.lastDelta) {
			return w.badDelta(r, delta, prev)
		}
		prev = delta

		if i < len(q) && q[i] < 0x80 {
			u = uint64(q[i])
			i++
		} else if u, i = uvarint(q, i); i < 0 {
			return badVarint(r, "key length", i)
		}
		size := unzigzag(u)
		if size < 0 {
			if w.requireKey || size != -1 {
				return badKey(r, size)
			}
			size = 0
		}
		if size > int64(len(q)-i) {
			return badSize(r, "key", size, len(q)-i)
		}
		i += int(size)

		if i < len(q) && q[i] < 0x80 {
			u = uint64(q[i])
			i++
		} else if u, i = uvarint(q, i); i < 0 {
			return badVarint(r, "value length", i)
		}
		if size = unzigzag(u); size == -1 {
			size = 0
		}
		if size < 0 || size > int64(len(q)-i) {
			return badSize(r, "value", size, len(q)-i)
		}
		i += int(size)

		if i == len(q)-1 && q[i] == 0 {
			i++ // no headers: the common end
			continue
		}
		if err := walkHeaders(q, i, r); err != nil {
			return err
		}
		i = end
	}
	if i != len(p) {
		return newError(KindInvalidRecord, "%d bytes follow the %d records of the batch", len(p)-i, w.n)
	}
	return nil
}

// walkHeaders checks the header count and headers at q[i], which must fill q.
func walkHeaders(q []byte, i, r int) error {
	u, i := uvarint(q, i)
	if i < 0 {
		return badVarint(r, "header count", i)
	}
	n := unzigzag(u)
	// A header has at least two bytes; the bound is here for the message.
	if n < 0 || n > int64(len(q)-i)/2 {
		return recordError(KindInvalidRecord, r, "the record claims %d headers in %d bytes", n, len(q)-i)
	}
	for range n {
		for _, field := range [2]string{"header key", "header value"} {
			if u, i = uvarint(q, i); i < 0 {
				return badVarint(r, field, i)
			}
			size := unzigzag(u)
			if size == -1 && field == "header value" {
				continue
			}
			if size < 0 || size > int64(len(q)-i) {
				return badSize(r, field, size, len(q)-i)
			}
			i += int(size)
		}
	}
	if i != len(q) {
		return recordError(KindInvalidRecord, r, "the record has %d bytes more than its fields", len(q)-i)
	}
	return nil
}

func (w *walk) badTimestamp(r int, ts int64) *Error {
	return recordError(KindInvalidTimestamp, r, "timestamp %d is out of range; it should be within [%d, %d]", ts, w.minTimestamp, w.maxTimestamp)
}

func (w *walk) badDelta(r int, delta, prev int64) *Error {
	return recordError(KindInvalidRecord, r, "offset delta %d follows %d; the last of the batch is %d", delta, prev, w.lastDelta)
}

func badKey(r int, size int64) *Error {
	if size == -1 {
		return recordError(KindInvalidRecord, r, "a compacted topic takes no record without a key")
	}
	return recordError(KindInvalidRecord, r, "key length %d", size)
}

func badSize(r int, field string, size int64, left int) *Error {
	return recordError(KindInvalidRecord, r, "%s of %d bytes; %d are left in the record", field, size, left)
}

func badVarint(r int, field string, code int) *Error {
	if code == varintShort {
		return recordError(KindInvalidRecord, r, "the record ends within its %s", field)
	}
	return recordError(KindInvalidRecord, r, "the %s has too many bits", field)
}

// streamBufferSize is how much is decompressed at a time. It is the block of
// the LZ4 frames Kafka's clients write, which then decompress right into it.
const streamBufferSize = 64 << 10

// stream is the window over a decoder that a compressed walk reads from.
type stream struct {
	src  io.Reader
	left int64 // bytes that may still be decompressed
	at   int64 // bytes of the body before buf[r]
	r, w int
	err  error // why fill stopped: io.EOF or the decoder's
	buf  [streamBufferSize]byte
}

var streamPool = sync.Pool{New: func() any { return new(stream) }}

// fill makes at least one byte available, or fails and says why in s.err.
func (s *stream) fill() bool {
	if s.err != nil {
		return false
	}
	s.r, s.w = 0, 0
	for range maxIdleReads {
		n, err := s.src.Read(s.buf[:])
		s.w = n
		s.left -= int64(n)
		switch {
		case s.left < 0:
			s.w, s.err = 0, errTooMuch
			return false
		case err != nil:
			// What came with the error is good; the error is for next time.
			s.err = err
			return n > 0
		case n > 0:
			return true
		}
	}
	s.err = io.ErrNoProgress
	return false
}

func (s *stream) uvarint() (uint64, int) {
	if s.r < s.w && s.buf[s.r] < 0x80 {
		s.r++
		s.at++
		return uint64(s.buf[s.r-1]), 0
	}
	var v uint64
	for shift := uint(0); ; shift += 7 {
		if s.r == s.w && !s.fill() {
			return 0, varintShort
		}
		c := s.buf[s.r]
		s.r++
		s.at++
		if shift == 63 && c > 1 {
			return 0, varintLong
		}
		if c < 0x80 {
			return v | uint64(c)<<shift, 0
		}
		v |= uint64(c&0x7f) << shift
	}
}

// skip passes over n bytes.
func (s *stream) skip(n int64) bool {
	s.at += n
	for n > int64(s.w-s.r) {
		n -= int64(s.w - s.r)
		if !s.fill() {
			return false
		}
	}
	s.r += int(n)
	return true
}

// compressed walks records that are compressed, decompressing a window at a
// time, so that a batch costs a window and no more, whatever it claims.
func (w *walk) compressed(c Codec, body []byte, maxBytes int64) error {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxDecompressedBytes
	}
	d, err := openDecoder(c, body, maxBytes)
	if err != nil {
		return decompressError(c, maxBytes, -1, err)
	}
	defer closeDecoder(c, d)
	s := streamPool.Get().(*stream)
	s.src, s.left, s.at, s.r, s.w, s.err = d, maxBytes, 0, 0, 0, nil
	defer func() {
		s.src = nil
		streamPool.Put(s)
	}()
	prev := int64(-1)
	for r := range int(w.n) {
		if prev, err = w.streamed(s, r, prev); err != nil {
			// Where the stream broke, that is the cause; what the walk made
			// of it only follows.
			if s.err != nil && !isEOF(s.err) {
				return decompressError(c, maxBytes, r, s.err)
			}
			return err
		}
	}
	switch {
	case s.r < s.w || s.fill():
		return newError(KindInvalidRecord, "more bytes follow the %d records of the batch", w.n)
	case !isEOF(s.err):
		return decompressError(c, maxBytes, -1, s.err)
	}
	return nil
}

// isEOF tells the end of a stream from a stream that was cut.
func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// streamed checks one record and returns its offset delta.
func (w *walk) streamed(s *stream, r int, prev int64) (int64, error) {
	u, bad := s.uvarint()
	if bad < 0 {
		return 0, badVarint(r, "length", bad)
	}
	length := unzigzag(u)
	if length < 0 || !isInt32(length) {
		return 0, recordError(KindInvalidRecord, r, "the record claims %d bytes", length)
	}
	end := s.at + length
	if !s.skip(1) { // attributes
		return 0, badVarint(r, "attributes", varintShort)
	}
	if u, bad = s.uvarint(); bad < 0 {
		return 0, badVarint(r, "timestamp delta", bad)
	}
	ts := w.firstTimestamp + unzigzag(u)
	if ts != NoTimestamp && (ts < w.minTimestamp || ts > w.maxTimestamp) {
		return 0, w.badTimestamp(r, ts)
	}
	w.latest = max(w.latest, ts)
	if u, bad = s.uvarint(); bad < 0 {
		return 0, badVarint(r, "offset delta", bad)
	}
	delta := unzigzag(u)
	if delta != prev+1 && (!w.gaps || delta <= prev) || delta > int64(w.lastDelta) {
		return 0, w.badDelta(r, delta, prev)
	}
	if u, bad = s.uvarint(); bad < 0 {
		return 0, badVarint(r, "key length", bad)
	}
	size := unzigzag(u)
	if size < -1 || size == -1 && w.requireKey {
		return 0, badKey(r, size)
	}
	if err := s.field(r, "key", size, end); err != nil {
		return 0, err
	}
	if err := s.sized(r, "value", -1, end); err != nil {
		return 0, err
	}
	if u, bad = s.uvarint(); bad < 0 {
		return 0, badVarint(r, "header count", bad)
	}
	n := unzigzag(u)
	if n < 0 || n > (end-s.at)/2 {
		return 0, recordError(KindInvalidRecord, r, "the record claims %d headers in %d bytes", n, end-s.at)
	}
	for range n {
		if err := s.sized(r, "header key", 0, end); err != nil {
			return 0, err
		}
		if err := s.sized(r, "header value", -1, end); err != nil {
			return 0, err
		}
	}
	if s.at != end {
		return 0, recordError(KindInvalidRecord, r, "the fields of the record end %d bytes from its end", end-s.at)
	}
	return delta, nil
}

// sized passes over a length and that many bytes; least is the least length.
func (s *stream) sized(r int, name string, least, end int64) error {
	u, bad := s.uvarint()
	if bad < 0 {
		return badVarint(r, name+" length", bad)
	}
	size := unzigzag(u)
	if size < least {
		return badSize(r, name, size, int(end-s.at))
	}
	return s.field(r, name, size, end)
}

// field passes over size bytes, none for -1.
func (s *stream) field(r int, name string, size, end int64) error {
	if size <= 0 {
		return nil
	}
	if size > end-s.at {
		return badSize(r, name, size, int(end-s.at))
	}
	if !s.skip(size) {
		return recordError(KindInvalidRecord, r, "the records end within a %s of %d bytes", name, size)
	}
	return nil
}
