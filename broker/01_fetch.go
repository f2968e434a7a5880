package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/attribution"
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
// Followers (KIP-392): a broker that does not lead a partition serves its committed records to clients of version 11
// and later, whatever their rack. It tells the high watermark it knows, which may be behind. What only a leader can say
// it does not say: an offset below the log start it knows is NOT_LEADER_OR_FOLLOWER, one above the high watermark is
// waited for until max.wait and then OFFSET_NOT_AVAILABLE, never OFFSET_OUT_OF_RANGE, and the epoch of the last record
// is not compared (committed records are never truncated). The leader tells a client with the rack of another broker
// among the partition's replicas to read there, if the offset exists; a client that comes back soon is served, so that a
// follower that is behind keeps nobody.
//
// NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH say who leads (version 12 and later) and its address (version 16 and
// later, KIP-951).
//
// Bounds: the answer by the request's and the broker's fetch.max.bytes; all answers together by AnswerMemoryBytes,
// beyond which an answer shrinks to what one batch needs. A long poll ends early when the broker shuts down.

const (
	// leastFetch is what an answer may hold when the broker's answer memory is used up, in bytes.
	leastFetch = 64 * kib
	// readCommitted is isolation.level=read_committed.
	readCommitted = 1
	// followerFetch is the version of Fetch from which on a client may read from a follower, and has a rack.
	followerFetch = 11
)

// fetchRun is one Fetch under way.
type fetchRun struct {
	b         *Broker
	ctx       context.Context // lives for one call of Broker.fetch
	conn      *conn
	trace     *following          // nil: nobody follows the request
	reader    *attribution.Client // nil: nobody wants to know
	fleet     *fleet
	near      *placer // of partitions for a client in another rack; nil: the client stays
	rack      string  // of that client
	began     time.Time
	until     time.Time // when to answer with what was gathered
	s         *session
	version   int16
	full      bool // every partition is answered, not only what changed
	committed bool
	maxBytes  int
	bytes     int
	failed    bool // some partition has an error to tell, or a better replica: answer now
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
		b: b, ctx: r.trace.context(ctx), trace: r.trace, conn: r.conn, began: now, s: s, version: r.version, full: full, answer: a,
		committed: req.IsolationLevel == readCommitted, reader: b.readerOf(r),
	}
	f.findNear(req)
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
	f.respond()
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
	f.trace.phase(phaseRead)
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
		f.trace.phase(phaseWait)
		select {
		case <-s.watcher.C():
			f.trace.phase(phaseRead)
			f.until = time.Now().Add(gatherWithin)
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
	f.until = time.Now().Add(gatherWithin)
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

// gatherWithin is how long an answer gathers what has to come from the store. What it has by then is answered: a client
// gives a request up after a while, and would ask for the same again.
const gatherWithin = 500 * time.Millisecond

// examine finds out what there is of one partition, within what the answer has room for.
func (f *fetchRun) examine(p *sessionPart) {
	if !p.touched {
		p.touched = true
		f.touched = append(f.touched, p)
	}
	f.drop(p)
	p.code, p.diverging = codeNone, storage.EpochEnd{Epoch: -1, End: -1}
	p.high, p.stable, p.start = -1, -1, -1
	p.follower, p.preferred = false, -1
	if p.topic == nil {
		f.fail(p, f.unknown(p))
		return
	}
	if p.topic.internal {
		f.emptyLog(p)
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
	if f.near != nil && !p.follower && f.redirect(p, tp) {
		return
	}
	limit := max(min(int(p.maxBytes), f.maxBytes-f.bytes), 0)
	if limit > 0 || f.bytes == 0 {
		limit = f.hold(limit)
	}
	if limit == 0 && f.bytes > 0 && !p.follower { // a follower's offsets come with its reads, also of nothing
		f.offsets(p, tp)
		return
	}
	rd := reads.Get().(*storage.Read)
	read := f.b.cfg.Log.Read
	if p.follower {
		read = f.b.follower.ReadFollower
	}
	err := read(f.ctx, storage.ReadRequest{
		TP: tp, Offset: p.offset, MaxBytes: limit, MinOne: f.bytes == 0, Until: f.until, ReadCommitted: f.committed,
	}, rd)
	defer f.settle()
	if err != nil {
		if p.follower && errors.Is(err, storage.ErrOffsetOutOfRange) {
			f.outOfReach(p, rd)
			putRead(rd)
			return
		}
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

// emptyLog answers for a partition of an internal topic: it stands for the role of a coordinator, and has no log.
func (f *fetchRun) emptyLog(p *sessionPart) {
	p.high, p.stable, p.start = 0, 0, 0
	if p.offset != 0 {
		f.fail(p, codeOffsetOutOfRange)
	}
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
	if code == codeNotLeaderOrFollower && f.b.follower != nil && f.version >= followerFetch {
		p.follower = true
		return codeNone
	}
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
	case end.Epoch >= p.lastEpoch && end.End >= p.offset:
		return codeNone
	}
	// A consumer gives up what it has read, or its position, for what follows.
	if back := f.b.unaffirmed(f.ctx, []leaderSays{{tp: tp, epoch: current}}); len(back) > 0 {
		return back[0].code
	}
	if end.Epoch < 0 || end.End < 0 {
		return codeOffsetOutOfRange
	}
	p.diverging = end
	return codeNone
}
