package broker

import (
	"container/list"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/broker/attribution"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage"
)

// Incremental fetch sessions (KIP-227). A session remembers what a client fetches, so that a poll names only what
// changed, is answered with only what changed, and examines only partitions that can have something: those the
// client changed, those the watcher told, and those known to hold more.

const (
	// sessionIdle is how long a session goes unused before any other may take its slot.
	sessionIdle = 2 * time.Minute
	// sessionRecheck is how often every partition of a session is examined, whatever the watcher told: a backstop.
	sessionRecheck = 30 * time.Second
	// fewPartitions are found by scanning rather than by a map.
	fewPartitions = 16
)

// partKey is how a client names a partition: by topic id (name empty), or by name (id zero).
type partKey struct {
	tp   catalog.TopicPartition
	name string
}

// sessionPart is one partition of a session.
type sessionPart struct {
	key         partKey
	topic       *topic // nil: unknown
	offset      int64
	maxBytes    int32
	leaderEpoch int32
	lastEpoch   int32

	slot *attribution.Slot // whose records they are; nil: not asked for yet

	// What the client was told last; -1: nothing, or an error since.
	toldHigh, toldStart int64

	watched catalog.TopicPartition // zero: not watched
	dirty   bool                   // in session.dirty
	touched bool                   // in fetchRun.touched

	// The outcome in the request under way.
	code      int16
	follower  bool  // this broker does not lead it: committed records only
	preferred int32 // the replica the client should read from instead; -1: none
	diverging storage.EpochEnd
	high      int64
	stable    int64
	start     int64
	read      *storage.Read
}

// tp names the partition for the log; only if topic is known.
func (p *sessionPart) tp() catalog.TopicPartition { return p.topic.partition(p.key.tp.Partition) }

func (p *sessionPart) bytes() int {
	if p.read == nil {
		return 0
	}
	return p.read.Bytes
}

// session is a set of partitions under fetch. It belongs to the request that opened it until that closes it.
type session struct {
	id      int32 // 0: lives for one request only
	byID    bool  // the client names topics by id
	order   []*sessionPart
	parts   map[partKey]*sessionPart // nil while there are few and the session lives for one request
	dirty   []*sessionPart           // to be examined, least recently served first
	image   *image
	watcher *storage.Watcher
	moved   []catalog.TopicPartition // scratch
	told    distinctTopics           // scratch of fetchRun.observe, empty
	checked time.Time                // when everything was examined last

	// Owned by sessionCache.
	epoch   int32
	busy    bool
	dead    bool // removed while busy: close it afterwards
	size    int
	created time.Time
	used    time.Time
	lru     *list.Element
}

func (s *session) find(k partKey) *sessionPart {
	if s.parts != nil {
		return s.parts[k]
	}
	for _, p := range s.order {
		if p.key == k {
			return p
		}
	}
	return nil
}

// add adds a partition, or changes one that is there.
func (s *session) add(name string, id catalog.TopicID, rp *kmsg.FetchRequestTopicPartition) {
	k := partKey{name: name, tp: catalog.TopicPartition{Partition: rp.Partition}}
	if s.byID {
		k = partKey{tp: catalog.TopicPartition{Topic: id, Partition: rp.Partition}}
	}
	p := s.find(k)
	if p == nil {
		p = &sessionPart{key: k, toldHigh: -1, toldStart: -1, preferred: -1}
		s.order = append(s.order, p)
		if s.parts == nil && (len(s.order) > fewPartitions || s.id != 0) {
			s.parts = make(map[partKey]*sessionPart, len(s.order))
			for _, o := range s.order {
				s.parts[o.key] = o
			}
		}
		if s.parts != nil {
			s.parts[k] = p
		}
		s.resolve(p)
	}
	p.offset, p.maxBytes, p.leaderEpoch, p.lastEpoch = rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch
	s.mark(p)
}

