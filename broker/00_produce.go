package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// Produce (key 0), versions 3–13.
//
// Behaviour: each partition is handled on its own. A batch is validated by recordbatch.Validate with the topic's
// configs, gets the append time where the topic wants it, is recompressed where the topic names a codec, and is
// appended. The answer waits until all of it is committed, or for the request's timeout. Where another broker leads,
// NOT_LEADER_OR_FOLLOWER says from version 10 on which, and its address (KIP-951); while a partition is on its way from
// one broker to another the answer waits for that, half a second at most. Internal topics cannot be written to:
// INVALID_TOPIC_EXCEPTION, as in Kafka.
//
// Deviations: acks=1 waits like acks=all. A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
// fatal to every client and retried by none, until there are transactions: coordinator errors would be retried for
// ever, and INVALID_REQUEST is not expected by clients. The error of an appended batch that times out is
// REQUEST_TIMED_OUT; it may still be committed, as in Kafka.

// produceCall is a Produce between its two halves: appended by the reader, answered by the writer.
type produceCall struct {
	ctx    context.Context // both halves share the request's deadline
	cancel context.CancelFunc
	acks   int16
	resp   *kmsg.ProduceResponse
	waits  []produceWait
	moved  bool // some partition is led elsewhere: tell by whom
}

// produceWait is one appended batch.
type produceWait struct {
	topic      string
	part       *kmsg.ProduceResponseTopicPartition
	pending    storage.Pending
	appended   time.Time
	appendTime int64
	records    int
	bytes      int
}

// startProduce validates and appends everything a Produce holds. The reader calls it, so that the next request is
// read while this one waits to be committed.
func (b *Broker) startProduce(ctx context.Context, r *request) *produceCall {
	req := r.body.(*kmsg.ProduceRequest)
	c := &produceCall{acks: req.Acks, resp: kmsg.NewPtrProduceResponse()}
	r.trace.phase(phaseAppend)
	ctx = r.trace.context(ctx)
	c.resp.Version = r.version
	timeout := min(time.Duration(max(req.TimeoutMillis, 0))*time.Millisecond, b.cfg.Limits.ProduceTimeout)
	if req.Acks == 0 || req.Acks == 1 && timeout == 0 {
		// The timeout is for waiting on replicas: without an answer, or with acks=1, Kafka does not wait.
		timeout = b.cfg.Limits.ProduceTimeout
	}
	c.ctx, c.cancel = context.WithDeadline(ctx, r.received.Add(timeout))
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	c.waits = make([]produceWait, 0, n)
	c.resp.Topics = make([]kmsg.ProduceResponseTopic, len(req.Topics))
	im := b.topics.load()
	for i := range req.Topics {
		rt := &req.Topics[i]
		out := &c.resp.Topics[i]
		out.Topic, out.TopicID = rt.Topic, rt.TopicID
		out.Partitions = make([]kmsg.ProduceResponseTopicPartition, len(rt.Partitions))
		t, unknown := b.findTopic(im, r.version >= 13, rt.Topic, rt.TopicID)
		for j := range rt.Partitions {
			part := &out.Partitions[j]
			*part = newProducePartition(rt.Partitions[j].Partition)
			var f *failure
			switch {
			case req.Acks < -1 || req.Acks > 1:
				f = &failure{code: codeInvalidRequiredAcks, msg: fmt.Sprintf("acks must be -1, 0 or 1, not %d", req.Acks)}
			case req.TransactionID != nil:
				f = &failure{code: codeTransactionalIDAuth, msg: "transactions are not supported by this version of the broker"}
			case t == nil:
				f = &failure{code: unknown}
			case !t.has(part.Partition):
				f = &failure{code: codeUnknownTopicOrPartition}
			case t.internal:
				f = &failure{code: codeInvalidTopic, msg: msgInternalTopic}
			default:
				f = b.appendSettled(c.ctx, r, t.partition(part.Partition), func() *failure { //nolint:contextcheck // the connection's
					return b.appendBatch(c, r, t, rt.Partitions[j].Records, part)
				})
			}
			if f != nil {
				c.refuse(b, nameOf(t, rt.Topic), part, f)
			}
		}
	}
	r.trace.phase(phaseCommit)
	return c
}

func newProducePartition(partition int32) kmsg.ProduceResponseTopicPartition {
	p := kmsg.NewProduceResponseTopicPartition()
	p.Partition, p.BaseOffset, p.LogAppendTime, p.LogStartOffset = partition, -1, -1, -1
	return p
}

// failure is why a partition was refused.
type failure struct {
	code   int16
	msg    string
	record int // index of the record at fault plus one; 0: none
}

