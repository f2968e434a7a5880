package broker

import (
	"encoding/binary"
	"hash/crc32"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
)

func batchSpec() recordbatch.Spec { return recordbatch.Spec{} }

// resum sets the checksum right after a test changed a batch.
func resum(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestBadBatches(t *testing.T) {
	tb := start(t)
	tb.topic("t", 1, "max.message.bytes", "2000", "message.timestamp.before.max.ms", "60000")
	tb.topic("compacted", 1, "cleanup.policy", "compact")
	c := tb.dial()
	change := func(f func([]byte)) []byte {
		b := batchOf(t, batchSpec(), "one", "two")
		f(b)
		return b
	}
	noKey, err := recordbatch.Build(recordbatch.Spec{FirstTimestamp: time.Now().UnixMilli()}, []recordbatch.Record{{Value: []byte("v")}})
	require.NoError(t, err)
	for name, x := range map[string]struct {
		batch []byte
		want  string
		topic string
	}{
		"wrong CRC":        {change(func(b []byte) { b[len(b)-1] ^= 1 }), "CORRUPT_MESSAGE", "t"},
		"length too long":  {change(func(b []byte) { binary.BigEndian.PutUint32(b[8:], uint32(len(b))) }), "INVALID_RECORD", "t"},
		"length negative":  {change(func(b []byte) { binary.BigEndian.PutUint32(b[8:], 0xffffffff) }), "CORRUPT_MESSAGE", "t"},
		"wrong count":      {change(func(b []byte) { binary.BigEndian.PutUint32(b[57:], 3); resum(b) }), "INVALID_RECORD", "t"},
		"magic 0":          {change(func(b []byte) { b[16] = 0 }), "INVALID_RECORD", "t"},
		"magic 1":          {change(func(b []byte) { b[16] = 1 }), "INVALID_RECORD", "t"},
		"future attribute": {change(func(b []byte) { b[21] |= 0x40; resum(b) }), "INVALID_RECORD", "t"},
		"unknown codec":    {change(func(b []byte) { b[22] |= 7; resum(b) }), "UNSUPPORTED_COMPRESSION_TYPE", "t"},
		"control":          {change(func(b []byte) { b[22] |= 0x20; resum(b) }), "INVALID_RECORD", "t"},
		"transactional":    {batchOf(t, recordbatch.Spec{Transactional: true, Producer: &recordbatch.Producer{ID: 1}}, "x"), "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "t"},
		"garbled records":  {change(func(b []byte) { b[61] = 0xff; b[62] = 0xff; b[63] = 0x7f; resum(b) }), "INVALID_RECORD", "t"},
		"too large":        {batchOf(t, batchSpec(), string(make([]byte, 3000))), "MESSAGE_TOO_LARGE", "t"},
		"too old":          {batchOf(t, recordbatch.Spec{FirstTimestamp: 1000}, "x"), "INVALID_TIMESTAMP", "t"},
		"from the future":  {batchOf(t, recordbatch.Spec{FirstTimestamp: time.Now().Add(3 * time.Hour).UnixMilli()}, "x"), "INVALID_TIMESTAMP", "t"},
		"no bytes":         {nil, "INVALID_RECORD", "t"},
		"two batches":      {append(batchOf(t, batchSpec(), "a"), batchOf(t, batchSpec(), "b")...), "INVALID_RECORD", "t"},
		"null key":         {noKey, "INVALID_RECORD", "compacted"},
		"unknown topic":    {batchOf(t, batchSpec(), "a"), "UNKNOWN_TOPIC_OR_PARTITION", "nope"},
		"short":            {[]byte{1, 2, 3}, "INVALID_RECORD", "t"},
	} {
		part := produceOne(c, x.topic, x.batch)
		require.Equal(t, x.want, names(part.ErrorCode), name)
		require.EqualValues(t, -1, part.BaseOffset, name)
	}
	part := produceOne(c, "compacted", noKey)
	require.Len(t, part.ErrorRecords, 1)
	require.Zero(t, part.ErrorRecords[0].RelativeOffset)
	o, err := tb.e.Offsets(t.Context(), catalog.TopicPartition{Topic: tb.topics.load().byName["t"].ID})
	require.NoError(t, err)
	require.Zero(t, o.HighWatermark, "nothing of it was kept")
}

func TestCompressionBomb(t *testing.T) {
	tb := start(t)
	tb.topic("t", 1)
	big := make([]byte, 200<<20)
	b, err := recordbatch.Build(recordbatch.Spec{FirstTimestamp: time.Now().UnixMilli(), Codec: recordbatch.CodecZstd}, []recordbatch.Record{{Value: big}})
	require.NoError(t, err)
	require.Less(t, len(b), mib)
	part := produceOne(tb.dial(), "t", b)
	require.Equal(t, "MESSAGE_TOO_LARGE", names(part.ErrorCode))
}

func TestProduceRequestErrors(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 2)
	c := tb.dial()
	send := func(version int16, change func(*kmsg.ProduceRequest)) kmsg.ProduceResponseTopicPartition {
		req := produceRequest("t", id, 0, batchOf(t, batchSpec(), "x"))
		change(req)
		return ask(c, req, version).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	}
	p := send(9, func(r *kmsg.ProduceRequest) { r.Acks = 2 })
	require.Equal(t, "INVALID_REQUIRED_ACKS", names(p.ErrorCode))
	p = send(9, func(r *kmsg.ProduceRequest) { r.Topics[0].Partitions[0].Partition = 2 })
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(p.ErrorCode))
	p = send(9, func(r *kmsg.ProduceRequest) { r.Topics[0].Partitions[0].Partition = -1 })
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(p.ErrorCode))
	p = send(13, func(r *kmsg.ProduceRequest) { r.Topics[0].TopicID = [16]byte{1} })
	require.Equal(t, "UNKNOWN_TOPIC_ID", names(p.ErrorCode))
	p = send(9, func(r *kmsg.ProduceRequest) { r.TransactionID = new("tx") })
	require.Equal(t, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", names(p.ErrorCode))
	p = send(6, func(r *kmsg.ProduceRequest) {
		r.Topics[0].Partitions[0].Records = batchOf(t, recordbatch.Spec{Codec: recordbatch.CodecZstd}, "x")
	})
	require.Equal(t, "UNSUPPORTED_COMPRESSION_TYPE", names(p.ErrorCode))

	// One bad partition does not stop the others.
	req := produceRequest("t", id, 0, batchOf(t, batchSpec(), "x"))
	bad := kmsg.NewProduceRequestTopicPartition()
	bad.Partition, bad.Records = 1, []byte("nonsense")
	req.Topics[0].Partitions = append([]kmsg.ProduceRequestTopicPartition{bad}, req.Topics[0].Partitions...)
	parts := ask(c, req, 13).(*kmsg.ProduceResponse).Topics[0].Partitions
	require.Equal(t, "INVALID_RECORD", names(parts[0].ErrorCode))
	require.Zero(t, parts[1].ErrorCode)
	require.Zero(t, parts[1].BaseOffset)
	require.EqualValues(t, -1, parts[1].LogAppendTime)
}