// mark has the partition examined.
func (s *session) mark(p *sessionPart) {
	if !p.dirty {
		p.dirty = true
		s.dirty = append(s.dirty, p)
	}
}

// resolve looks the partition's topic up in the session's image, and moves the watch if it is another one now.
func (s *session) resolve(p *sessionPart) {
	var t *topic
	if s.byID {
		t = s.image.byID[p.key.tp.Topic]
	} else {
		t = s.image.byName[p.key.name]
	}
	if t != nil && !t.has(p.key.tp.Partition) {
		t = nil
	}
	p.topic = t
	if s.watcher != nil {
		s.watch(p)
	}
}

func (s *session) watch(p *sessionPart) {
	var want catalog.TopicPartition
	if p.topic != nil {
		want = p.tp()
	}
	if want == p.watched {
		return
	}
	if p.watched != (catalog.TopicPartition{}) {
		s.watcher.Remove(p.watched)
	}
	if want != (catalog.TopicPartition{}) {
		s.watcher.Add(want)
	}
	p.watched = want
}

// startWatching watches all partitions. Partitions must be examined after it.
func (s *session) startWatching(w *storage.Watcher) {
	s.watcher = w
	add := make([]catalog.TopicPartition, 0, len(s.order))
	for _, p := range s.order {
		if p.topic != nil {
			p.watched = p.tp()
			add = append(add, p.watched)
		}
	}
	w.Add(add...)
}

// refresh follows a change of the topics, and has everything examined when that is due.
func (s *session) refresh(im *image, now time.Time) {
	changed := s.image != im
	s.image = im
	if !changed && now.Sub(s.checked) < sessionRecheck {
		return
	}
	s.checked = now
	for _, p := range s.order {
		s.resolve(p)
		s.mark(p)
	}
}

// forget drops partitions.
func (s *session) forget(topics []kmsg.FetchRequestForgottenTopic) {
	gone := false
	for i := range topics {
		ft := &topics[i]
		for _, n := range ft.Partitions {
			k := partKey{name: ft.Topic, tp: catalog.TopicPartition{Partition: n}}
			if s.byID {
				k = partKey{tp: catalog.TopicPartition{Topic: ft.TopicID, Partition: n}}
			}
			p := s.parts[k]
			if p == nil {
				continue
			}
			if s.watcher != nil && p.watched != (catalog.TopicPartition{}) {
				s.watcher.Remove(p.watched)
			}
			delete(s.parts, k)
			p.maxBytes, gone = -1, true
		}
	}
	if !gone {
		return
	}
	keep := func(l []*sessionPart) []*sessionPart {
		out := l[:0]
		for _, p := range l {
			if s.parts[p.key] == p {
				out = append(out, p)
			}
		}
		clear(l[len(out):])
		return out
	}
	s.order, s.dirty = keep(s.order), keep(s.dirty)
}

// takeMoved has the partitions examined that the watcher tells.
func (s *session) takeMoved(each func(*sessionPart)) {
	s.moved = s.watcher.Take(s.moved[:0])
	for _, tp := range s.moved {
		k := partKey{tp: tp}
		if !s.byID {
			t := s.image.byID[tp.Topic]
			if t == nil {
				continue // the image changed: the next request resolves anew
			}
			k = partKey{name: t.Name, tp: catalog.TopicPartition{Partition: tp.Partition}}
		}
		if p := s.find(k); p != nil {
			s.mark(p)
			each(p)
		}
	}
}

func (s *session) close() {
	if s.watcher != nil {
		s.watcher.Close()
		s.watcher = nil
	}
}

// sessionCache keeps sessions between requests, bounded in number and in partitions.
type sessionCache struct {
	slots, maxPartitions int
	mu                   struct {
		sync.Mutex
		byID       map[int32]*session
		lru        list.List // of *session, least recently used first
		partitions int
	}
}

func newSessionCache(slots, partitions int) *sessionCache {
	c := &sessionCache{slots: slots, maxPartitions: partitions}
	c.mu.byID = map[int32]*session{}
	return c
}

