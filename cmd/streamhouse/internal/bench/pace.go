package bench

import (
	"context"
	"time"
)

// paceInterval is how often a paced producer wakes: short enough that what is due at once is not a burst that the
// latency shows, long enough to cost little.
const paceInterval = time.Millisecond

// pacer says how many records are due. It is for one goroutine.
type pacer struct {
	perSecond float64 // 0: no limit
	start     time.Time
	interval  time.Duration
	timer     *time.Timer
}

func newPacer(perSecond float64, start time.Time) *pacer {
	p := &pacer{perSecond: perSecond, start: start, interval: paceInterval}
	if perSecond > 0 {
		if each := time.Duration(float64(time.Second) / perSecond); each > p.interval {
			p.interval = each
		}
	}
	return p
}

// due returns how many records should have been sent by now.
func (p *pacer) due(now time.Time) int64 {
	// The first record is due at the start.
	return int64(p.perSecond*now.Sub(p.start).Seconds()) + 1
}

// at returns when record number n, counted from 0, is due.
func (p *pacer) at(n int64) time.Time {
	return p.start.Add(time.Duration(float64(n) / p.perSecond * float64(time.Second)))
}

// stamp returns the time from which record n, sent now, counts: now, or when it was due if that is more than an
// interval ago.
func (p *pacer) stamp(n int64, now time.Time) time.Time {
	if p.perSecond == 0 {
		return now
	}
	if due := p.at(n); now.Sub(due) > p.interval {
		return due
	}
	return now
}

// wait sleeps until record n is due, and returns how many are due then. Without a rate it does not wait.
func (p *pacer) wait(ctx context.Context, n int64) (due int64, err error) {
	if p.perSecond == 0 {
		return n + chunkRecords, ctx.Err()
	}
	for {
		now := time.Now()
		if due := p.due(now); due > n {
			return due, ctx.Err()
		}
		d := max(p.at(n).Sub(now), paceInterval)
		if p.timer == nil {
			p.timer = time.NewTimer(d)
		} else {
			p.timer.Reset(d)
		}
		select {
		case <-p.timer.C:
		case <-ctx.Done():
			p.timer.Stop()
			return 0, ctx.Err()
		}
	}
}
