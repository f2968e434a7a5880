package s3

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func manySlices(data []byte, n int) [][]byte {
	slices := [][]byte{nil}
	for ; len(data) > n; data = data[n:] {
		slices = append(slices, data[:n], nil)
	}
	return append(slices, data, nil)
}

func TestReader(t *testing.T) {
	data := random(1, 10_000)
	moved := 0
	r := newReader(manySlices(data, 7), int64(len(data)), func(n int) { moved += n })
	require.NoError(t, iotest.TestReader(r, data))
	require.Positive(t, moved)
	for _, off := range []int64{-1, int64(len(data)) + 1} {
		_, err := r.Seek(off, io.SeekStart)
		require.Error(t, err)
	}
	_, err := r.Seek(0, 7)
	require.Error(t, err)
	r.release()
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, errReleased)
	_, err = r.writeTo(io.Discard, 1)
	require.ErrorIs(t, err, errReleased)
}

func TestWriteTo(t *testing.T) {
	data := random(1, 3*writevBytes+1000)
	for _, n := range []int{10, 1000, writevBytes - 1, writevBytes, writevBytes + 1, len(data)} {
		r := newReader(manySlices(data, n), int64(len(data)), func(int) {})
		_, err := r.Read(make([]byte, 100))
		require.NoError(t, err)
		var got bytes.Buffer
		written, err := r.writeTo(&got, int64(len(data))-101)
		require.NoError(t, err)
		require.EqualValues(t, len(data)-101, written)
		require.True(t, bytes.Equal(data[100:len(data)-1], got.Bytes()), n)
		written, err = r.writeTo(&got, 1<<40)
		require.NoError(t, err)
		require.EqualValues(t, 1, written)
	}
}

// TestVectoredWrite: net/http hands the body to conn.ReadFrom as it hopes for. If a version of Go stops doing that, puts
// get slower by a copy and this test fails.
func TestVectoredWrite(t *testing.T) {
	s := open(t, serverNamed(t, "minio").options())
	dial := s.http.transport.DialContext
	var vectored atomic.Int64
	s.http.transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return countingConn{c.(conn), &vectored}, nil
	}
	s.http.transport.CloseIdleConnections()
	data := random(1, 8<<20)
	require.NoError(t, s.Put(t.Context(), "vectored", objstore.NewBody(manySlices(data, 4000)...)))
	requireStored(t, s, "vectored", data)
	require.EqualValues(t, 1, vectored.Load())
}

type countingConn struct {
	conn

	vectored *atomic.Int64
}

func (c countingConn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if _, ok := limited.R.(requestBody); ok {
			c.vectored.Add(1)
		}
	}
	return c.conn.ReadFrom(r)
}
