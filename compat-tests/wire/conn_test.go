package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// conn is a plain connection to the broker. Every read and write ends after ten
// seconds.
type conn struct {
	net.Conn
	correlation int32
}

const within = 10 * time.Second

func dial(t *testing.T, b *target.Broker) *conn {
	t.Helper()
	d := net.Dialer{Timeout: within}
	c, err := d.DialContext(t.Context(), "tcp", b.Bootstrap)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return &conn{Conn: c}
}

// send writes a frame as it is given, length not included.
func (c *conn) send(frame []byte) error {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}

// receive reads one frame. io.EOF means that the broker closed the connection
// instead of answering.
func (c *conn) receive() ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	var n [4]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > 64<<20 {
		return nil, fmt.Errorf("answer of %d bytes", size)
	}
	frame := make([]byte, size)
	_, err := io.ReadFull(c, frame)
	return frame, err
}

var errTrailing = errors.New("answer does not encode back to the bytes received")

// do sends req and decodes the answer, which must be exactly what its own
// decoding encodes to: nothing missing, nothing left over.
func (c *conn) do(req kmsg.Request) (kmsg.Response, error) {
	c.correlation++
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire")).AppendRequest(nil, req, c.correlation)
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	if _, err := c.Write(frame); err != nil {
		return nil, err
	}
	answer, err := c.receive()
	if err != nil {
		return nil, err
	}
	r := kbin.Reader{Src: answer}
	if got := r.Int32(); got != c.correlation {
		return nil, fmt.Errorf("correlation id %d, want %d", got, c.correlation)
	}
	// The header of an ApiVersions answer never has tags, whatever the version.
	if req.IsFlexible() && req.Key() != kmsg.ApiVersions.Int16() {
		kmsg.SkipTags(&r)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(r.Src); err != nil {
		return nil, err
	}
	if back := resp.AppendTo(nil); !bytes.Equal(back, r.Src) {
		return resp, fmt.Errorf("%w: %d bytes, %d back", errTrailing, len(r.Src), len(back))
	}
	return resp, nil
}

// requireClosed checks that the broker answers nothing more and closes.
func (c *conn) requireClosed(t *testing.T) {
	t.Helper()
	_, err := c.receive()
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the broker neither answered nor closed")
}

// requireAlive checks that the broker still answers others.
func requireAlive(t *testing.T, b *target.Broker) {
	t.Helper()
	req := kmsg.NewPtrApiVersionsRequest()
	_, err := dial(t, b).do(req)
	require.NoError(t, err)
}
