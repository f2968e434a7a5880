package kafkaproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func frameOf(length int32, b ...byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(length)), b...)
}

func TestFrames(t *testing.T) {
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("client"))
	small := f.AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1)
	p := kmsg.NewPtrProduceRequest()
	p.Version = 9
	p.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: bytes.Repeat([]byte("x"), 3<<20)}}}}
	large := f.AppendRequest(nil, p, 2)
	stream := append(append(bytes.Clone(small), large...), small...)
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream),
		"bits":  iotest.HalfReader(bytes.NewReader(stream)),
	} {
		for _, alloc := range []Allocator{nil, AllocFunc(func(n int) []byte { return bytes.Repeat([]byte{0xee}, n) })} {
			if s, ok := r.(io.Seeker); ok {
				_, err := s.Seek(0, io.SeekStart)
				require.NoError(t, err)
			} else if alloc != nil {
				r = iotest.HalfReader(bytes.NewReader(stream))
			}
			fr := NewFrameReader(r, FrameLimits{}, alloc)
			for _, want := range [][]byte{small, large, small} {
				got, err := fr.Next()
				require.NoError(t, err, name)
				require.True(t, bytes.Equal(want[4:], got), name)
			}
			_, err := fr.Next()
			require.Equal(t, io.EOF, err)
		}
	}
	got, err := ReadFrame(bytes.NewReader(small), 1000, nil)
	require.NoError(t, err)
	require.Equal(t, small[4:], got)
}

func TestBadFrames(t *testing.T) {
	limits := FrameLimits{MaxBytes: 10 << 20, MaxOtherBytes: 1 << 20}
	asked := 0
	alloc := AllocFunc(func(n int) []byte { asked = n; return make([]byte, n) })
	for name, c := range map[string]struct {
		b   []byte
		cut bool
	}{
		"negative":              {b: frameOf(-1)},
		"least":                 {b: frameOf(math.MinInt32)},
		"2 GiB":                 {b: frameOf(math.MaxInt32, make([]byte, 100)...)},
		"over the limit":        {b: frameOf(10<<20+1, make([]byte, 100)...)},
		"zero":                  {b: frameOf(0)},
		"short":                 {b: frameOf(7, make([]byte, 7)...)},
		"metadata over its own": {b: frameOf(1<<20+1, append([]byte{0, 3}, make([]byte, 100)...)...)},
		"http":                  {b: []byte("GET / HTTP/1.1\r\n\r\n")},
		"tls":                   {b: []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}},
		"cut in the key":        {b: frameOf(100, 0, 0), cut: true},
		"cut in the frame":      {b: frameOf(100, make([]byte, 50)...), cut: true},
		"lying produce":         {b: frameOf(10<<20, make([]byte, 1000)...), cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, a := range []Allocator{nil, alloc} {
				asked = 0
				_, err := NewFrameReader(bytes.NewReader(c.b), limits, a).Next()
				var e *FrameError
				require.ErrorAs(t, err, &e)
				require.NotEmpty(t, e.Error())
				require.Equal(t, c.cut, errors.Is(err, io.ErrUnexpectedEOF), "%v", err)
				require.LessOrEqual(t, asked, eagerBytes, "memory for a frame that never came")
			}
		})
	}
	_, err := NewFrameReader(bytes.NewReader([]byte{0, 0}), limits, nil).Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	broken := errors.New("broken")
	_, err = NewFrameReader(iotest.ErrReader(broken), limits, nil).Next()
	require.ErrorIs(t, err, broken)
	_, err = ReadFrame(bytes.NewReader(frameOf(101, make([]byte, 101)...)), 100, nil)
	require.Error(t, err)
	_, err = ReadFrame(bytes.NewReader(frameOf(8, make([]byte, 8)...)), 100, func(int) []byte { return nil })
	require.Error(t, err)
}

