package broker

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage"
)

// Reading near the client (KIP-392): see 01_fetch.go.

const (
	// redirectEvery is the least time between two answers that send a client of one connection to another replica of the
	// same partition. Who is back before was not served there, and is served here. (A Java consumer that is content comes
	// back after metadata.max.age.ms, 5 minutes.)
	redirectEvery = 30 * time.Second
	// maxRedirects bounds the partitions remembered per connection (about 50 bytes each). Beyond it clients stay.
	maxRedirects = 4096
)

// redirects is what a connection remembers of where it sent its client. It belongs to the connection's writer.
type redirects struct {
	at    map[catalog.TopicPartition]time.Time
	swept time.Time
}

// allow tells whether the client may be sent away from a partition now, and notes that it is.
func (r *redirects) allow(tp catalog.TopicPartition, now time.Time) bool {
	if at, ok := r.at[tp]; ok && now.Sub(at) < redirectEvery {
		return false
	}
	if len(r.at) >= maxRedirects && now.Sub(r.swept) >= time.Second {
		r.swept = now
		for k, at := range r.at {
			if now.Sub(at) >= redirectEvery {
				delete(r.at, k)
			}
		}
	}
	if len(r.at) >= maxRedirects {
		return false
	}
	if r.at == nil {
		r.at = map[catalog.TopicPartition]time.Time{}
	}
	r.at[tp] = now
	return true
}

// findNear finds out whether the client could read nearer than here: it is in a rack of another broker, and not in this
// one's.
func (f *fetchRun) findNear(req *kmsg.FetchRequest) {
	if !f.b.shares || f.version < followerFetch || req.Rack == "" || req.Rack == f.b.cfg.Rack {
		return
	}
	if fl := f.b.fleet(); slices.Contains(fl.rackNames, req.Rack) {
		f.near, f.rack = fl.placer(), req.Rack
	}
}

// redirect tells the client to read a partition that this broker leads from a replica in the client's rack, if there is
// one. Every living broker follows the whole log closely, so a replica has any offset that exists, or will in a moment;
// offsets that do not exist are for the leader to refuse.
func (f *fetchRun) redirect(p *sessionPart, tp catalog.TopicPartition) bool {
	to := f.near.inRack(p.topic, tp.Partition, f.b.cfg.NodeID, f.rack)
	if to < 0 {
		return false
	}
	o, err := f.b.cfg.Log.Offsets(f.ctx, tp)
	if err != nil || p.offset < o.LogStart || p.offset > o.HighWatermark || !f.conn.redirects.allow(tp, f.began) {
		return false
	}
	p.high, p.stable, p.start = o.HighWatermark, o.LastStable, o.LogStart
	p.preferred, f.failed = to, true
	return true
}

// outOfReach answers for an offset that this follower does not have. One above its high watermark may exist: the poll
// goes on. One below the log start does not, but only the leader may say so: a client that believes
// OFFSET_OUT_OF_RANGE skips data.
func (f *fetchRun) outOfReach(p *sessionPart, rd *storage.Read) {
	p.high, p.stable, p.start = rd.HighWatermark, rd.LastStable, rd.LogStart
	if p.offset > rd.HighWatermark {
		p.code = codeOffsetNotAvailable
		return
	}
	f.fail(p, codeNotLeaderOrFollower)
}
