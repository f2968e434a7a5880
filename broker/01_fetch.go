package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage"
)

// Fetch (key 1), versions 4–18.
//
// Behaviour: sessions as in session.go. A poll examines the partitions that can have something, least recently
// served first, until the answer is full; it returns at least one batch if there is any. If that is less than
// min.bytes and nothing failed, it waits for the watcher and examines just the partitions that moved. Record bytes
// are never copied: the answer holds slices of the log's buffers until it is written.
//
// Bounds: the answer by the request's and the broker's fetch.max.bytes; all answers together by AnswerMemoryBytes,
// beyond which an answer shrinks to what one batch needs. A long poll ends early when the broker shuts down.

const (
	// leastFetch is what an answer may hold when the broker's answer memory is used up, in bytes.
	leastFetch = 64 * kib
	// readCommitted is isolation.level=read_committed.
	readCommitted = 1
)

// fetchRun is one Fetch under way.
type fetchRun struct {
	b         *Broker
	ctx       context.Context // lives for one call of Broker.fetch
	s         *session
	version   int16
	full      bool // every partition is answered, not only what changed
	committed bool
	maxBytes  int
	bytes     int
	failed    bool // some partition has an error to tell: answer now
	touched   []*sessionPart
	answer    *fetchAnswer
}

func (b *Broker) fetch(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.FetchRequest)
	a := &fetchAnswer{b: b}
	a.Default()
	a.Version = r.version
	now := time.Now()
	s, full, code := b.fetchSession(req, now)
	if code != codeNone {
		a.ErrorCode = code
		return a, nil
	}
	f := &fetchRun{
		b: b, ctx: ctx, s: s, version: r.version, full: full, answer: a,
		committed: req.IsolationLevel == readCommitted,
	}
	keep := false
	defer func() {
		for _, p := range f.touched { // what did not get into the answer
			f.drop(p)
			p.touched = false
		}
		b.sessions.done(s, keep)
	}()
	f.maxBytes = min(int(max(req.MaxBytes, 0)), b.cfg.Limits.FetchMaxBytes)
	wait := time.Duration(max(req.MaxWaitMillis, 0)) * time.Millisecond
	err := f.run(int(req.MinBytes), wait, now)
	if err != nil {
		a.release()
		return nil, err
	}
	f.respond(r.conn.listener)
	keep = true
	if len(s.order) == 0 && !full {
		keep = false // as Kafka: a session that became empty ends
	} else {
		a.SessionID = s.id
	}
	f.observe(time.Since(r.received))
	return a, nil
}

// fetchSession opens the session of a request and applies what the request changes.
func (b *Broker) fetchSession(req *kmsg.FetchRequest, now time.Time) (s *session, full bool, code int16) {
	byID := req.Version >= 13
	full = req.Version < 7 || req.SessionEpoch <= 0
	im := b.topics.load()
	if full {
		if req.Version >= 7 && req.SessionID != 0 {
			b.sessions.remove(req.SessionID)
		}
		n := 0
		for i := range req.Topics {
			n += len(req.Topics[i].Partitions)
		}
		s = &session{byID: byID, image: im, checked: now, order: make([]*sessionPart, 0, n), dirty: make([]*sessionPart, 0, n)}
		if req.Version >= 7 && req.SessionEpoch == 0 {
			b.sessions.create(s, n, now)
		}
	} else {
		s, code = b.sessions.open(req.SessionID, req.SessionEpoch, byID, now)
		if code != codeNone {
			return nil, false, code
		}
		s.forget(req.ForgottenTopics)
		s.refresh(im, now)
	}
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			s.add(t.Topic, t.TopicID, &t.Partitions[j])
		}
	}
	if s.id != 0 && s.watcher == nil {
		s.startWatching(b.cfg.Log.NewWatcher())
	}
	return s, full, codeNone
}