func (c *produceCall) refuse(b *Broker, topic string, part *kmsg.ProduceResponseTopicPartition, f *failure) {
	part.ErrorCode = f.code
	if f.msg != "" {
		part.ErrorMessage = &f.msg
	}
	if f.record > 0 {
		er := kmsg.NewProduceResponseTopicPartitionErrorRecord()
		er.RelativeOffset, er.ErrorMessage = int32(f.record-1), &f.msg
		part.ErrorRecords = append(part.ErrorRecords, er)
	}
	c.moved = c.moved || f.code == codeNotLeaderOrFollower
	if b.obs.ProduceRefused != nil {
		b.obs.ProduceRefused(topic, f.code)
	}
}

// appendBatch validates one batch and hands it to the log.
func (b *Broker) appendBatch(c *produceCall, r *request, t *topic, batch []byte, part *kmsg.ProduceResponseTopicPartition) *failure {
	tp := t.partition(part.Partition)
	if _, err := b.cfg.Log.Leader(tp); err != nil {
		return b.logFailure(err, t, tp)
	}
	if len(batch) < recordbatch.HeaderSize {
		return &failure{code: codeInvalidRecord, msg: "a partition takes exactly one record batch a request; there is none"}
	}
	limits := t.settings.limits
	now := r.received.UnixMilli()
	limits.NowMillis = now
	h, err := recordbatch.Validate(batch, limits)
	if err != nil {
		return recordFailure(err)
	}
	if h.Compression() == recordbatch.CodecZstd && r.version < 7 {
		return &failure{code: codeUnsupportedCompression, msg: fmt.Sprintf("Produce requests with version %d are not allowed to use ZStandard compression", r.version)}
	}
	if h.IsTransactional() {
		return &failure{code: codeTransactionalIDAuth, msg: "a transactional batch came without a transactional id"}
	}
	buf := r.frame.buf
	if s := &t.settings; s.recompress && s.codec != h.Compression() {
		batch, buf, err = b.recompress(batch, s)
		if err != nil {
			return recordFailure(err)
		}
		defer buf.Release() // ours; the log has its own reference by then
		if s.limits.MaxBatchBytes > 0 && len(batch) > s.limits.MaxBatchBytes {
			return &failure{code: codeMessageTooLarge, msg: fmt.Sprintf("the batch has %d bytes once stored with compression.type=%s; max.message.bytes allows %d", len(batch), s.codec, s.limits.MaxBatchBytes)}
		}
		if h, err = recordbatch.ParseHeader(batch); err != nil {
			return recordFailure(err)
		}
	}
	appendTime := int64(-1)
	if limits.LogAppendTime {
		appendTime = now
		recordbatch.SetLogAppendTime(batch, now)
		if h, err = recordbatch.ParseHeader(batch); err != nil {
			return recordFailure(err)
		}
	}
	pending, err := b.cfg.Log.Append(c.ctx, tp, batch, h, buf)
	if err != nil {
		return b.logFailure(err, t, tp)
	}
	c.waits = append(c.waits, produceWait{
		topic: t.Name, part: part, pending: pending, appended: time.Now(), appendTime: appendTime,
		records: int(h.NumRecords), bytes: len(batch),
	})
	if b.obs.Appended != nil {
		b.obs.Appended(t.Name, part.Partition, int(h.NumRecords))
	}
	return nil
}

// recompress stores the batch with the topic's codec, in a buffer of its own.
func (b *Broker) recompress(batch []byte, s *topicSettings) ([]byte, *slab.Buf, error) {
	out, err := recordbatch.Recompress(batch, s.codec, s.level, 0)
	if err != nil {
		return nil, nil, err
	}
	buf := b.cfg.Pool.Get(len(out))
	stored := buf.Bytes()
	copy(stored, out)
	return stored, buf, nil
}

// recordFailure translates what recordbatch found.
func recordFailure(err error) *failure {
	f := &failure{code: codeCorruptMessage, msg: err.Error()}
	var e *recordbatch.Error
	if !errors.As(err, &e) {
		return f
	}
	if e.BadRecord >= 0 {
		f.record = e.BadRecord + 1
	}
	switch e.Kind {
	case recordbatch.KindCorrupt:
		f.code = codeCorruptMessage
	case recordbatch.KindInvalidRecord:
		f.code = codeInvalidRecord
	case recordbatch.KindTooLarge:
		f.code = codeMessageTooLarge
	case recordbatch.KindInvalidTimestamp:
		f.code = codeInvalidTimestamp
	case recordbatch.KindUnsupportedForMagic:
		f.code = codeUnsupportedForMessageFormat
	case recordbatch.KindUnsupportedCompression:
		f.code = codeUnsupportedCompression
	case recordbatch.KindInvalidRequest:
		f.code = codeInvalidRequest
	}
	return f
}

