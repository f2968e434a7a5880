package broker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/streamhouse/streamhouse/kafkaproto"
	"github.com/streamhouse/streamhouse/storage/slab"
)

const (
	// readBuffer is what an idle connection keeps for reading, in bytes. Long frames bypass it.
	readBuffer = 512
	// headBytes are those of a frame that must have arrived before memory is given to it: API key, version,
	// correlation id.
	headBytes = 8
	// firstPiece is what a long frame gets before it has sent anything; it must fill it to get the rest.
	firstPiece = 64 * kib
)

// A frameError closes the connection; its text is logged.
type frameError struct{ msg string }

func (e *frameError) Error() string { return e.msg }

func badFrame(format string, args ...any) error {
	return &frameError{msg: fmt.Sprintf(format, args...)}
}

// errIdle: nothing arrived within the idle timeout.
var errIdle = errors.New("connection was idle")

// frame is one request frame and the memory accounted for it.
type frame struct {
	buf    *slab.Buf
	memory int64 // taken from the broker's budget
	flight int64 // taken from the connection's budget
}

// frameReader reads frames of one connection within the bounds.
type frameReader struct {
	nc      net.Conn
	in      *bufio.Reader
	pool    *slab.Pool
	memory  *budget             // broker-wide
	flight  *semaphore.Weighted // this connection's
	limits  *Limits
	busy    func() bool // requests are under way: not idle
	stopped func() bool // reading was told to end
}

// next reads one frame, without its length. ctx ends waiting for memory.
func (f *frameReader) next(ctx context.Context) (frame, error) {
	if err := f.await(); err != nil {
		return frame{}, err
	}
	// The frame has started: from here on its bytes must keep coming.
	if err := f.nc.SetReadDeadline(time.Now().Add(f.limits.FrameTimeout)); err != nil {
		return frame{}, fmt.Errorf("set read deadline: %w", err)
	}
	if f.stopped() { // after the deadline was set, as in await
		return frame{}, net.ErrClosed
	}
	b, err := f.in.Peek(4)
	if err != nil {
		return frame{}, f.stalled(err, "its length")
	}
	size := int(int32(binary.BigEndian.Uint32(b)))
	switch {
	case size < 0:
		return frame{}, badFrame("frame length %d is negative", size)
	case size > f.limits.MaxRequestBytes:
		return frame{}, badFrame("frame length %d is over the limit of %d bytes", size, f.limits.MaxRequestBytes)
	case size < headBytes:
		return frame{}, badFrame("frame length %d is too short for a request header", size)
	}
	b, err = f.in.Peek(4 + headBytes)
	if err != nil {
		return frame{}, f.stalled(err, "its header")
	}
	if key := int16(binary.BigEndian.Uint16(b[4:])); key != 0 && size > kafkaproto.DefaultMaxOtherBytes {
		return frame{}, badFrame("frame length %d is over the limit of %d bytes for API key %d", size, kafkaproto.DefaultMaxOtherBytes, key)
	}
	if _, err := f.in.Discard(4); err != nil {
		return frame{}, fmt.Errorf("read frame length: %w", err)
	}
	return f.body(ctx, size)
}

// await waits for the first byte of a frame.
func (f *frameReader) await() error {
	for {
		if f.in.Buffered() > 0 {
			return nil
		}
		if err := f.nc.SetReadDeadline(time.Now().Add(f.limits.IdleTimeout)); err != nil {
			return fmt.Errorf("set read deadline: %w", err)
		}
		if f.stopped() { // after the deadline was set: stop sets an earlier one and must win
			return net.ErrClosed
		}
		_, err := f.in.Peek(1)
		switch {
		case err == nil:
			return nil
		case f.stopped():
			return net.ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded) && f.busy():
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errIdle
		default:
			return err
		}
	}
}

// body reads size bytes. Memory is accounted before it is allocated, and a long frame gets the bulk of its memory
// only once it has sent its first piece: a client that stalls holds little.
func (f *frameReader) body(ctx context.Context, size int) (fr frame, err error) {
	fr.flight = min(int64(size), f.limits.InFlightBytes)
	if err := f.flight.Acquire(ctx, fr.flight); err != nil {
		return frame{}, err
	}
	defer func() {
		if err != nil {
			f.release(fr)
			fr = frame{}
		}
	}()
	charge := func(n int) error {
		want := min(int64(n), f.limits.RequestMemoryBytes)
		f.memory.Release(fr.memory)
		fr.memory = 0
		if err := f.memory.Acquire(ctx, want); err != nil {
			return err
		}
		fr.memory = want
		return nil
	}
	var first *slab.Buf
	if size > firstPiece {
		if err := charge(firstPiece); err != nil {
			return fr, err
		}
		first = f.pool.Get(firstPiece)
		defer first.Release()
		if err := f.fill(first.Bytes()); err != nil {
			return fr, err
		}
	}
	if err := charge(size); err != nil {
		return fr, err
	}
	fr.buf = f.pool.Get(size)
	rest := fr.buf.Bytes()
	if first != nil {
		rest = rest[copy(rest, first.Bytes()):]
	}
	return fr, f.fill(rest)
}

// fill reads all of p; each MiB has the frame timeout.
func (f *frameReader) fill(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), mib)
		if f.in.Buffered() < n {
			if err := f.nc.SetReadDeadline(time.Now().Add(f.limits.FrameTimeout)); err != nil {
				return fmt.Errorf("set read deadline: %w", err)
			}
			if f.stopped() {
				return net.ErrClosed
			}
		}
		if _, err := io.ReadFull(f.in, p[:n]); err != nil {
			return f.stalled(err, "its body")
		}
		p = p[n:]
	}
	return nil
}

func (f *frameReader) stalled(err error, where string) error {
	switch {
	case f.stopped():
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return badFrame("a frame was started, then %s did not arrive for %s", where, f.limits.FrameTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return badFrame("the connection ended within a frame, before %s was complete", where)
	default:
		return err
	}
}

// release gives the frame's memory and accounts back.
func (f *frameReader) release(fr frame) {
	f.releaseMemory(&fr)
	if fr.flight > 0 {
		f.flight.Release(fr.flight)
	}
}

// releaseMemory gives the bytes back and keeps the connection's account.
func (f *frameReader) releaseMemory(fr *frame) {
	fr.buf.Release()
	fr.buf = nil
	if fr.memory > 0 {
		f.memory.Release(fr.memory)
		fr.memory = 0
	}
}