// hold takes up to n bytes of the broker's answer memory, never waiting: when little is left, the answer is small.
func (f *fetchRun) hold(asked int) int {
	for n := asked; n > 0; n /= 4 {
		if f.b.answers.TryAcquire(int64(n)) {
			f.answer.held += int64(n)
			return n
		}
		if n <= leastFetch {
			break
		}
	}
	if f.bytes > 0 {
		return 0
	}
	return min(asked, leastFetch) // without being accounted: a consumer must make progress
}

// settle keeps as much answer memory as the answer has bytes.
func (f *fetchRun) settle() {
	if a := f.answer; a.held > int64(f.bytes) {
		f.b.answers.Release(a.held - int64(f.bytes))
		a.held = int64(f.bytes)
	}
}

// run examines, and waits while there is too little to answer.
func (f *fetchRun) run(minBytes int, wait time.Duration, began time.Time) error {
	minBytes = min(minBytes, f.maxBytes)
	s := f.s
	if s.watcher != nil && !f.full {
		s.takeMoved(func(*sessionPart) {}) // marked dirty, examined below
	}
	f.pass()
	if err := f.ctx.Err(); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	enough := func() bool { return f.failed || f.bytes >= minBytes || len(s.order) == 0 }
	left := wait - time.Since(began)
	if enough() || left <= 0 {
		return nil
	}
	if s.watcher == nil {
		s.startWatching(f.b.cfg.Log.NewWatcher())
		f.pass() // what moved before the watch
		if enough() {
			return nil
		}
	}
	t := time.NewTimer(left)
	defer t.Stop()
	for !enough() {
		select {
		case <-s.watcher.C():
			s.takeMoved(f.examine)
		case <-t.C:
			return nil
		case <-f.b.draining:
			return nil
		case <-f.ctx.Done():
			return fmt.Errorf("fetch: %w", f.ctx.Err())
		}
	}
	return nil
}

// pass examines every dirty partition, in order.
func (f *fetchRun) pass() {
	for _, p := range f.s.dirty {
		if f.ctx.Err() != nil {
			return
		}
		f.examine(p)
	}
}

// drop gives back what was read of a partition.
func (f *fetchRun) drop(p *sessionPart) {
	if p.read != nil {
		f.bytes -= p.read.Bytes
		putRead(p.read)
		p.read = nil
	}
}

// examine finds out what there is of one partition, within what the answer has room for.
func (f *fetchRun) examine(p *sessionPart) {
	if !p.touched {
		p.touched = true
		f.touched = append(f.touched, p)
	}
	f.drop(p)
	p.code, p.diverging = codeNone, storage.EpochEnd{Epoch: -1, End: -1}
	p.high, p.stable, p.start = -1, -1, -1
	if p.topic == nil {
		f.fail(p, f.unknown(p))
		return
	}
	tp := p.tp()
	if code := f.checkEpochs(p, tp); code != codeNone {
		f.fail(p, code)
		return
	}
	if p.diverging.Epoch >= 0 {
		f.failed = true // to be told at once
		f.offsets(p, tp)
		return
	}
	limit := max(min(int(p.maxBytes), f.maxBytes-f.bytes), 0)
	if limit == 0 && f.bytes > 0 {
		f.offsets(p, tp)
		return
	}
	if limit = f.hold(limit); limit == 0 && f.bytes > 0 {
		f.offsets(p, tp)
		return
	}
	rd := reads.Get().(*storage.Read)
	err := f.b.cfg.Log.Read(f.ctx, storage.ReadRequest{
		TP: tp, Offset: p.offset, MaxBytes: limit, MinOne: f.bytes == 0, ReadCommitted: f.committed,
	}, rd)
	defer f.settle()
	if err != nil {
		putRead(rd)
		f.readFailed(p, tp, err)
		return
	}
	p.high, p.stable, p.start = rd.HighWatermark, rd.LastStable, rd.LogStart
	f.bytes += rd.Bytes
	p.read = rd
}

