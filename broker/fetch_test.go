package broker

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
)

// countingLog counts reads.
type countingLog struct {
	Log
	reads atomic.Int64
}

func (l *countingLog) Read(ctx context.Context, req storage.ReadRequest, r *storage.Read) error {
	l.reads.Add(1)
	return l.Log.Read(ctx, req, r)
}

// put produces one record and requires success.
func put(c *raw, id catalog.TopicID, partition int32, value string) int64 {
	c.t.Helper()
	resp := ask(c, produceRequest("", id, partition, batchOf(c.t, batchSpec(), value)), 13).(*kmsg.ProduceResponse)
	p := resp.Topics[0].Partitions[0]
	require.Zero(c.t, p.ErrorCode, names(p.ErrorCode))
	return p.BaseOffset
}

// incremental is a poll of a session that names nothing new.
func incremental(session, epoch int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.SessionID, req.SessionEpoch, req.MaxBytes, req.MinBytes = session, epoch, 10*mib, 1
	return req
}

// moveTo has a session's partition fetched from an offset on.
func moveTo(req *kmsg.FetchRequest, id catalog.TopicID, partition int32, offset int64) *kmsg.FetchRequest {
	more := fetchRequest("", id, partition)
	more.Topics[0].Partitions[0].FetchOffset = offset
	req.Topics = append(req.Topics, more.Topics...)
	return req
}

func TestFetchSession(t *testing.T) {
	counting := &countingLog{}
	tb := start(t, func(c *Config) { counting.Log = c.Log; c.Log = counting })
	const partitions = 50
	id := tb.topic("t", partitions)
	c, p := tb.dial(), tb.dial()
	var all []int32
	for i := range int32(partitions) {
		all = append(all, i)
	}
	first := fetchRequest("", id, all...)
	first.SessionEpoch = 0
	resp := ask(c, first, 17).(*kmsg.FetchResponse)
	require.Zero(t, resp.ErrorCode)
	require.NotZero(t, resp.SessionID)
	require.Len(t, resp.Topics[0].Partitions, partitions, "a full answer has all")
	session := resp.SessionID

	counting.reads.Store(0)
	resp = ask(c, incremental(session, 1), 17).(*kmsg.FetchResponse)
	require.Empty(t, resp.Topics, "nothing changed")
	require.Zero(t, counting.reads.Load(), "nothing can have changed, so nothing is examined")

	put(p, id, 7, "x")
	resp = ask(c, incremental(session, 2), 17).(*kmsg.FetchResponse)
	require.Len(t, resp.Topics, 1)
	require.Len(t, resp.Topics[0].Partitions, 1)
	require.EqualValues(t, 7, resp.Topics[0].Partitions[0].Partition)
	require.NotEmpty(t, resp.Topics[0].Partitions[0].RecordBatches)
	require.EqualValues(t, 1, counting.reads.Load(), "only the partition that moved")

	resp = ask(c, moveTo(incremental(session, 3), id, 7, 1), 17).(*kmsg.FetchResponse)
	require.Empty(t, resp.Topics)

	// Wrong epoch, wrong id.
	resp = ask(c, incremental(session, 9), 17).(*kmsg.FetchResponse)
	require.Equal(t, "INVALID_FETCH_SESSION_EPOCH", names(resp.ErrorCode))
	resp = ask(c, incremental(session+1, 4), 17).(*kmsg.FetchResponse)
	require.Equal(t, "FETCH_SESSION_ID_NOT_FOUND", names(resp.ErrorCode))
	resp = ask(c, incremental(session, 4), 12).(*kmsg.FetchResponse)
	require.Equal(t, "FETCH_SESSION_TOPIC_ID_ERROR", names(resp.ErrorCode))

	// A long poll is woken by a commit, once, and examines what moved.
	counting.reads.Store(0)
	long := incremental(session, 4)
	long.MaxWaitMillis = 15_000
	c.send(long, 17)
	put(p, id, 9, "y")
	resp = c.receive(long, c.n).(*kmsg.FetchResponse)
	require.EqualValues(t, 9, resp.Topics[0].Partitions[0].Partition)
	require.EqualValues(t, 1, counting.reads.Load())

	// Forgotten partitions are not told any more.
	forget := incremental(session, 5)
	forget.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{TopicID: id, Partitions: []int32{9}}}
	resp = ask(c, forget, 17).(*kmsg.FetchResponse)
	require.Empty(t, resp.Topics)
	put(p, id, 9, "z")
	put(p, id, 10, "z")
	resp = ask(c, incremental(session, 6), 17).(*kmsg.FetchResponse)
	require.Len(t, resp.Topics[0].Partitions, 1)
	require.EqualValues(t, 10, resp.Topics[0].Partitions[0].Partition)

	// Forgetting everything ends the session.
	forget = incremental(session, 7)
	forget.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{TopicID: id, Partitions: all}}
	resp = ask(c, forget, 17).(*kmsg.FetchResponse)
	require.Zero(t, resp.ErrorCode)
	require.Zero(t, resp.SessionID)
	require.Zero(t, tb.sessionsOpen())
}

