package broker

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// header is the start of a frame: its length, API key, version, correlation id.
func header(length int32, key, version int16) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(length))
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	return binary.BigEndian.AppendUint32(b, 1)
}

func TestBadFramesCloseTheConnectionOnly(t *testing.T) {
	lying := func() []byte { // a Metadata request with 2^31-1 topics
		b := header(0, 3, 1)
		b = binary.BigEndian.AppendUint16(b, 0xffff)
		b = binary.BigEndian.AppendUint32(b, math.MaxInt32)
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		return b
	}
	for name, c := range map[string]struct {
		frame []byte
		line  string
	}{
		"negative length":       {header(-1, 3, 1), "is negative"},
		"2 GiB":                 {header(math.MaxInt32, 0, 3), "over the limit"},
		"over the limit":        {header(100<<20+1, 0, 3), "over the limit"},
		"too long for its API":  {header(20<<20, 3, 1), "over the limit"},
		"shorter than a header": {header(4, 3, 1), "too short"},
		"unknown key":           {append(header(10, 999, 0), 0xff, 0xff), "unknown api key"},
		"key of another broker": {append(header(10, 4, 0), 0xff, 0xff), "is not supported"},
		"unsupported version":   {append(header(11, 3, 99), 0xff, 0xff, 0), "is not supported"},
		"produce version 2":     {append(header(10, 0, 2), 0xff, 0xff), "is not supported"},
		"array length lies":     {lying(), "malformed"},
		"client id lies":        {append(header(10, 3, 1), 0x7f, 0xff), "malformed"},
		"garbage":               {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "over the limit"},
	} {
		t.Run(name, func(t *testing.T) {
			tb := start(t)
			bad, good := tb.dial(), tb.dial()
			_, err := bad.nc.Write(c.frame)
			require.NoError(t, err)
			bad.closed()
			tb.lines.await(t, c.line)
			resp := ask(good, kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
			require.Len(t, resp.Brokers, 1)
		})
	}
}

func TestTruncatedFrame(t *testing.T) {
	tb := start(t)
	c := tb.dial()
	f := c.frameOf(kmsg.NewPtrMetadataRequest(), 5)
	_, err := c.nc.Write(f[:len(f)-3])
	require.NoError(t, err)
	require.NoError(t, c.nc.(*net.TCPConn).CloseWrite())
	c.closed()
	tb.lines.await(t, "ended within a frame")
}

func TestEarlierRequestsAreAnsweredBeforeABadOneCloses(t *testing.T) {
	tb := start(t)
	c := tb.dial()
	req := kmsg.NewPtrMetadataRequest()
	f := c.frameOf(req, 5)
	_, err := c.nc.Write(append(f, header(-5, 0, 0)...))
	require.NoError(t, err)
	c.receive(req, 1)
	c.closed()
}

func TestUnknownApiVersionsVersion(t *testing.T) {
	tb := start(t)
	c := tb.dial()
	for _, v := range []int16{5, 99} {
		b := header(0, 18, v)
		b = binary.BigEndian.AppendUint16(b, 0xffff)
		b = append(b, 0, 1, 2, 3) // whatever a newer version has
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		_, err := c.nc.Write(b)
		require.NoError(t, err)
		got, err := c.read()
		require.NoError(t, err)
		resp := kmsg.NewPtrApiVersionsResponse()
		require.NoError(t, resp.ReadFrom(got[4:]))
		require.Equal(t, "UNSUPPORTED_VERSION", names(resp.ErrorCode))
		require.NotEmpty(t, resp.ApiKeys)
	}
	resp := ask(c, &kmsg.ApiVersionsRequest{ClientSoftwareName: "a b"}, 3).(*kmsg.ApiVersionsResponse)
	require.Equal(t, "INVALID_REQUEST", names(resp.ErrorCode))
	resp = ask(c, &kmsg.ApiVersionsRequest{ClientSoftwareName: "x", ClientSoftwareVersion: "1.0"}, 4).(*kmsg.ApiVersionsResponse)
	require.Zero(t, resp.ErrorCode)
	require.Len(t, resp.ApiKeys, len(table()))
	require.EqualValues(t, 0, resp.ApiKeys[0].MinVersion, "as Kafka, for librdkafka")
}

func TestStalledFrameIsClosed(t *testing.T) {
	tb := start(t, func(c *Config) { c.Limits.FrameTimeout = 50 * time.Millisecond })
	for _, f := range [][]byte{
		{0},                            // within the length
		header(100<<20, 0, 3)[:6],      // within the header
		header(100<<20, 0, 3),          // before the body
		append(header(30, 0, 3), 0xff), // within a short body
		append(header(99<<20, 0, 3), make([]byte, 100<<10)...), // after its first piece
	} {
		c := tb.dial()
		_, err := c.nc.Write(f)
		require.NoError(t, err)
		c.closed()
	}
	tb.lines.await(t, "did not arrive for")
	require.LessOrEqual(t, tb.pool.InUse(), int64(64<<10), "stalled frames hold nothing once closed")
}

func TestAStalledHugeFrameHoldsLittle(t *testing.T) {
	tb := start(t)
	c := tb.dial()
	_, err := c.nc.Write(append(header(99<<20, 0, 3), make([]byte, 10<<10)...))
	require.NoError(t, err)
	ask(tb.dial(), kmsg.NewPtrMetadataRequest(), 5) // time passes
	require.LessOrEqual(t, tb.pool.InUse(), int64(firstPiece+64<<10))
}

func TestIdleConnectionIsClosed(t *testing.T) {
	tb := start(t, func(c *Config) { c.Limits.IdleTimeout = 30 * time.Millisecond })
	tb.dial().closed()
	require.NotContains(t, tb.lines.String(), "level=WARN", "idle is no news")
}

func TestClientThatNeverReadsIsClosed(t *testing.T) {
	tb := start(t, func(c *Config) { c.Limits.WriteTimeout = 50 * time.Millisecond })
	id := tb.topic("big", 1)
	c := tb.dial()
	part := produceOne(c, "big", batchOf(t, batchSpec(), string(make([]byte, 900<<10))))
	require.Zero(t, part.ErrorCode)
	deaf := tb.dial()
	for range 40 {
		if _, err := deaf.nc.Write(deaf.frameOf(fetchRequest("", id, 0), 16)); err != nil {
			break
		}
	}
	tb.lines.await(t, "client does not read its answers")
}

func TestTwoThousandIdleConnections(t *testing.T) {
	tb := start(t)
	for range 2000 {
		tb.dial()
	}
	resp := ask(tb.dial(), kmsg.NewPtrMetadataRequest(), 5).(*kmsg.MetadataResponse)
	require.Len(t, resp.Brokers, 1)
	require.Zero(t, tb.pool.InUse(), "idle connections hold no frames")
}

func TestConnectionLimits(t *testing.T) {
	for name, l := range map[string]Limits{"total": {MaxConnections: 2}, "per address": {MaxConnectionsPerIP: 2}} {
		t.Run(name, func(t *testing.T) {
			tb := start(t, func(c *Config) { c.Limits = l })
			a, b := tb.dial(), tb.dial()
			ask(a, kmsg.NewPtrMetadataRequest(), 5)
			ask(b, kmsg.NewPtrMetadataRequest(), 5)
			tb.dial().closed()
			tb.lines.await(t, "connection refused")
			ask(a, kmsg.NewPtrMetadataRequest(), 5)
		})
	}
}

func TestPanicClosesOneConnection(t *testing.T) {
	tb := start(t, func(c *Config) { c.Log = panicLog{c.Log} })
	id := tb.topic("t", 1)
	good := tb.dial()
	for _, req := range []struct {
		req     kmsg.Request
		version int16
	}{
		{fetchRequest("", id, 0), 15},
		{produceRequest("t", id, 0, batchOf(t, batchSpec(), "x")), 9},
	} {
		c := tb.dial()
		c.send(req.req, req.version)
		c.closed()
		tb.lines.await(t, "panic while serving")
		ask(good, kmsg.NewPtrMetadataRequest(), 5)
	}
}

func TestTopicNamesAndSizesRefused(t *testing.T) {
	tb := start(t)
	tb.topic("a.b", 1)
	long := make([]byte, 250)
	for i := range long {
		long[i] = 'a'
	}
	c := tb.dial()
	create := func(name string, partitions int32) string {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 5000
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 3
		req.Topics = append(req.Topics, rt)
		resp := ask(c, req, 7).(*kmsg.CreateTopicsResponse)
		require.NotNil(t, resp.Topics[0].ErrorMessage)
		return names(resp.Topics[0].ErrorCode)
	}
	for _, name := range []string{"", ".", "..", "a/b", "ä", string(long), "a_b"} {
		require.Equal(t, "INVALID_TOPIC_EXCEPTION", create(name, 1), name)
	}
	require.Equal(t, "TOPIC_ALREADY_EXISTS", create("a.b", 1))
	require.Equal(t, "INVALID_PARTITIONS", create("n", 0))
	require.Equal(t, "INVALID_PARTITIONS", create("n", -2))
	require.Equal(t, "INVALID_PARTITIONS", create("n", 1_000_000))
	n, _ := tb.Topics()
	require.Equal(t, 1, n)
}

func TestRequestMemoryIsBounded(t *testing.T) {
	// Frames of 3 MiB each with a budget of 4 MiB: they are served one after another, and one longer than the budget
	// is served alone.
	tb := start(t, func(c *Config) { c.Limits.RequestMemoryBytes = 4 * mib })
	id := tb.topic("t", 1, "max.message.bytes", "20000000")
	errs := make(chan error, 6)
	for i := range 6 {
		size := 3 * mib
		if i == 5 {
			size = 6 * mib
		}
		c := tb.dial()
		batch := batchOf(t, batchSpec(), string(make([]byte, size)))
		go func() {
			resp := ask(c, produceRequest("", id, 0, batch), 13).(*kmsg.ProduceResponse)
			if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
				errs <- fmt.Errorf("%s", names(code))
				return
			}
			errs <- nil
		}()
	}
	for range 6 {
		require.NoError(t, <-errs)
	}
}

// panicLog panics where a defect might.
type panicLog struct{ Log }

func (panicLog) Read(context.Context, storage.ReadRequest, *storage.Read) error { panic("read") }

func (panicLog) Append(context.Context, catalog.TopicPartition, []byte, recordbatch.Header, *slab.Buf) (storage.Pending, error) {
	panic("append")
}
