package light

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 64 << 20

// Conn is a connection to a broker, for one goroutine. What ends its context closes it.
type Conn struct {
	nc          net.Conn
	in          *bufio.Reader
	format      *kmsg.RequestFormatter
	out, answer []byte
	correlation int32
	stop        func() bool
}

// Dial connects to addr, host:port. The connection is closed when ctx ends.
func Dial(ctx context.Context, addr, clientID string) (*Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	c := &Conn{nc: nc, in: bufio.NewReaderSize(nc, 1024), format: kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID))}
	c.stop = context.AfterFunc(ctx, func() { _ = nc.Close() })
	return c, nil
}

// Close closes the connection.
func (c *Conn) Close() {
	c.stop()
	_ = c.nc.Close()
}

// Do sends a request, whose version is set, and waits for its answer, however long that takes.
func (c *Conn) Do(req kmsg.Request) (kmsg.Response, error) {
	c.correlation++
	c.out = c.format.AppendRequest(c.out[:0], req, c.correlation)
	if _, err := c.nc.Write(c.out); err != nil {
		return nil, fmt.Errorf("send a request: %w", err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c.in, size[:]); err != nil {
		return nil, fmt.Errorf("wait for an answer: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxAnswer {
		return nil, fmt.Errorf("answer of %d bytes", n)
	}
	if uint32(cap(c.answer)) < n {
		c.answer = make([]byte, n)
	}
	c.answer = c.answer[:n]
	if _, err := io.ReadFull(c.in, c.answer); err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	r := kbin.Reader{Src: c.answer}
	if got := r.Int32(); got != c.correlation {
		return nil, fmt.Errorf("correlation id %d, want %d", got, c.correlation)
	}
	if req.IsFlexible() && req.Key() != kmsg.ApiVersions.Int16() {
		kmsg.SkipTags(&r)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(r.Src); err != nil {
		return nil, fmt.Errorf("decode an answer: %w", err)
	}
	return resp, nil
}