func TestFetchSessionByName(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1)
	c, p := tb.dial(), tb.dial()
	first := fetchRequest("t", catalog.TopicID{}, 0)
	first.SessionEpoch = 0
	resp := ask(c, first, 11).(*kmsg.FetchResponse)
	long := incremental(resp.SessionID, 1)
	long.MaxWaitMillis = 15_000
	c.send(long, 11)
	put(p, id, 0, "x")
	resp = c.receive(long, c.n).(*kmsg.FetchResponse)
	require.Equal(t, "t", resp.Topics[0].Topic)
	require.NotEmpty(t, resp.Topics[0].Partitions[0].RecordBatches)

	// The topic is deleted and made anew: the session follows the name.
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.TopicNames, del.TimeoutMillis = []string{"t"}, 5000
	require.Zero(t, ask(p, del, 5).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
	resp = ask(c, incremental(resp.SessionID, 2), 11).(*kmsg.FetchResponse)
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(resp.Topics[0].Partitions[0].ErrorCode))
	id = tb.topic("t", 1)
	put(p, id, 0, "new")
	resp = ask(c, incremental(resp.SessionID, 3), 11).(*kmsg.FetchResponse)
	require.Zero(t, resp.Topics[0].Partitions[0].ErrorCode)
	require.NotEmpty(t, resp.Topics[0].Partitions[0].RecordBatches)
}

func TestLongPollEndsWhenTheTopicIsDeleted(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1)
	c, p := tb.dial(), tb.dial()
	long := fetchRequest("", id, 0)
	long.MaxWaitMillis = 15_000
	began := time.Now()
	c.send(long, 17)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Topics, del.TimeoutMillis = []kmsg.DeleteTopicsRequestTopic{{TopicID: id}}, 5000
	require.Zero(t, ask(p, del, 6).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
	resp := c.receive(long, c.n).(*kmsg.FetchResponse)
	require.Equal(t, "UNKNOWN_TOPIC_ID", names(resp.Topics[0].Partitions[0].ErrorCode))
	require.Less(t, time.Since(began), 10*time.Second)
}

func TestFetchIsFair(t *testing.T) {
	// Three partitions with more than fits one answer: each gets its turn, whatever the order of the request.
	tb := start(t)
	id := tb.topic("t", 3)
	c := tb.dial()
	for p := range int32(3) {
		for range 4 {
			put(c, id, p, string(make([]byte, 100<<10)))
		}
	}
	first := fetchRequest("", id, 0, 1, 2)
	first.SessionEpoch, first.MaxBytes = 0, 100
	resp := ask(c, first, 17).(*kmsg.FetchResponse)
	session := resp.SessionID
	turn := func(resp *kmsg.FetchResponse) (got []int32) {
		for _, rt := range resp.Topics {
			for _, rp := range rt.Partitions {
				if len(rp.RecordBatches) > 0 {
					got = append(got, rp.Partition)
				}
			}
		}
		return got
	}
	served := [][]int32{turn(resp)}
	offsets := map[int32]int64{}
	last := served[0]
	for epoch := int32(1); epoch < 6; epoch++ {
		req := incremental(session, epoch)
		req.MaxBytes = 100
		for _, p := range last {
			offsets[p]++
			moveTo(req, id, p, offsets[p])
		}
		last = turn(ask(c, req, 17).(*kmsg.FetchResponse))
		served = append(served, last)
	}
	require.Equal(t, [][]int32{{0}, {1}, {2}, {0}, {1}, {2}}, served, "one batch a request, in turns")
}

