package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/internal/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t *testing.T, topic string) (Options, *kfake.Cluster) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return Options{
		Bootstrap: c.ListenAddrs(), ClientID: "test", Topic: topic, Partitions: 3, ReplicationFactor: 1,
		Producers: 1, RecordBytes: 100, Acks: AcksAll, Idempotent: true, Codec: CodecNone,
		BatchMaxBytes: 100_000, MaxBuffered: 1000,
		Consumers: 1, FetchMaxBytes: 1 << 20, FetchMaxPartitionBytes: 1 << 18, FetchMaxWait: 100 * time.Millisecond,
		FetchMinBytes: 1, CheckCRCs: true, IdleTimeout: 20 * time.Second,
	}, c
}

func TestProduceThenConsume(t *testing.T) {
	o, _ := options(t, "t")
	var progress bytes.Buffer
	o.Records, o.Producers, o.KeyBytes, o.Progress = 12_345, 2, 10, &progress
	res, err := Produce(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 12_345, res.Produced.Records, "exact, over several producers")
	require.EqualValues(t, 12_345*110, res.Produced.Bytes)
	require.Equal(t, 3, res.Partitions)
	require.Positive(t, res.AckLatency.Samples)
	require.Nil(t, res.Consumed)

	o.Records = 0
	for _, consumers := range []int{1, 2, 7} {
		o.Consumers = consumers
		res, err = Consume(t.Context(), o)
		require.NoError(t, err)
		require.EqualValues(t, 12_345, res.Consumed.Records, "all that is there")
		require.EqualValues(t, 12_345*110, res.Consumed.Bytes)
	}
	o.Records = 100
	res, err = Consume(t.Context(), o)
	require.NoError(t, err)
	require.GreaterOrEqual(t, res.Consumed.Records, int64(100))
	o.Records = 1_000_000
	_, err = Consume(t.Context(), o)
	require.ErrorContains(t, err, "holds 12345 records, fewer than --records 1000000")
}

func TestProduceForADuration(t *testing.T) {
	o, _ := options(t, "t")
	o.Duration, o.WarmUp, o.Codec, o.Compressible = 300*time.Millisecond, 50*time.Millisecond, CodecZstd, true
	o.Rate = 2000
	res, err := Produce(t.Context(), o)
	require.NoError(t, err)
	require.InDelta(t, 600, res.Produced.Records, 300)
	require.InDelta(t, 2000, res.Produced.RecordsPerSecond, 1000)
}

func TestEndToEnd(t *testing.T) {
	o, _ := options(t, "t")
	o.Records, o.Rate, o.Producers, o.Consumers, o.RecordBytes = 400, 2000, 2, 2, 16
	o.Linger = time.Millisecond
	res, err := EndToEnd(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 400, res.Produced.Records)
	require.EqualValues(t, 400, res.Consumed.Records)
	require.EqualValues(t, 400, res.AckLatency.Samples)
	require.EqualValues(t, 400, res.EndToEndLatency.Samples)
	require.InDelta(t, 400/deliverySample, res.DeliveryLatency.Samples, 6, "one in eight offsets of each partition")
	require.GreaterOrEqual(t, res.EndToEndLatency.MaxMS, res.EndToEndLatency.P50MS)
	// A second run on the same topic reads its own records only.
	res, err = EndToEnd(t.Context(), o)
	require.NoError(t, err)
	require.EqualValues(t, 400, res.EndToEndLatency.Samples)
}

func TestEndToEndLeavesTheWarmUpOut(t *testing.T) {
	o, _ := options(t, "t")
	o.Records, o.Rate, o.WarmUp = 100, 1000, 100*time.Millisecond
	res, err := EndToEnd(t.Context(), o)
	require.NoError(t, err)
	require.Greater(t, res.Consumed.Records, res.EndToEndLatency.Samples)
}

func TestConsumeWhileProducing(t *testing.T) {
	o, _ := options(t, "t")
	o.Records, o.WhileProducing = 5000, true
	for range 2 { // the second time there is something in the topic already
		res, err := Consume(t.Context(), o)
		require.NoError(t, err)
		require.EqualValues(t, 5000, res.Produced.Records)
		require.EqualValues(t, 5000, res.Consumed.Records)
	}
}

func TestFailuresEndATest(t *testing.T) {
	o, c := options(t, "t")
	_, err := Consume(t.Context(), o)
	require.ErrorContains(t, err, "the topic does not exist")
	require.NoError(t, o.ensureTopic(t.Context()))
	_, err = Consume(t.Context(), o)
	require.ErrorContains(t, err, "it is empty")

	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		in := req.(*kmsg.ProduceRequest)
		out := in.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range in.Topics {
			t := kmsg.NewProduceResponseTopic()
			t.Topic, t.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, kerr.InvalidRecord.Code
				t.Partitions = append(t.Partitions, p)
			}
			out.Topics = append(out.Topics, t)
		}
		return out, nil, true
	})
	o.Records = 5000
	for _, test := range []func(context.Context, Options) (*Result, error){Produce, EndToEnd} {
		o.Rate = 100_000
		_, err = test(t.Context(), o)
		require.ErrorIs(t, err, kerr.InvalidRecord)
		require.ErrorContains(t, err, "records failed")
	}
}