// create gives s a slot, if there is one for it: free, or of a session unused for long, or of a smaller one that had
// its slot for long (as Kafka). s is busy afterwards.
func (c *sessionCache) create(s *session, size int, now time.Time) {
	c.mu.Lock()
	evicted := c.makeRoomLocked(size, now)
	if len(c.mu.byID) < c.slots && c.mu.partitions+size <= c.maxPartitions {
		for s.id == 0 || c.mu.byID[s.id] != nil {
			s.id = rand.Int32N(math.MaxInt32-1) + 1
		}
		c.mu.byID[s.id] = s
		s.epoch, s.busy, s.size, s.created, s.used = 1, true, size, now, now
		s.lru = c.mu.lru.PushBack(s)
		c.mu.partitions += size
	}
	c.mu.Unlock()
	for _, e := range evicted {
		e.close()
	}
}

// makeRoomLocked removes sessions until one of the size fits, and returns those to be closed.
func (c *sessionCache) makeRoomLocked(size int, now time.Time) (evicted []*session) {
	for len(c.mu.byID) >= c.slots || c.mu.partitions+size > c.maxPartitions {
		var victim *session
		for e := c.mu.lru.Front(); e != nil; e = e.Next() {
			o := e.Value.(*session)
			if o.busy {
				continue
			}
			if now.Sub(o.used) > sessionIdle {
				victim = o
				break
			}
			if o.size < size && now.Sub(o.created) > sessionIdle && (victim == nil || o.size < victim.size) {
				victim = o
			}
		}
		if victim == nil {
			return evicted
		}
		c.removeLocked(victim)
		evicted = append(evicted, victim)
	}
	return evicted
}

func (c *sessionCache) removeLocked(s *session) {
	delete(c.mu.byID, s.id)
	c.mu.lru.Remove(s.lru)
	c.mu.partitions -= s.size
}

// open returns the session for an incremental request, busy, or Kafka's error.
func (c *sessionCache) open(id, epoch int32, byID bool, now time.Time) (*session, int16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.mu.byID[id]
	switch {
	case s == nil:
		return nil, codeFetchSessionIDNotFound
	case s.byID != byID:
		return nil, codeFetchSessionTopicIDError
	case s.busy, s.epoch != epoch:
		return nil, codeInvalidFetchSessionEpoch
	}
	if s.epoch++; s.epoch <= 0 { // after 2^31-1 comes 1
		s.epoch = 1
	}
	s.busy, s.used = true, now
	c.mu.lru.MoveToBack(s.lru)
	return s, codeNone
}

// done ends a request's hold on the session. keep false removes it.
func (c *sessionCache) done(s *session, keep bool) {
	if s.id == 0 {
		s.close()
		return
	}
	c.mu.Lock()
	s.busy = false
	if !s.dead {
		c.mu.partitions += len(s.order) - s.size
		s.size = len(s.order)
		if !keep || c.mu.partitions > c.maxPartitions {
			c.removeLocked(s)
			s.dead = true
		}
	}
	dead := s.dead
	c.mu.Unlock()
	if dead {
		s.close()
	}
}

// remove ends a session on the client's wish. Unknown ids are ignored.
func (c *sessionCache) remove(id int32) {
	c.mu.Lock()
	s := c.mu.byID[id]
	var idle bool
	if s != nil {
		c.removeLocked(s)
		s.dead, idle = true, !s.busy
	}
	c.mu.Unlock()
	if idle {
		s.close()
	}
}

// close ends all sessions; no request is under way.
func (c *sessionCache) close() {
	c.mu.Lock()
	all := make([]*session, 0, len(c.mu.byID))
	for _, s := range c.mu.byID {
		c.removeLocked(s)
		all = append(all, s)
	}
	c.mu.Unlock()
	for _, s := range all {
		s.close()
	}
}