func TestFetchMinBytesWaits(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 2)
	c, p := tb.dial(), tb.dial()
	long := fetchRequest("", id, 0, 1)
	long.MaxWaitMillis, long.MinBytes = 15_000, 3000
	c.send(long, 17)
	put(p, id, 0, string(make([]byte, 2000)))
	put(p, id, 1, string(make([]byte, 2000)))
	resp := c.receive(long, c.n).(*kmsg.FetchResponse)
	for _, rp := range resp.Topics[0].Partitions {
		require.NotEmpty(t, rp.RecordBatches)
	}
	// And gives what there is when the time is over.
	short := fetchRequest("", id, 0)
	short.MaxWaitMillis, short.MinBytes = 30, 1<<20
	resp = ask(c, short, 17).(*kmsg.FetchResponse)
	require.NotEmpty(t, resp.Topics[0].Partitions[0].RecordBatches)
}

func TestFetchErrors(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1)
	c := tb.dial()
	put(c, id, 0, "x")
	get := func(version int16, change func(*kmsg.FetchRequestTopicPartition)) kmsg.FetchResponseTopicPartition {
		req := fetchRequest("t", id, 0)
		req.MaxWaitMillis = 15_000 // errors are answered at once
		change(&req.Topics[0].Partitions[0])
		return ask(c, req, version).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	}
	p := get(12, func(r *kmsg.FetchRequestTopicPartition) { r.FetchOffset = 5 })
	require.Equal(t, "OFFSET_OUT_OF_RANGE", names(p.ErrorCode))
	epoch, err := tb.e.Leader(catalog.TopicPartition{Topic: id})
	require.NoError(t, err)
	p = get(12, func(r *kmsg.FetchRequestTopicPartition) { r.CurrentLeaderEpoch = epoch + 1 })
	require.Equal(t, "UNKNOWN_LEADER_EPOCH", names(p.ErrorCode))
	if epoch > 0 {
		p = get(12, func(r *kmsg.FetchRequestTopicPartition) { r.CurrentLeaderEpoch = epoch - 1 })
		require.Equal(t, "FENCED_LEADER_EPOCH", names(p.ErrorCode))
	}
	p = get(12, func(r *kmsg.FetchRequestTopicPartition) { r.Partition = 1 })
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(p.ErrorCode))
	p = get(13, func(r *kmsg.FetchRequestTopicPartition) { r.Partition = 1 })
	require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", names(p.ErrorCode))
	req := fetchRequest("", catalog.TopicID{9}, 0)
	p = ask(c, req, 13).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	require.Equal(t, "UNKNOWN_TOPIC_ID", names(p.ErrorCode))
}

// epochLog answers EndOfEpoch as if the log had been truncated.
type epochLog struct{ Log }

func (epochLog) EndOfEpoch(_ context.Context, _ catalog.TopicPartition, epoch int32) (storage.EpochEnd, error) {
	return storage.EpochEnd{Epoch: epoch, End: 3}, nil
}

func (epochLog) Leader(catalog.TopicPartition) (int32, error) { return 9, nil }