// logFailure translates an error of the log for one partition, and logs what is not routine.
func (b *Broker) logFailure(err error, t *topic, tp catalog.TopicPartition) *failure {
	f := &failure{code: codeOf(err)}
	if !routine(f.code) {
		f.msg = err.Error()
		b.limited.warn("produce refused by the log", "topic", t.Name, "partition", tp.Partition, "error", err)
	}
	return f
}

// produce is the second half: the writer waits for what the reader appended, and answers.
func (b *Broker) produce(ctx context.Context, r *request) (kmsg.Response, error) {
	c := r.early
	defer c.cancel()
	for i := range c.waits {
		w := &c.waits[i]
		select {
		case <-w.pending.Done():
			b.outcome(c, w)
			continue
		default:
		}
		select {
		case <-w.pending.Done():
			b.outcome(c, w)
		case <-c.ctx.Done():
			if ctx.Err() != nil {
				return nil, fmt.Errorf("wait for commit: %w", ctx.Err())
			}
			w.part.ErrorCode = codeRequestTimedOut
			b.observeProduced(w, codeRequestTimedOut)
		}
	}
	b.observeAnswered(c, r)
	if c.acks == 0 {
		return nil, c.dropped()
	}
	if c.moved && r.version >= 10 {
		b.tellLeaders(c, r)
	}
	return c.resp, nil
}

// dropped is the first error of an acks=0 request: all a client can be told is that its connection ends.
func (c *produceCall) dropped() error {
	for i := range c.resp.Topics {
		for j := range c.resp.Topics[i].Partitions {
			if p := &c.resp.Topics[i].Partitions[j]; p.ErrorCode != codeNone {
				return fmt.Errorf("produce with acks=0 to partition %d failed with %s", p.Partition, kafkaproto.ErrorName(p.ErrorCode))
			}
		}
	}
	return nil
}

// outcome puts the outcome of one append into the answer.
func (b *Broker) outcome(c *produceCall, w *produceWait) {
	a, err := w.pending.Result()
	code := codeOf(err)
	w.part.ErrorCode = code
	if err == nil {
		w.part.BaseOffset, w.part.LogStartOffset, w.part.LogAppendTime = a.BaseOffset, a.LogStart, w.appendTime
	} else if !routine(code) {
		w.part.ErrorMessage = new(err.Error())
		b.limited.warn("append failed", "topic", w.topic, "partition", w.part.Partition, "error", err)
	}
	c.moved = c.moved || code == codeNotLeaderOrFollower
	b.observeProduced(w, code)
}

func (b *Broker) observeProduced(w *produceWait, code int16) {
	if b.obs.Produced != nil {
		b.obs.Produced(w.topic, w.part.Partition, w.records, w.bytes, time.Since(w.appended), code)
	}
}

// observeAnswered tells the observer of the topics that the request is about, once of each: it may name one more than once.
func (b *Broker) observeAnswered(c *produceCall, r *request) {
	if b.obs.ProduceAnswered == nil {
		return
	}
	took, im := time.Since(r.received), b.topics.load()
	var told distinctTopics
	for i := range c.resp.Topics {
		t, _ := b.findTopic(im, r.version >= 13, c.resp.Topics[i].Topic, c.resp.Topics[i].TopicID)
		if t != nil && told.first(t) {
			b.obs.ProduceAnswered(t.Name, took, r.trace.id())
		}
	}
}

// tellLeaders adds where partitions are led now (KIP-951), so that clients move without a metadata round trip.
func (b *Broker) tellLeaders(c *produceCall, r *request) {
	im, fl := b.topics.load(), b.fleet()
	var leaders []int32
	for i := range c.resp.Topics {
		out := &c.resp.Topics[i]
		t, _ := b.findTopic(im, r.version >= 13, out.Topic, out.TopicID)
		for j := range out.Partitions {
			p := &out.Partitions[j]
			if t == nil || p.ErrorCode != codeNotLeaderOrFollower || !t.has(p.Partition) {
				continue
			}
			leader, epoch := b.successor(fl, t.partition(p.Partition))
			p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = leader, epoch
			if leader >= 0 && !slices.Contains(leaders, leader) {
				leaders = append(leaders, leader)
			}
		}
	}
	for _, id := range leaders {
		node := fl.node(id)
		e := node.endpoint(r.conn.listener)
		n := kmsg.NewProduceResponseBroker()
		n.NodeID, n.Host, n.Port, n.Rack = id, e.Host, e.Port, node.rack()
		c.resp.Brokers = append(c.resp.Brokers, n)
	}
}

// findTopic looks a topic up by id or name; code says which error an unknown one is.
func (b *Broker) findTopic(im *image, byID bool, name string, id [16]byte) (t *topic, code int16) {
	if byID {
		return im.byID[id], codeUnknownTopicID
	}
	return im.byName[name], codeUnknownTopicOrPartition
}

func nameOf(t *topic, name string) string {
	if t != nil {
		return t.Name
	}
	return name
}