func TestEveryProduceAndFetchVersion(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1)
	c := tb.dial()
	n := int64(0)
	for v := int16(3); v <= 13; v++ {
		resp := ask(c, produceRequest("t", id, 0, batchOf(t, batchSpec(), "x", "y")), v).(*kmsg.ProduceResponse)
		p := resp.Topics[0].Partitions[0]
		require.Zero(t, p.ErrorCode, "version %d", v)
		require.Equal(t, n, p.BaseOffset)
		n += 2
	}
	for v := int16(4); v <= 18; v++ {
		resp := ask(c, fetchRequest("t", id, 0), v).(*kmsg.FetchResponse)
		p := resp.Topics[0].Partitions[0]
		require.Zero(t, p.ErrorCode)
		require.Equal(t, n, p.HighWatermark)
		require.EqualValues(t, 22, recordsIn(p.RecordBatches), "version %d", v)
	}
}

func TestIdempotentDuplicateAndGap(t *testing.T) {
	tb := start(t)
	tb.topic("t", 1)
	c := tb.dial()
	spec := func(seq int32, epoch int16) recordbatch.Spec {
		return recordbatch.Spec{Producer: &recordbatch.Producer{ID: 5, Epoch: epoch, Sequence: seq}}
	}
	require.Zero(t, produceOne(c, "t", batchOf(t, spec(0, 1), "a", "b")).ErrorCode)
	dup := produceOne(c, "t", batchOf(t, spec(0, 1), "a", "b"))
	require.Zero(t, dup.ErrorCode)
	require.Zero(t, dup.BaseOffset)
	require.Equal(t, "OUT_OF_ORDER_SEQUENCE_NUMBER", names(produceOne(c, "t", batchOf(t, spec(7, 1), "c")).ErrorCode))
	require.Equal(t, "INVALID_PRODUCER_EPOCH", names(produceOne(c, "t", batchOf(t, spec(2, 0), "c")).ErrorCode))
	require.EqualValues(t, 2, produceOne(c, "t", batchOf(t, spec(2, 1), "c")).BaseOffset)

	resp := ask(c, describeProducersOf("t"), 0).(*kmsg.DescribeProducersResponse)
	ps := resp.Topics[0].Partitions[0].ActiveProducers
	require.Len(t, ps, 1)
	require.EqualValues(t, 5, ps[0].ProducerID)
	require.EqualValues(t, 2, ps[0].LastSequence)
}

func describeProducersOf(topic string) *kmsg.DescribeProducersRequest {
	req := kmsg.NewPtrDescribeProducersRequest()
	req.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: []int32{0, 9}}}
	return req
}