func TestDivergingEpoch(t *testing.T) {
	tb := start(t, func(c *Config) { c.Log = epochLog{c.Log} })
	id := tb.topic("t", 1)
	c := tb.dial()
	req := fetchRequest("", id, 0)
	req.Topics[0].Partitions[0].FetchOffset, req.Topics[0].Partitions[0].LastFetchedEpoch = 5, 4
	p := ask(c, req, 16).(*kmsg.FetchResponse).Topics[0].Partitions[0]
	require.Zero(t, p.ErrorCode)
	require.EqualValues(t, 4, p.DivergingEpoch.Epoch)
	require.EqualValues(t, 3, p.DivergingEpoch.EndOffset)
	require.Empty(t, p.RecordBatches)
	require.NotNil(t, p.RecordBatches, "none is empty, never null")
	req.Topics[0].Partitions[0].CurrentLeaderEpoch = 8
	resp := ask(c, req, 16).(*kmsg.FetchResponse)
	require.Equal(t, "FENCED_LEADER_EPOCH", names(resp.Topics[0].Partitions[0].ErrorCode))
	require.EqualValues(t, testNode, resp.Topics[0].Partitions[0].CurrentLeader.LeaderID)
	require.EqualValues(t, 9, resp.Topics[0].Partitions[0].CurrentLeader.LeaderEpoch)
	require.Len(t, resp.Brokers, 1)
}

// brokenLog fails reads.
type brokenLog struct {
	Log
	err error
}

func (l brokenLog) Read(context.Context, storage.ReadRequest, *storage.Read) error { return l.err }

func TestStorageErrorsInFetch(t *testing.T) {
	for want, err := range map[string]error{
		"KAFKA_STORAGE_ERROR": storage.ErrCorrupt, "NOT_LEADER_OR_FOLLOWER": storage.ErrNotLeader,
		"UNKNOWN_TOPIC_OR_PARTITION": storage.ErrUnknownPartition, "UNKNOWN_SERVER_ERROR": fmt.Errorf("what is this"),
	} {
		t.Run(want, func(t *testing.T) {
			tb := start(t, func(c *Config) { c.Log = brokenLog{c.Log, err} })
			tb.topic("t", 1)
			p := ask(tb.dial(), fetchRequest("t", catalog.TopicID{}, 0), 12).(*kmsg.FetchResponse).Topics[0].Partitions[0]
			require.Equal(t, want, names(p.ErrorCode))
			require.Empty(t, p.RecordBatches)
		})
	}
}

func TestSessionCacheIsBounded(t *testing.T) {
	now := time.Now()
	c := newSessionCache(2, 100)
	mk := func(size int, at time.Time) *session {
		s := &session{}
		for range size {
			s.order = append(s.order, &sessionPart{})
		}
		c.create(s, size, at)
		if s.id != 0 {
			c.done(s, true)
		}
		return s
	}
	a, b := mk(5, now), mk(6, now)
	require.NotZero(t, a.id)
	require.NotZero(t, b.id)
	require.Zero(t, mk(50, now).id, "both are fresh")
	big := mk(50, now.Add(sessionIdle/2))
	require.Zero(t, big.id)
	_, code := c.open(a.id, 1, false, now.Add(sessionIdle))
	require.Zero(t, code)
	c.done(a, true)
	later := now.Add(sessionIdle + time.Second)
	s := mk(1, later)
	require.NotZero(t, s.id, "b was idle for long")
	_, code = c.open(b.id, 1, false, later)
	require.Equal(t, codeFetchSessionIDNotFound, code)
	require.NotZero(t, mk(50, later).id, "a is smaller and had its slot for long")
	_, code = c.open(a.id, 2, false, later)
	require.Equal(t, codeFetchSessionIDNotFound, code)
	require.Zero(t, mk(500, later.Add(time.Hour)).id, "more partitions than all sessions may have")
	c.close()
}