func TestABrokerThatDoesNotAnswerEndsATest(t *testing.T) {
	o, c := options(t, "t")
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, nil, true // never answered
	})
	o.Records, o.IdleTimeout = 10, 200*time.Millisecond
	_, err := Produce(t.Context(), o)
	require.ErrorContains(t, err, "no acknowledgement for 200ms")
}

func TestInterruptEndsATest(t *testing.T) {
	o, _ := options(t, "t")
	o.Duration = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Produce(ctx, o)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{
		Bootstrap: []string{"h:1"}, Topic: "t", Partitions: 1, Producers: 1, Consumers: 1, RecordBytes: 100, Records: 1,
		MaxBuffered: 1, IdleTimeout: time.Second, Idempotent: true,
	}
	require.NoError(t, good.validateProduce())
	require.NoError(t, good.validateConsume())
	for want, spoil := range map[string]func(*Options){
		"--bootstrap":            func(o *Options) { o.Bootstrap = nil },
		"--topic":                func(o *Options) { o.Topic = "" },
		"--partitions":           func(o *Options) { o.Partitions = 0 },
		"--records -1":           func(o *Options) { o.Records = -1 },
		"--duration and":         func(o *Options) { o.WarmUp = -1 },
		"--rate":                 func(o *Options) { o.Rate = -1 },
		"--idle-timeout":         func(o *Options) { o.IdleTimeout = 0 },
		"when should it end":     func(o *Options) { o.Records = 0 },
		"--record-size":          func(o *Options) { o.RecordBytes = MaxRecordBytes + 1 },
		"--key-size":             func(o *Options) { o.KeyBytes = -1 },
		"--producers":            func(o *Options) { o.Producers = 0 },
		"--max-buffered-records": func(o *Options) { o.MaxBuffered = 0 },
		"--no-idempotent":        func(o *Options) { o.Acks = AcksLeader },
		"--codec":                func(o *Options) { o.Codec = "brotli" },
	} {
		o := good
		spoil(&o)
		_, err := Produce(t.Context(), o)
		require.ErrorContains(t, err, want)
	}
	bad := good
	bad.Consumers = 0
	_, err := Consume(t.Context(), bad)
	require.ErrorContains(t, err, "--consumers")
	bad = good
	bad.RecordBytes = 8
	_, err = EndToEnd(t.Context(), bad)
	require.ErrorContains(t, err, "at least 16 bytes")
}

func TestAcksAndCodecs(t *testing.T) {
	for in, want := range map[string]Acks{"all": AcksAll, "-1": AcksAll, "1": AcksLeader, "0": AcksNone} {
		got, err := ParseAcks(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
		back, err := ParseAcks(got.String())
		require.NoError(t, err)
		require.Equal(t, want, back)
		_ = got.Kgo()
	}
	_, err := ParseAcks("2")
	require.Error(t, err)
	for _, c := range []Codec{"", CodecNone, CodecGzip, CodecSnappy, CodecLz4, CodecZstd} {
		_, ok := c.Kgo()
		require.True(t, ok, c)
	}
}

func TestPayloadsDifferAndStayInBounds(t *testing.T) {
	for _, size := range []int{0, 1, 100, 1024, 2 << 20} {
		for _, compressible := range []bool{false, true} {
			p := newPayloads(size, compressible, false)
			a, b := p.fork(0), p.fork(3)
			for range 5000 {
				require.Len(t, a.value(), size)
				require.Len(t, b.value(), size)
			}
			if size >= 100 {
				require.NotEqual(t, a.value(), a.value())
			}
		}
	}
}

func TestThePacerKeepsTheRate(t *testing.T) {
	for _, rate := range []float64{0.5, 10, 999, 10_000, 250_000} {
		bubble.Test(t, func(t *testing.T) {
			start := time.Now()
			p := newPacer(rate, start)
			var n int64
			wakes := 0
			for total := int64(max(rate*3, 2)); n < total; wakes++ {
				due, err := p.wait(t.Context(), n)
				require.NoError(t, err)
				require.Greater(t, due, n)
				n = due
			}
			took := time.Since(start).Seconds()
			require.InDelta(t, float64(n-1)/rate, took, max(1/rate, 0.002), "rate %v", rate)
			require.LessOrEqual(t, wakes, 3100, "a wake a millisecond at most")
		})
	}
}

func TestARecordSentLateCountsFromWhenItWasDue(t *testing.T) {
	start := time.Now()
	p := newPacer(1000, start)
	require.Equal(t, start.Add(5*time.Millisecond+500*time.Microsecond), p.stamp(5, start.Add(5*time.Millisecond+500*time.Microsecond)))
	require.Equal(t, start.Add(5*time.Millisecond), p.stamp(5, start.Add(9*time.Millisecond)))
	now := start.Add(time.Hour)
	require.Equal(t, now, newPacer(0, start).stamp(5, now), "without a rate nothing is due")
}

func TestTheUnpacedPacerDoesNotWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := newPacer(0, time.Now())
	due, err := p.wait(ctx, 5)
	require.NoError(t, err)
	require.Greater(t, due, int64(5))
	cancel()
	_, err = p.wait(ctx, 5)
	require.ErrorIs(t, err, context.Canceled)
	_, err = newPacer(1, time.Now().Add(time.Hour)).wait(ctx, 5)
	require.ErrorIs(t, err, context.Canceled)
}