func TestLogAppendTimeIsReturnedAndStored(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1, "message.timestamp.type", "LogAppendTime")
	c := tb.dial()
	before := time.Now().UnixMilli()
	p := produceOne(c, "t", batchOf(t, recordbatch.Spec{FirstTimestamp: 1000}, "x"))
	require.Zero(t, p.ErrorCode)
	require.GreaterOrEqual(t, p.LogAppendTime, before)
	got := ask(c, fetchRequest("t", id, 0), 12).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches
	h, err := recordbatch.ParseHeader(got)
	require.NoError(t, err)
	require.True(t, h.LogAppendTime())
	require.Equal(t, p.LogAppendTime, h.MaxTimestamp)
	require.True(t, recordbatch.ChecksumOK(got))
}

func TestCompressionTypeOfTheTopic(t *testing.T) {
	tb := start(t)
	c := tb.dial()
	for _, codec := range []recordbatch.Codec{recordbatch.CodecNone, recordbatch.CodecGzip, recordbatch.CodecSnappy, recordbatch.CodecLZ4, recordbatch.CodecZstd} {
		name := "t-" + codec.String()
		id := tb.topic(name, 1, "compression.type", codec.String())
		p := produceOne(c, name, batchOf(t, recordbatch.Spec{Codec: recordbatch.CodecZstd}, "some value", "some other value"))
		require.Zero(t, p.ErrorCode)
		got := ask(c, fetchRequest(name, id, 0), 12).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches
		h, err := recordbatch.Validate(got, recordbatch.Limits{AllowControl: true})
		require.NoError(t, err)
		require.Equal(t, codec, h.Compression())
		require.EqualValues(t, 2, h.NumRecords)
	}
}

func TestProduceIsPipelinedAndAnsweredInOrder(t *testing.T) {
	store := newGatedStore()
	appended := make(chan int, 100)
	tb := startOn(t, store, func(c *Config) {
		c.Observer.Appended = func(_ string, _ int32, n int) { appended <- n }
	})
	id := tb.topic("t", 1)
	open := store.shut()
	defer open()
	c := tb.dial()
	const n = 10
	for range n {
		c.send(produceRequest("", id, 0, batchOf(t, batchSpec(), "x")), 13)
	}
	c.send(kmsg.NewPtrApiVersionsRequest(), 0)
	for range n { // all are appended while none is committed
		<-appended
	}
	open()
	for i := range n {
		resp := c.receive(&kmsg.ProduceRequest{Version: 13}, int32(i+1)).(*kmsg.ProduceResponse)
		require.EqualValues(t, i, resp.Topics[0].Partitions[0].BaseOffset)
	}
	c.receive(kmsg.NewPtrApiVersionsRequest(), n+1)
}

func TestProduceTimesOut(t *testing.T) {
	store := newGatedStore()
	tb := startOn(t, store)
	id := tb.topic("t", 1)
	open := store.shut()
	defer open()
	c := tb.dial()
	req := produceRequest("", id, 0, batchOf(t, batchSpec(), "x"))
	req.TimeoutMillis = 20
	p := ask(c, req, 13).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	require.Equal(t, "REQUEST_TIMED_OUT", names(p.ErrorCode))
	open()
}

func TestAcksZero(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1)
	c := tb.dial()
	req := produceRequest("", id, 0, batchOf(t, batchSpec(), "x"))
	req.Acks = 0
	c.send(req, 13)
	lo := ask(c, listOffsetsRequest("t", tsLatest), 7).(*kmsg.ListOffsetsResponse) // the next answer is that of this one
	require.EqualValues(t, 1, lo.Topics[0].Partitions[0].Offset, "kept, although nobody is told")
	req.Topics[0].Partitions[0].Records = []byte("nonsense")
	c.send(req, 13)
	c.closed()
	tb.lines.await(t, "acks=0")
}

func listOffsetsRequest(topic string, ts int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp, rp.CurrentLeaderEpoch = ts, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func TestNotLeaderTellsWhoLeads(t *testing.T) {
	lost := &lostLog{}
	tb := start(t, func(c *Config) { lost.Log = c.Log; c.Log = lost })
	id := tb.topic("t", 1)
	c := tb.dial()
	lost.lose.Store(true)
	resp := ask(c, produceRequest("", id, 0, batchOf(t, batchSpec(), "x")), 13).(*kmsg.ProduceResponse)
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(resp.Topics[0].Partitions[0].ErrorCode))
	f := ask(c, fetchRequest("", id, 0), 16).(*kmsg.FetchResponse)
	require.Equal(t, "NOT_LEADER_OR_FOLLOWER", names(f.Topics[0].Partitions[0].ErrorCode))
	m := ask(c, kmsg.NewPtrMetadataRequest(), 12).(*kmsg.MetadataResponse)
	require.Equal(t, "LEADER_NOT_AVAILABLE", names(m.Topics[0].Partitions[0].ErrorCode))
	require.EqualValues(t, -1, m.Topics[0].Partitions[0].Leader)
}

// lostLog has lost its leases once told so.
type lostLog struct {
	Log
	lose atomic.Bool
}

func (l *lostLog) Leader(tp catalog.TopicPartition) (int32, error) {
	if l.lose.Load() {
		return -1, storage.ErrNotLeader
	}
	return l.Log.Leader(tp)
}