func TestShutdownEndsLongPollsAndFinishesAnswers(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 1)
	c := tb.dial()
	long := fetchRequest("", id, 0)
	long.MaxWaitMillis = 60_000
	c.send(long, 17)
	c.send(kmsg.NewPtrApiVersionsRequest(), 0)
	// Both are read once this, on another connection, is answered and their bytes have arrived.
	ask(tb.dial(), kmsg.NewPtrMetadataRequest(), 5)
	require.Eventually(t, func() bool {
		tb.server.mu.Lock()
		defer tb.server.mu.Unlock()
		for s := range tb.server.mu.conns {
			if s.open.Load() == 2 {
				return true
			}
		}
		return false
	}, 30*time.Second, time.Millisecond)
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- tb.Shutdown(ctx)
	}()
	resp := c.receive(long, c.n-1).(*kmsg.FetchResponse)
	require.Zero(t, resp.ErrorCode)
	c.receive(kmsg.NewPtrApiVersionsRequest(), c.n)
	c.closed()
	require.NoError(t, <-done)
}

func TestCountRecords(t *testing.T) {
	var run []byte
	base := int64(100)
	for _, vs := range [][]string{{"a"}, {"b", "c"}, {"d", "e", "f"}} {
		run = append(run, batchOf(t, recordbatch.Spec{BaseOffset: base}, vs...)...)
		base += int64(len(vs))
	}
	for at := range run {
		n, last := countRecords([][]byte{run[:at], run[at:]}, 100)
		require.Equal(t, 6, n)
		require.EqualValues(t, 105, last)
	}
	n, _ := countRecords([][]byte{run}, 102)
	require.Equal(t, 4, n, "from the middle of a batch")
	n, _ = countRecords([][]byte{run}, 99)
	require.Equal(t, 6, n)
	n, _ = countRecords(nil, 0)
	require.Zero(t, n)
}

func recordsIn(batches []byte) int {
	n, _ := countRecords([][]byte{batches}, 0)
	return n
}

func TestAnswerMemoryIsBounded(t *testing.T) {
	// With no answer memory left, a fetch gets little, but something; and gives back what it took.
	tb := start(t, func(c *Config) { c.Limits.AnswerMemoryBytes = 200 << 10 })
	id := tb.topic("t", 3)
	c := tb.dial()
	for p := range int32(3) {
		for range 3 {
			put(c, id, p, string(make([]byte, 90<<10)))
		}
	}
	require.True(t, tb.answers.TryAcquire(200<<10))
	resp := ask(c, fetchRequest("", id, 0, 1, 2), 17).(*kmsg.FetchResponse)
	ps := resp.Topics[0].Partitions
	require.EqualValues(t, 1, recordsIn(ps[0].RecordBatches), "one batch")
	require.Empty(t, ps[1].RecordBatches)
	require.EqualValues(t, 3, ps[1].HighWatermark, "what there is is told")
	tb.answers.Release(200 << 10)
	resp = ask(c, fetchRequest("", id, 0, 1, 2), 17).(*kmsg.FetchResponse)
	require.NotEmpty(t, resp.Topics[0].Partitions[0].RecordBatches)
	require.Eventually(t, func() bool {
		if !tb.answers.TryAcquire(200 << 10) {
			return false
		}
		tb.answers.Release(200 << 10)
		return true
	}, 30*time.Second, time.Millisecond, "all is given back")
}

func TestFetchSizes(t *testing.T) {
	tb := start(t)
	id := tb.topic("t", 2)
	c := tb.dial()
	for p := range int32(2) {
		for range 3 {
			put(c, id, p, string(make([]byte, 1000)))
		}
	}
	get := func(maxBytes, partitionMax int32) (n [2]int) {
		req := fetchRequest("", id, 0, 1)
		req.MaxBytes = maxBytes
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = partitionMax
		}
		resp := ask(c, req, 17).(*kmsg.FetchResponse)
		for i, p := range resp.Topics[0].Partitions {
			n[i] = recordsIn(p.RecordBatches)
		}
		return n
	}
	require.Equal(t, [2]int{3, 3}, get(10000, 10000))
	require.Equal(t, [2]int{1, 0}, get(0, 10000), "one batch a request, at least")
	require.Equal(t, [2]int{1, 0}, get(10000, 0), "one batch a request, not a partition")
	require.Equal(t, [2]int{2, 2}, get(10000, 2500))
	require.Equal(t, [2]int{3, 1}, get(4500, 10000))
}