func TestHistogramsClamp(t *testing.T) {
	h := newHistogram()
	record(h, -time.Second)
	record(h, 100*time.Hour)
	record(h, time.Millisecond)
	s := summarize(h)
	require.EqualValues(t, 3, s.Samples)
	require.InDelta(t, 1, s.P50MS, 0.01)
	require.InDelta(t, maxLatency.Seconds()*1e3, s.MaxMS, 5000)
	require.Nil(t, summarize(newHistogram()))
}

func TestReports(t *testing.T) {
	r := &Result{
		Test: "e2e", Topic: "t", Partitions: 6, RecordBytes: 100, Producers: 1, Consumers: 1, Acks: "all", Idempotent: true,
		Codec: CodecNone, TargetRate: 1000,
		Produced: flow(1000, 100_000, time.Second), Consumed: flow(1000, 100_000, 0),
		AckLatency: &Latency{Samples: 9, P50MS: 1.25}, EndToEndLatency: &Latency{Samples: 9, P99MS: 7.5},
	}
	require.False(t, math.IsInf(r.Consumed.MBPerSecond, 0))
	r.Consumed = flow(1000, 100_000, 2*time.Second)
	var b bytes.Buffer
	require.NoError(t, r.WriteTable(&b))
	for _, want := range []string{"acks=all idempotent", "1000 records/s", "produced", "consumed", "acknowledged", "end to end", "7.50"} {
		require.Contains(t, b.String(), want)
	}
	for line := range strings.Lines(b.String()) {
		require.Equal(t, strings.TrimRight(line, " \n"), strings.TrimSuffix(line, "\n"), "no blanks at the end of a line")
	}
	b.Reset()
	require.NoError(t, r.WriteJSON(&b))
	var back Result
	require.NoError(t, json.Unmarshal(b.Bytes(), &back))
	require.Equal(t, *r, back)
	require.ErrorIs(t, r.WriteTable(brokenWriter{}), io.ErrClosedPipe)
	require.ErrorIs(t, r.WriteJSON(brokenWriter{}), io.ErrClosedPipe)
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestPartitionsAreDealtToAllConsumers(t *testing.T) {
	from := map[int32]int64{0: 5, 1: 6, 2: 7, 3: 8, 4: 9}
	for _, n := range []int{1, 2, 5, 9} {
		var seen []int32
		for _, part := range deal(from, n) {
			require.NotEmpty(t, part)
			for p, o := range part {
				seen = append(seen, p)
				require.Equal(t, kgo.NewOffset().At(from[p]).EpochOffset(), o.EpochOffset())
			}
		}
		slices.Sort(seen)
		require.Equal(t, []int32{0, 1, 2, 3, 4}, seen)
	}
}

// The client shares the cores with the broker it measures: sending must not allocate for each record.
func TestSendingReusesRecords(t *testing.T) {
	o, _ := options(t, "t")
	l, err := newLoad(&o, false, time.Now())
	require.NoError(t, err)
	defer l.close()
	p := l.producers[0]
	pace := newPacer(0, time.Now())
	round := func() {
		for n := range int64(chunkRecords) {
			r := p.take(t.Context())
			p.prepare(r, n, pace.start, pace)
			p.promise(r, nil)
		}
	}
	for range 10 {
		round()
	}
	require.Less(t, testing.AllocsPerRun(50, round), 2.0, "for %d records", chunkRecords)
}

func TestDeliveriesAreTimedFromEitherSide(t *testing.T) {
	d := newDeliveries()
	d.acked(0, 8, 10*time.Millisecond)
	d.received(1, 8, 12*time.Millisecond) // another partition
	d.received(0, 8, 15*time.Millisecond)
	d.received(0, 16, 20*time.Millisecond)
	d.acked(0, 16, 21*time.Millisecond)
	d.acked(0, 17, time.Millisecond) // not of the sample
	require.EqualValues(t, 2, d.hist.TotalCount())
	require.InDelta(t, 5000, d.hist.Max(), 10)
	require.EqualValues(t, 1, d.hist.Min(), "there before its producer was told")
	require.Len(t, d.half, 1)
}