// unknown is the error of a partition whose topic is not known.
func (f *fetchRun) unknown(p *sessionPart) int16 {
	if f.s.byID && f.s.image.byID[p.key.tp.Topic] == nil {
		return codeUnknownTopicID
	}
	return codeUnknownTopicOrPartition
}

// offsets fills in what an answer without records tells.
func (f *fetchRun) offsets(p *sessionPart, tp catalog.TopicPartition) {
	o, err := f.b.cfg.Log.Offsets(f.ctx, tp)
	if err != nil {
		f.readFailed(p, tp, err)
		return
	}
	p.high, p.stable, p.start = o.HighWatermark, o.LastStable, o.LogStart
}

func (f *fetchRun) fail(p *sessionPart, code int16) {
	if p.topic != nil && (code == codeNotLeaderOrFollower || code == codeUnknownTopicOrPartition) && f.b.topics.load().byID[p.topic.ID] == nil {
		code = codeUnknownTopicOrPartition // deleted while we waited
		if f.s.byID {
			code = codeUnknownTopicID
		}
	}
	p.code, f.failed = code, true
}

func (f *fetchRun) readFailed(p *sessionPart, tp catalog.TopicPartition, err error) {
	if f.ctx.Err() != nil {
		return // the connection is gone; nobody is answered
	}
	code := codeOf(err)
	f.fail(p, code)
	if !routine(code) {
		f.b.limited.warn("fetch failed", "topic", p.topic.Name, "partition", tp.Partition, "offset", p.offset, "error", err)
	}
}

// checkEpochs compares the client's idea of the leader epoch (KIP-320) and of its last record's epoch (KIP-595).
func (f *fetchRun) checkEpochs(p *sessionPart, tp catalog.TopicPartition) int16 {
	current, code := f.b.checkLeaderEpoch(tp, p.leaderEpoch)
	if code != codeNone {
		return code
	}
	if f.version < 12 || p.lastEpoch < 0 || p.lastEpoch == current {
		return codeNone
	}
	end, err := f.b.cfg.Log.EndOfEpoch(f.ctx, tp, p.lastEpoch)
	switch {
	case err != nil:
		return codeOf(err)
	case end.Epoch < 0 || end.End < 0:
		return codeOffsetOutOfRange
	case end.Epoch < p.lastEpoch || end.End < p.offset:
		p.diverging = end
	}
	return codeNone
}

// checkLeaderEpoch compares a client's current leader epoch (-1: none) with the one in force.
func (b *Broker) checkLeaderEpoch(tp catalog.TopicPartition, asked int32) (current int32, code int16) {
	current, err := b.cfg.Log.Leader(tp)
	switch {
	case err != nil:
		return -1, codeOf(err)
	case asked >= 0 && asked < current:
		return current, codeFencedLeaderEpoch
	case asked >= 0 && asked > current:
		return current, codeUnknownLeaderEpoch
	}
	return current, codeNone
}

// respond moves the outcome into the answer, and decides what will be examined next time.
func (f *fetchRun) respond(listener string) {
	list := f.touched
	if f.full {
		list = f.s.order
	}
	moved := false
	for _, p := range list {
		changed := p.bytes() > 0 || p.code != codeNone || p.diverging.Epoch >= 0 || p.high != p.toldHigh || p.start != p.toldStart
		if !f.full && !changed {
			continue
		}
		f.put(p)
		moved = moved || p.code == codeNotLeaderOrFollower || p.code == codeFencedLeaderEpoch
		p.toldHigh, p.toldStart = p.high, p.start
		if p.code != codeNone || p.diverging.Epoch >= 0 {
			p.toldHigh = -1
		}
	}
	if moved && f.version >= 16 {
		f.tellLeaders(listener)
	}
	f.requeue()
}

