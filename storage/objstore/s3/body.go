package s3

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

// errReleased ends a transport that still reads a body after its attempt has ended.
var errReleased = errors.New("the attempt to send this body has ended")

const (
	// writevBytes is how much one writev takes: progress is seen in steps of this size.
	writevBytes = 256 << 10
	// writevSlices is how many slices one writev takes; Linux allows 1,024.
	writevSlices = 512
)

// reader sends the slices of one body in one attempt. It is an io.ReadSeeker for the SDK, which asks its length and, if
// payloads are signed, reads it; and it is the request's body for the transport, which copies it through a buffer, or
// hands it to conn.ReadFrom, which does not.
//
// The transport may use it for a moment after the answer has come or the attempt was cancelled. release ends that: after
// it, no byte of the slices is touched, which lets Put keep its promise to retain nothing.
type reader struct {
	size     int64
	progress func(n int)

	mu struct {
		sync.Mutex
		slices   [][]byte
		released bool
		next     int   // slice
		off      int   // in slice next
		pos      int64 // in all
	}
	scratch [][]byte
}

func newReader(slices [][]byte, size int64, progress func(int)) *reader {
	r := &reader{size: size, progress: progress}
	r.mu.slices = slices
	return r
}

// release waits until nobody reads, and lets nobody read again. A writev under way ends because the attempt's end
// closed its connection.
func (r *reader) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.released, r.mu.slices = true, nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.released {
		return 0, errReleased
	}
	n := 0
	for n < len(p) {
		s := r.peekLocked()
		if s == nil {
			break
		}
		m := copy(p[n:], s)
		r.skipLocked(m)
		n += m
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	r.progress(n)
	return n, nil
}

// peekLocked is what is left of the current slice, or nil at the end.
func (r *reader) peekLocked() []byte {
	for r.mu.next < len(r.mu.slices) {
		if s := r.mu.slices[r.mu.next][r.mu.off:]; len(s) > 0 {
			return s
		}
		r.mu.next, r.mu.off = r.mu.next+1, 0
	}
	return nil
}

// skipLocked moves on within the current slice.
func (r *reader) skipLocked(n int) { r.mu.off += n; r.mu.pos += int64(n) }

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.mu.pos
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, errors.New("seek in object body: unknown whence")
	}
	if offset < 0 || offset > r.size {
		return 0, errors.New("seek in object body: out of bounds")
	}
	if offset == r.mu.pos {
		return offset, nil
	}
	r.mu.next, r.mu.off, r.mu.pos = 0, 0, 0
	for r.mu.pos < offset {
		s := r.peekLocked()
		if s == nil {
			return 0, errReleased
		}
		r.skipLocked(int(min(int64(len(s)), offset-r.mu.pos)))
	}
	return offset, nil
}

// writeTo writes at most limit bytes to c without copying them.
func (r *reader) writeTo(c io.Writer, limit int64) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var written int64
	for written < limit {
		if r.mu.released {
			return written, errReleased
		}
		chunk, want := r.scratch[:0], min(limit-written, writevBytes)
		for want > 0 && len(chunk) < writevSlices {
			s := r.peekLocked()
			if s == nil {
				break
			}
			s = s[:min(int64(len(s)), want)]
			chunk = append(chunk, s)
			want -= int64(len(s))
			r.skipLocked(len(s))
		}
		if len(chunk) == 0 {
			return written, nil
		}
		r.scratch = chunk
		buffers := net.Buffers(chunk)
		n, err := buffers.WriteTo(c)
		written += n
		r.progress(int(n))
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// requestBody makes a reader the body of a request. Closing it does nothing: release does.
type requestBody struct{ *reader }

// Close implements io.Closer.
func (requestBody) Close() error { return nil }

// attach replaces the body that the SDK gave the request, which hides what conn.ReadFrom looks for.
func (r *reader) attach(req *http.Request) {
	req.ContentLength = r.size
	if r.size == 0 {
		req.Body, req.GetBody = http.NoBody, nil
		return
	}
	rewind := func() (io.ReadCloser, error) {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return requestBody{r}, nil
	}
	// GetBody lets the transport take another connection when the first turns out to be closed before a byte was sent.
	req.Body, req.GetBody = requestBody{r}, rewind
	_, _ = rewind() // at the start already, unless the payload was signed; the start is always there
}

// conn is a TCP connection that takes the body of a Put by writev. Over TLS the bodies are copied anyway, by encrypting
// them.
type conn struct{ *net.TCPConn }

// ReadFrom implements io.ReaderFrom. net/http calls it with a limit around the request's body.
func (c conn) ReadFrom(from io.Reader) (int64, error) {
	if limited, ok := from.(*io.LimitedReader); ok {
		if body, ok := limited.R.(requestBody); ok {
			n, err := body.writeTo(c.TCPConn, limited.N)
			limited.N -= n
			return n, err
		}
	}
	return c.TCPConn.ReadFrom(from)
}