func TestHeaders(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	id := "client-1"
	everyRequest(func(key, version int16) {
		for _, want := range []*string{nil, &id} {
			var opts []kmsg.RequestFormatterOpt
			if want != nil {
				opts = append(opts, kmsg.FormatterClientID(id))
			}
			r := randomRequest(rng, key, version)
			frame := kmsg.NewRequestFormatter(opts...).AppendRequest(nil, r, 42)[4:]
			if key == keyControlledShutdown && version == 0 {
				// kmsg's formatter leaves the body of this one out.
				frame, want = append(frame[:minFrame], r.AppendTo(nil)...), nil
			}
			h, body, err := ParseRequest(frame)
			require.NoError(t, err)
			require.Equal(t, RequestHeader{Key: key, Version: version, CorrelationID: 42, ClientID: want}, h)
			require.True(t, bytes.Equal(r.AppendTo(nil), body))
			again, _, err := ParseNextRequest(h, frame)
			require.NoError(t, err)
			require.Same(t, h.ClientID, again.ClientID)
		}
	})
}

func TestBadHeaders(t *testing.T) {
	head := func(key, version int16, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, uint16(key))
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		return append(append(b, 0, 0, 0, 9), rest...)
	}
	for name, c := range map[string]struct {
		frame []byte
		err   error
	}{
		"empty":               {nil, ErrMalformed},
		"short":               {make([]byte, 7), ErrMalformed},
		"unknown key":         {head(1000, 0, 255, 255), ErrUnknownAPI},
		"negative key":        {head(-1, 0, 255, 255), ErrUnknownAPI},
		"no client id":        {head(3, 1), ErrMalformed},
		"client id -2":        {head(3, 1, 255, 254), ErrMalformed},
		"client id cut":       {head(3, 1, 0, 5, 'a'), ErrMalformed},
		"no tags":             {head(3, 9, 255, 255), ErrMalformed},
		"four billion tags":   {head(3, 9, 255, 255, 255, 255, 255, 255, 15), ErrMalformed},
		"tag longer than all": {head(3, 9, 255, 255, 1, 0, 100, 0), ErrMalformed},
	} {
		h, body, err := ParseRequest(c.frame)
		require.ErrorIs(t, err, c.err, name)
		require.Nil(t, body, name)
		if len(c.frame) > 8 {
			require.EqualValues(t, 9, h.CorrelationID, name)
		}
	}
	h, body, err := ParseRequest(head(18, 99, 255, 255, 0xff, 0xff))
	require.NoError(t, err, "ApiVersions from the future is answered, so its header must be read")
	require.Equal(t, []byte{0xff, 0xff}, body)
	_, err = DecodeBody(h, body)
	require.ErrorIs(t, err, ErrUnsupportedVersion)
	_, err = DecodeBody(RequestHeader{Key: 3, Version: -1}, nil)
	require.ErrorIs(t, err, ErrUnsupportedVersion)
	_, err = DecodeBody(RequestHeader{Key: 95}, nil)
	require.ErrorIs(t, err, ErrUnknownAPI)
	h, body, err = ParseRequest(head(3, 9, 255, 255, 1, 7, 2, 'x', 'y', 0))
	require.NoError(t, err, "header tags nobody knows are skipped")
	require.EqualValues(t, 3, h.Key)
	require.Equal(t, []byte{0}, body)
}

