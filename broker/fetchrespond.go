package broker

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// respond moves the outcome into the answer, and decides what will be examined next time.
func (f *fetchRun) respond() {
	list := f.touched
	if f.full {
		list = f.s.order
	}
	var leaders []int32 // to be told with their addresses
	f.fleet = f.b.fleet()
	for _, p := range list {
		changed := p.bytes() > 0 || p.code != codeNone || p.diverging.Epoch >= 0 || p.preferred >= 0 || p.high != p.toldHigh || p.start != p.toldStart
		if !f.full && !changed {
			continue
		}
		if leader := f.put(p); leader >= 0 && !slices.Contains(leaders, leader) {
			leaders = append(leaders, leader)
		}
		p.toldHigh, p.toldStart = p.high, p.start
		if p.code != codeNone || p.diverging.Epoch >= 0 {
			p.toldHigh = -1
		}
	}
	if f.version < 16 {
		leaders = nil
	}
	for _, id := range leaders {
		node := f.fleet.node(id)
		e := node.endpoint(f.conn.listener)
		n := kmsg.NewFetchResponseBroker()
		n.NodeID, n.Host, n.Port, n.Rack = id, e.Host, e.Port, node.rack()
		f.answer.Brokers = append(f.answer.Brokers, n)
	}
	f.requeue()
}

// put adds one partition to the answer. It returns who leads it, if the answer says so; -1 otherwise.
func (f *fetchRun) put(p *sessionPart) (leader int32) {
	a := f.answer
	leader = -1
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
	rp.PreferredReadReplica = p.preferred
	if (p.code == codeNotLeaderOrFollower || p.code == codeFencedLeaderEpoch) && p.topic != nil && f.version >= 12 {
		leader, rp.CurrentLeader.LeaderEpoch = f.b.successor(f.fleet, p.tp())
		rp.CurrentLeader.LeaderID = leader
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
			if f.b.obs.Fetched != nil {
				n, last := countRecords(records, p.offset)
				f.read(p, n, p.read.Bytes, last)
			}
		}
	}
	t.Partitions = append(t.Partitions, rp)
	a.Records = append(a.Records, records)
	return leader
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
		case p.code != codeNone, p.diverging.Epoch >= 0, p.preferred >= 0, p.offset < f.limitOf(p), !p.touched:
			kept = append(kept, p)
		default:
			p.dirty = false
		}
	}
	clear(s.dirty[len(kept):])
	kept = append(kept, served...)
	s.dirty = kept
	for _, p := range f.touched {
		if p.read != nil && p.read.Bytes == 0 && p.code == codeNone && p.offset > 0 {
			f.read(p, 0, 0, p.offset-1)
		}
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

// observe tells the observer of the topics that the request is about, once of each: partitions of several lie between each other.
func (f *fetchRun) observe(took time.Duration) {
	if f.b.obs.Served != nil && f.bytes > 0 {
		f.b.obs.Served(f.bytes)
	}
	if f.b.obs.FetchAnswered == nil {
		return
	}
	for _, p := range f.touched {
		if t := p.topic; t != nil && f.s.told.first(t) {
			f.b.obs.FetchAnswered(t.Name, took, f.trace.id())
		}
	}
	f.s.told.reset()
}

// distinctTopics tells which topics come for the first time. It allocates nothing as long as all is of one topic.
type distinctTopics struct {
	last *topic
	seen map[*topic]struct{} // those before last; nil as long as there are none
}

func (d *distinctTopics) first(t *topic) bool {
	if t == d.last {
		return false
	}
	if d.last != nil {
		if d.seen == nil {
			d.seen = make(map[*topic]struct{})
		}
		d.seen[d.last] = struct{}{}
	}
	d.last = t
	_, again := d.seen[t]
	return !again
}

// reset forgets all topics, and keeps the memory.
func (d *distinctTopics) reset() {
	d.last = nil
	clear(d.seen)
}