// put adds one partition to the answer.
func (f *fetchRun) put(p *sessionPart) {
	a := f.answer
	var t *kmsg.FetchResponseTopic
	if n := len(a.Topics); n > 0 {
		t = &a.Topics[n-1]
	}
	if t == nil || t.TopicID != [16]byte(p.key.tp.Topic) || t.Topic != p.key.name {
		nt := kmsg.NewFetchResponseTopic()
		nt.Topic, nt.TopicID = p.key.name, p.key.tp.Topic
		a.Topics = append(a.Topics, nt)
		t = &a.Topics[len(a.Topics)-1]
	}
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches = []byte{} // none is empty, never null: librdkafka refuses a null
	rp.Partition, rp.ErrorCode = p.key.tp.Partition, p.code
	rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = p.high, p.stable, p.start
	if p.diverging.Epoch >= 0 {
		rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = p.diverging.Epoch, p.diverging.End
	}
	if f.committed && p.code == codeNone {
		rp.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
	}
	var records [][]byte
	if p.read != nil {
		for _, ab := range p.read.Aborted {
			at := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			at.ProducerID, at.FirstOffset = ab.ProducerID, ab.FirstOffset
			rp.AbortedTransactions = append(rp.AbortedTransactions, at)
		}
		if p.read.Bytes > 0 {
			records = p.read.Records
			if f.b.obs.Fetched != nil && p.topic != nil {
				f.b.obs.Fetched(p.topic.Name, p.key.tp.Partition, countRecords(records), p.read.Bytes)
			}
		}
	}
	t.Partitions = append(t.Partitions, rp)
	a.Records = append(a.Records, records)
}

// requeue keeps dirty what can have more: those that got nothing first, then those that were served. The reads move
// to the answer, which releases them.
func (f *fetchRun) requeue() {
	s := f.s
	kept, served := s.dirty[:0], []*sessionPart(nil)
	for _, p := range s.dirty {
		p.dirty = true
		switch {
		case p.bytes() > 0:
			served = append(served, p)
		case p.code != codeNone, p.diverging.Epoch >= 0, p.offset < f.limitOf(p), !p.touched:
			kept = append(kept, p)
		default:
			p.dirty = false
		}
	}
	clear(s.dirty[len(kept):])
	kept = append(kept, served...)
	s.dirty = kept
	for _, p := range f.touched {
		if p.read != nil {
			f.answer.reads = append(f.answer.reads, p.read)
			p.read = nil
		}
	}
}

// limitOf is how far the client may read.
func (f *fetchRun) limitOf(p *sessionPart) int64 {
	if f.committed {
		return p.stable
	}
	return p.high
}

// tellLeaders adds where partitions are led now (KIP-951).
func (f *fetchRun) tellLeaders(listener string) {
	told := false
	for i := range f.answer.Topics {
		t := &f.answer.Topics[i]
		for j := range t.Partitions {
			rp := &t.Partitions[j]
			if rp.ErrorCode != codeNotLeaderOrFollower && rp.ErrorCode != codeFencedLeaderEpoch {
				continue
			}
			leader, epoch := f.b.leaderOf(catalog.TopicPartition{Topic: t.TopicID, Partition: rp.Partition})
			rp.CurrentLeader.LeaderID, rp.CurrentLeader.LeaderEpoch = leader, epoch
			told = told || leader >= 0
		}
	}
	if told {
		e := f.b.endpoint(listener)
		n := kmsg.NewFetchResponseBroker()
		n.NodeID, n.Host, n.Port, n.Rack = f.b.cfg.NodeID, e.Host, e.Port, f.b.rack()
		f.answer.Brokers = append(f.answer.Brokers, n)
	}
}

// observe tells the observer what the answer holds.
func (f *fetchRun) observe(took time.Duration) {
	if f.b.obs.FetchAnswered == nil {
		return
	}
	var last *topic
	for _, p := range f.touched {
		if p.topic != nil && p.topic != last {
			f.b.obs.FetchAnswered(p.topic.Name, took)
			last = p.topic
		}
	}
}
