package wire_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestUnknownRequestsClose: a request that cannot be parsed cannot be answered.
// The connection is closed, as Kafka does, and nobody else notices.
func TestUnknownRequestsClose(t *testing.T) {
	broker := target.Get(t)
	header := func(key, version uint16) []byte {
		b := binary.BigEndian.AppendUint16(nil, key)
		b = binary.BigEndian.AppendUint16(b, version)
		b = binary.BigEndian.AppendUint32(b, 5)
		return append(b, 0, 4, 'w', 'i', 'r', 'e')
	}
	for name, frame := range map[string][]byte{
		"unknown key":         header(12345, 0),
		"negative key":        header(0xffff, 0),
		"unsupported version": header(uint16(kmsg.Metadata.Int16()), 99),
		"empty frame":         {},
		"half a header":       {0, 3, 0},
		"body missing":        header(uint16(kmsg.Produce.Int16()), 7),
		"array too long":      append(header(uint16(kmsg.Metadata.Int16()), 1), 0x7f, 0xff, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, broker)
			require.NoError(t, c.send(frame))
			c.requireClosed(t)
			requireAlive(t, broker)
		})
	}
	for name, length := range map[string]uint32{
		"length negative":  0xffffffff,
		"length 2 GiB - 1": 0x7fffffff,
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, broker)
			_, err := c.Write(binary.BigEndian.AppendUint32(nil, length))
			require.NoError(t, err)
			c.requireClosed(t)
			requireAlive(t, broker)
		})
	}
}

// TestRecreatedTopicHasNewID: whoever still uses the old topic's id is told,
// and never reads or writes the new topic by it.
func TestRecreatedTopicHasNewID(t *testing.T) {
	broker := target.Get(t)
	cl := broker.Client(t)
	admin := kadm.NewClient(cl)
	name := target.Name("recreated")
	id := func() [16]byte {
		made, err := admin.CreateTopic(t.Context(), 1, 1, nil, name)
		require.NoError(t, err)
		require.NotZero(t, made.ID)
		return made.ID
	}
	remove := func() {
		gone, err := admin.DeleteTopic(t.Context(), name)
		require.NoError(t, err)
		require.NoError(t, gone.Err)
	}

	old := id()
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: name, Value: []byte("old")}).FirstErr())
	remove()
	fresh := id()
	broker.DeleteWhenDone(t, name)
	require.NotEqual(t, old, fresh)

	meta := kmsg.NewPtrMetadataRequest()
	meta.Version = 13
	byID := kmsg.NewMetadataRequestTopic()
	byID.TopicID = old
	meta.Topics = append(meta.Topics, byID)
	byID.TopicID = fresh
	meta.Topics = append(meta.Topics, byID)
	resp, err := dial(t, broker).do(meta)
	require.NoError(t, err)
	found := map[[16]byte]kmsg.MetadataResponseTopic{}
	for _, topic := range resp.(*kmsg.MetadataResponse).Topics {
		found[topic.TopicID] = topic
	}
	require.Equal(t, kerr.UnknownTopicID.Code, found[old].ErrorCode)
	require.Zero(t, found[fresh].ErrorCode)
	require.Equal(t, name, *found[fresh].Topic)

	for _, by := range []struct {
		id   [16]byte
		code int16
	}{{old, kerr.UnknownTopicID.Code}, {fresh, 0}} {
		fetch := kmsg.NewPtrFetchRequest()
		fetch.Version = 17
		fetch.ReplicaID, fetch.MaxBytes, fetch.SessionEpoch = -1, 1<<20, -1
		topic := kmsg.NewFetchRequestTopic()
		topic.TopicID = by.id
		partition := kmsg.NewFetchRequestTopicPartition()
		partition.PartitionMaxBytes = 1 << 20
		partition.CurrentLeaderEpoch, partition.LastFetchedEpoch = -1, -1
		topic.Partitions = append(topic.Partitions, partition)
		fetch.Topics = append(fetch.Topics, topic)
		resp, err := dial(t, broker).do(fetch)
		require.NoError(t, err)
		got := resp.(*kmsg.FetchResponse)
		require.Zero(t, got.ErrorCode)
		require.Len(t, got.Topics, 1)
		require.Equal(t, by.code, got.Topics[0].Partitions[0].ErrorCode)
		require.Empty(t, got.Topics[0].Partitions[0].RecordBatches, "the new topic is empty")

		produce := kmsg.NewPtrProduceRequest()
		produce.Version = 13
		produce.Acks, produce.TimeoutMillis = -1, 5000
		to := kmsg.NewProduceRequestTopic()
		to.TopicID = by.id
		records := kmsg.NewProduceRequestTopicPartition()
		records.Records = []byte{} // refused after the topic was looked up
		to.Partitions = append(to.Partitions, records)
		produce.Topics = append(produce.Topics, to)
		answer, err := dial(t, broker).do(produce)
		require.NoError(t, err)
		code := answer.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
		if by.code != 0 {
			require.Equal(t, by.code, code)
		} else {
			require.NotEqual(t, kerr.UnknownTopicID.Code, code)
		}
	}

	// And a client that starts afresh writes to the new topic, from offset 0.
	made, err := broker.Client(t).ProduceSync(t.Context(), &kgo.Record{Topic: name, Value: []byte("new")}).First()
	require.NoError(t, err)
	require.Zero(t, made.Offset)
}
