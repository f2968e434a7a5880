package storage

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// announceSpacing is the least time between two announcements: others read all that was committed in it at once.
	announceSpacing = 2 * time.Millisecond
	// announceTimeout bounds one: the next says more.
	announceTimeout = time.Second
)

// committed notes that sequences up to last are committed. It costs the committer a store and a send that does not block.
func (t *term) committed(last catalog.Sequence) {
	t.told.Store(int64(last))
	if t.e.cfg.Fleet == nil {
		return
	}
	select {
	case t.tell <- struct{}{}:
	default:
	}
}

// announce tells the other brokers of commits: one announcement at a time, of the latest. What is lost is told by the
// next, or by their heartbeats.
func (t *term) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.tell:
		}
		call, cancel := context.WithTimeout(ctx, announceTimeout)
		err := t.e.cfg.Fleet.Announce(call, catalog.Announcement{From: t.epoch, Last: catalog.Sequence(t.told.Load())})
		cancel()
		if err != nil && ctx.Err() == nil {
			if n, log := t.e.quiet.loud("announce"); log {
				t.e.cfg.Logger.Info("cannot wake the other brokers", "failures", n, "error", err)
			}
		}
		pause := time.NewTimer(announceSpacing)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}
