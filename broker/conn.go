package broker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/streamhouse/streamhouse/broker/attribution"
	"github.com/streamhouse/streamhouse/kafkaproto"
)

// request is one request on its way through a connection.
type request struct {
	api         *api
	version     int16
	correlation int32
	clientID    string
	body        kmsg.Request
	received    time.Time
	conn        *conn
	frame       frame
	// early is what the reader already did for a pipelined request.
	early *produceCall
	// trace is who follows the request; nil: nobody does.
	trace *following
	// unsupported: an ApiVersions request of a version we do not know.
	unsupported bool
}

// conn serves one connection; see the package comment.
type conn struct {
	b         *Broker
	nc        net.Conn
	listener  string
	ip        string
	ctx       context.Context // the connection's life, shared by its two goroutines
	cancel    context.CancelFunc
	frames    frameReader
	queue     chan *request
	last      kafkaproto.RequestHeader // the reader's, of the request before
	open      atomic.Int32             // requests read and not answered
	changing  sync.WaitGroup           // requests in the queue whose api changes things; Add and Wait by the reader only
	stopped   atomic.Bool
	redirects redirects                          // the writer's
	reader    atomic.Pointer[attribution.Client] // who sent the last Fetch
	once      sync.Once
}

func newConn(b *Broker, nc net.Conn, listener, ip string) *conn {
	c := &conn{b: b, nc: nc, listener: listener, ip: ip, queue: make(chan *request, b.cfg.Limits.InFlightRequests)}
	c.ctx, c.cancel = context.WithCancel(b.ctx)
	c.frames = frameReader{
		nc: nc, in: bufio.NewReaderSize(nc, readBuffer), pool: b.cfg.Pool, memory: b.memory,
		flight: semaphore.NewWeighted(b.cfg.Limits.InFlightBytes), limits: &b.cfg.Limits,
		busy:    func() bool { return c.open.Load() > 0 },
		stopped: c.stopped.Load,
	}
	return c
}

func (c *conn) start() {
	go c.read()
	go func() {
		defer c.b.gone(c)
		c.write() // ends after the reader: it drains the queue until the reader closes it
	}()
}

// stopReading makes the reader end after the request it is at; the writer finishes what was read.
func (c *conn) stopReading() {
	c.stopped.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// abort closes the connection at once: waiting handlers end, nothing more is answered.
func (c *conn) abort() {
	c.once.Do(func() {
		c.cancel()
		_ = c.nc.Close()
	})
}

// read is the reader's goroutine.
func (c *conn) read() {
	defer close(c.queue)
	for {
		fr, err := c.frames.next(c.ctx)
		if err != nil {
			c.readFailed(err)
			return
		}
		r, err := c.accept(fr)
		if err != nil {
			c.frames.release(fr)
			c.refuse(err)
			return
		}
		select {
		case c.queue <- r:
		case <-c.ctx.Done():
			c.finish(r)
			return
		}
	}
}

// accept decodes a frame and starts a pipelined request.
func (c *conn) accept(fr frame) (r *request, err error) {
	defer c.contain(&err)
	r = &request{received: time.Now(), conn: c, frame: fr}
	if err := c.decode(r); err != nil {
		return nil, err
	}
	// Before anything is given back: should it panic, the reader gives all of it back.
	c.b.follow(r)
	if !r.api.pipelined { // only the record bytes of a Produce lie in the frame
		c.frames.releaseMemory(&r.frame)
	}
	c.open.Add(1)
	switch {
	case r.api.changes:
		c.changing.Add(1)
	case r.api.pipelined:
		c.changing.Wait()
		if err := c.begin(r); err != nil {
			r.trace.answered(err, false)
			r.trace.finish()
			c.open.Add(-1)
			return nil, err
		}
	}
	return r, nil
}

// begin starts a pipelined request. Its error is a panic.
func (c *conn) begin(r *request) (err error) {
	defer c.contain(&err)
	r.early = c.b.startProduce(c.ctx, r)
	return nil
}

// decode reads the frame's header, finds the api and decodes the body. Its errors close the connection, as in Kafka.
func (c *conn) decode(r *request) error {
	h, body, err := kafkaproto.ParseNextRequest(c.last, r.frame.buf.Bytes())
	if err != nil {
		return err
	}
	c.last = h
	r.version, r.correlation = h.Version, h.CorrelationID
	if h.ClientID != nil {
		r.clientID = *h.ClientID
	}
	r.api = c.b.apis[h.Key]
	switch {
	case r.api == nil:
		return badFrame("API key %d (%s) is not supported", h.Key, h.Name())
	case h.Version >= r.api.min && h.Version <= r.api.max:
		r.body, err = kafkaproto.DecodeBody(h, body)
		return err
	case h.Key == apiVersionsKey:
		r.version, r.unsupported = 0, true
		r.body = kmsg.NewPtrApiVersionsRequest()
		return nil
	default:
		return badFrame("%s version %d is not supported (%d to %d are)", r.api.name, h.Version, r.api.min, r.api.max)
	}
}

// readFailed ends the reader: a peer that is gone ends everything; otherwise what was read is still answered.
func (c *conn) readFailed(err error) {
	var bad *frameError
	switch {
	case errors.As(err, &bad):
		c.refuse(err)
	case errors.Is(err, errIdle), errors.Is(err, net.ErrClosed) && c.stopped.Load():
		// The writer answers what is left, then closes.
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.ErrClosedPipe):
		c.abort()
	default:
		c.b.limited.warn("reading from a client failed", "client", c.ip, "listener", c.listener, "error", err)
		c.abort()
	}
}