// TestLyingBodies: each of these would cost kmsg alone gigabytes or minutes.
func TestLyingBodies(t *testing.T) {
	i32 := func(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	pad := make([]byte, 4<<20)
	for name, c := range map[string]struct {
		key, version int16
		body         []byte
	}{
		"produce: topics beyond the body":       {0, 3, join([]byte{255, 255, 0, 1}, i32(0), i32(math.MaxInt32))},
		"produce: a topic for each byte":        {0, 3, join([]byte{255, 255, 0, 1}, i32(0), i32(int32(len(pad))), pad)},
		"produce: a partition for each byte":    {0, 3, join([]byte{255, 255, 0, 1}, i32(0), i32(1), []byte{0, 0}, i32(int32(len(pad))), pad)},
		"produce: records beyond the body":      {0, 3, join([]byte{255, 255, 0, 1}, i32(0), i32(1), []byte{0, 0}, i32(1), i32(0), i32(math.MaxInt32))},
		"produce: records of length -2":         {0, 3, join([]byte{255, 255, 0, 1}, i32(0), i32(1), []byte{0, 0}, i32(1), i32(0), i32(-2))},
		"metadata: array length -2":             {3, 1, i32(-2)},
		"metadata: compact array of 4 billion":  {3, 9, []byte{255, 255, 255, 255, 15, 0, 0, 0}},
		"metadata: compact length of 70 bits":   {3, 9, bytes.Repeat([]byte{255}, 10)},
		"metadata: four billion tags":           {3, 9, []byte{0, 1, 1, 1, 255, 255, 255, 255, 15}},
		"metadata: two million tags":            {3, 9, join([]byte{0, 1, 1, 1, 128, 128, 128, 1}, pad)},
		"metadata: half a million topics":       {3, 1, join(i32(1<<19), make([]byte, 1<<20))},
		"fetch: known tag with a lie in it":     {1, 15, join(make([]byte, 21), []byte{1, 1, 1}, []byte{1, 1, 17}, make([]byte, 12), []byte{255, 255, 255, 255, 15})},
		"null where there must be a string":     {3, 1, join(i32(1), []byte{255, 255})},
		"describe partitions: a cursor cut off": {75, 0, []byte{1, 0, 0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := DecodeBody(RequestHeader{Key: c.key, Version: c.version}, c.body)
			require.ErrorIs(t, err, ErrMalformed)
			require.Less(t, time.Since(start), 5*time.Second)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
		})
	}
}

// TestProduceAliasesItsFrame, and nothing else does.
func TestProduceAliasesItsFrame(t *testing.T) {
	p := kmsg.NewPtrProduceRequest()
	p.Version = 11
	p.Topics = []kmsg.ProduceRequestTopic{{Topic: "topic", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: []byte("records")}}}}
	body := p.AppendTo(nil)
	r, err := DecodeBody(RequestHeader{Key: 0, Version: 11}, body)
	require.NoError(t, err)
	got := r.(*kmsg.ProduceRequest).Topics[0]
	overwrite := func(word string) {
		at := bytes.Index(body, []byte(word))
		require.GreaterOrEqual(t, at, 0)
		copy(body[at:], strings.ToUpper(word))
	}
	overwrite("records")
	overwrite("topic")
	require.Equal(t, "RECORDS", string(got.Partitions[0].Records))
	require.Equal(t, "topic", got.Topic)

	j := kmsg.NewPtrJoinGroupRequest()
	j.Version = 5
	j.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("metadata")}}
	body = j.AppendTo(nil)
	r, err = DecodeBody(RequestHeader{Key: 11, Version: 5}, body)
	require.NoError(t, err)
	clear(body)
	require.Equal(t, "metadata", string(r.(*kmsg.JoinGroupRequest).Protocols[0].Metadata))
}

func TestAppendResponse(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	everyRequest(func(key, version int16) {
		resp := randomRequest(rng, key, version).ResponseKind()
		resp.SetVersion(version)
		got := AppendResponse([]byte("before"), 77, resp)[6:]
		require.EqualValues(t, len(got)-4, binary.BigEndian.Uint32(got))
		require.EqualValues(t, 77, binary.BigEndian.Uint32(got[4:]))
		body := got[8:]
		if resp.IsFlexible() && key != 18 {
			require.Zero(t, body[0])
			body = body[1:]
		}
		require.True(t, bytes.Equal(resp.AppendTo(nil), body), "%s version %d", RequestName(key), version)
	})
}

func TestNames(t *testing.T) {
	require.Equal(t, "Produce", RequestName(0))
	require.Equal(t, "Unknown", RequestName(-1))
	require.Equal(t, "Unknown", RequestName(4711))
	require.Equal(t, "NONE", ErrorName(0))
	require.Equal(t, "UNKNOWN_SERVER_ERROR", ErrorName(-1))
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", ErrorName(6))
	require.Equal(t, "INVALID_RECORD", ErrorName(87))
	require.Equal(t, "UNKNOWN_TOPIC_ID", ErrorName(100))
	require.Equal(t, "ERROR_9999", ErrorName(9999))
}

func BenchmarkDecodeProduce(b *testing.B) {
	p := kmsg.NewPtrProduceRequest()
	p.Version = 11
	for range 6 {
		p.Topics = append(p.Topics, kmsg.ProduceRequestTopic{Topic: "a-topic", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: make([]byte, 1<<20)}}})
	}
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, p, 1)[4:]
	b.ReportAllocs()
	var last RequestHeader
	for b.Loop() {
		h, body, err := ParseNextRequest(last, frame)
		if err != nil {
			b.Fatal(err)
		}
		if _, err = DecodeBody(h, body); err != nil {
			b.Fatal(err)
		}
		last = h
	}
}
