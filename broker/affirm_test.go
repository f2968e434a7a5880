package broker

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage"
)

// unsureLog leads, but the catalog does not affirm it once unsure is set: it was fenced and does not know, or nobody can say.
// Where lastEpoch is asked for, it answers as if the log had been truncated.
type unsureLog struct {
	Log
	unsure atomic.Bool
	asked  atomic.Int64
}

func (l *unsureLog) Affirm(ctx context.Context) error {
	l.asked.Add(1)
	if l.unsure.Load() {
		return storage.ErrNotLeader
	}
	return l.Log.Affirm(ctx)
}

func (l *unsureLog) EndOfEpoch(context.Context, catalog.TopicPartition, int32) (storage.EpochEnd, error) {
	return storage.EpochEnd{Epoch: 0, End: 1}, nil
}

// What only a leader may say is taken back, all of a request's partitions by one question to the catalog.
func TestOnlyWhoIsAffirmedSpeaks(t *testing.T) {
	log := &unsureLog{}
	tb := start(t, func(c *Config) { log.Log, c.Log = c.Log, log })
	const parts = 5
	id := tb.topic("t", parts)
	c := tb.dial()
	put(c, id, 0, "x")
	put(c, id, 0, "y")

	lo := kmsg.NewPtrListOffsetsRequest()
	lo.ReplicaID = -1
	lt := kmsg.NewListOffsetsRequestTopic()
	lt.Topic = "t"
	oe := kmsg.NewPtrOffsetForLeaderEpochRequest()
	ot := kmsg.OffsetForLeaderEpochRequestTopic{Topic: "t"}
	for i := range int32(parts) {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = i, tsLatest
		lt.Partitions = append(lt.Partitions, p)
		ot.Partitions = append(ot.Partitions, kmsg.OffsetForLeaderEpochRequestTopicPartition{Partition: i, CurrentLeaderEpoch: -1})
	}
	lo.Topics = append(lo.Topics, lt)
	oe.Topics = append(oe.Topics, ot)
	diverging := fetchRequest("", id, 0)
	diverging.Topics[0].Partitions[0].FetchOffset, diverging.Topics[0].Partitions[0].LastFetchedEpoch = 2, 7

	for _, unsure := range []bool{false, true} {
		log.unsure.Store(unsure)
		want := map[bool]string{false: "NONE", true: "NOT_LEADER_OR_FOLLOWER"}[unsure]

		log.asked.Store(0)
		for i, p := range ask(c, lo, 7).(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
			require.Equal(t, want, names(p.ErrorCode))
			require.Equal(t, unsure, p.Offset < 0, "partition %d", i)
			require.Equal(t, unsure, p.LeaderEpoch < 0, "partition %d", i)
		}
		require.EqualValues(t, 1, log.asked.Load(), "once for all partitions")

		log.asked.Store(0)
		for i, p := range ask(c, oe, 4).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions {
			require.Equal(t, want, names(p.ErrorCode))
			require.Equal(t, unsure, p.EndOffset < 0, "partition %d", i)
			require.Equal(t, unsure, p.LeaderEpoch < 0, "partition %d", i)
		}
		require.EqualValues(t, 1, log.asked.Load(), "once for all partitions")

		fp := ask(c, diverging, 16).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		require.Equal(t, want, names(fp.ErrorCode))
		require.Equal(t, unsure, fp.DivergingEpoch.EndOffset < 0)

		// What is committed is true whoever leads.
		log.asked.Store(0)
		fp = ask(c, fetchRequest("", id, 0), 16).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		require.Equal(t, "NONE", names(fp.ErrorCode))
		require.NotEmpty(t, fp.RecordBatches)
		require.Zero(t, log.asked.Load())
	}
}