// refuse logs why the connection will be closed. Earlier requests are still answered.
func (c *conn) refuse(err error) {
	c.b.limited.warn("connection closed: bad request", "client", c.ip, "listener", c.listener, "error", err)
}

// write is the writer's goroutine: it answers requests in order, and closes the connection when there are no more.
func (c *conn) write() {
	failed := false
	for r := range c.queue {
		if !failed && c.ctx.Err() == nil {
			err := c.answer(r)
			r.trace.answered(err, c.left(err))
			if err != nil {
				failed = true
				c.writeFailed(r, err)
				c.abort()
			}
		}
		c.finish(r)
	}
	c.abort()
}

// left tells whether a request was not answered since the connection ended.
func (c *conn) left(err error) bool {
	return err != nil && (c.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe))
}

func (c *conn) writeFailed(r *request, err error) {
	switch {
	case c.left(err):
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.b.limited.warn("connection closed: client does not read its answers", "client", c.ip, "client_id", r.clientID, "listener", c.listener, "api", r.api.name)
	default:
		c.b.limited.warn("connection closed: request failed", "client", c.ip, "client_id", r.clientID, "listener", c.listener, "api", r.api.name, "error", err)
	}
}

// finish gives back what a request held. It is called once for each request that was accepted.
func (c *conn) finish(r *request) {
	if r.api.changes {
		c.changing.Done()
	}
	c.frames.release(r.frame)
	r.frame = frame{}
	r.trace.finish()
	c.open.Add(-1)
}

// answer handles one request (or waits for what the reader started) and writes its answer.
func (c *conn) answer(r *request) (err error) {
	defer c.contain(&err)
	resp, err := r.api.serve(c.b, c.ctx, r)
	if err != nil {
		return err
	}
	code, release := codeNone, func() {}
	if resp != nil {
		code = firstCode(resp)
		if f, ok := resp.(*fetchAnswer); ok {
			release = f.release
		}
	}
	r.trace.ready(c.b, r, resp, code)
	if c.b.obs.Request != nil {
		c.b.obs.Request(r.api.name, code, time.Since(r.received))
	}
	if resp == nil {
		return nil
	}
	defer release()
	return c.send(r, resp)
}

// send writes one answer. Record bytes of a Fetch go from where they lie to the socket.
func (c *conn) send(r *request, resp kmsg.Response) error {
	if f, ok := resp.(*fetchAnswer); ok {
		e, err := kafkaproto.EncodeFetch(r.correlation, r.version, &f.FetchResponse)
		if err != nil {
			return err
		}
		defer e.Release()
		if err := c.deadline(int(e.Size())); err != nil {
			return err
		}
		_, err = e.Buffers.WriteTo(c.nc)
		return err
	}
	scratch := answerBuffers.Get().(*[]byte)
	defer func() {
		if cap(*scratch) <= maxKeptAnswer {
			answerBuffers.Put(scratch)
		}
	}()
	*scratch = kafkaproto.AppendResponse((*scratch)[:0], r.correlation, resp)
	if err := c.deadline(len(*scratch)); err != nil {
		return err
	}
	_, err := c.nc.Write(*scratch)
	return err
}

// deadline gives a write of size bytes the write timeout per MiB.
func (c *conn) deadline(size int) error {
	d := c.b.cfg.Limits.WriteTimeout * time.Duration(1+size/mib)
	if err := c.nc.SetWriteDeadline(time.Now().Add(d)); err != nil {
		return fmt.Errorf("set write deadline: %w", err)
	}
	return nil
}

// contain turns a panic into an error that closes this connection only.
func (c *conn) contain(err *error) {
	p := recover()
	if p == nil {
		return
	}
	c.b.cfg.Logger.Error("panic while serving a request; its connection is closed. Please report this", "client", c.ip, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	*err = errPanic
}

var errPanic = errors.New("panic while serving the request")

// maxKeptAnswer is the largest encoding buffer kept for later, in bytes.
const maxKeptAnswer = 256 * kib

var answerBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}
