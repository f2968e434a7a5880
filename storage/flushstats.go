package storage

import "time"

// FlushStats is what waits to be committed.
type FlushStats struct {
	Queued      int           // log objects that are full and wait for an upload slot
	Uncommitted int           // log objects not committed, the open one included
	Bytes       int64         // appended and not committed
	BytesLimit  int64         // at which Append waits
	Oldest      time.Duration // how long the oldest append among them has been waiting
}

// FlushStats tells what there is now: asked for when somebody wants to know (a scrape). Safe for concurrent use.
func (e *Engine) FlushStats() FlushStats {
	s := FlushStats{BytesLimit: e.cfg.MaxUncommittedBytes}
	t := e.term.Load()
	if t == nil {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Queued, s.Uncommitted, s.Bytes = len(t.mu.full), len(t.mu.inflight), t.mu.uncommitted
	if s.Uncommitted > 0 {
		s.Oldest = time.Since(t.mu.inflight[0].began)
	}
	return s
}
