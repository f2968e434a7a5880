package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// reloadAfter is how old what was loaded of a partition that is followed may get. The tail tells everything but the log
// start, which its leader moves without it.
const reloadAfter = 30 * time.Second

// ReadFollower is Read of a partition that this broker need not lead, as far as it follows it. The offsets it fills in may
// be behind; they never go back. It fails with ErrNotLeader when nothing is followed, or nobody was heard for so long that
// there may be much more; with ErrOffsetOutOfRange, and the offsets filled in, when it does not have the offset, which says
// nothing about whether it exists. With MaxBytes 0 and not MinOne only the offsets are asked for.
func (e *Engine) ReadFollower(ctx context.Context, req ReadRequest, dst *Read) error {
	t := e.term.Load()
	if t == nil || e.cfg.Fleet == nil || !t.fresh() {
		return fmt.Errorf("follow partition %s: %w", req.TP, ErrNotLeader)
	}
	for tries := 0; ; tries++ {
		p, err := t.followed(ctx, req.TP)
		if err != nil {
			return err
		}
		err = e.read(ctx, p, &req, true, dst)
		if !errors.Is(err, errUnloaded) {
			return err
		}
		// Something was folded before it was read here. What was read so far is right.
		if dst.Bytes > 0 {
			return nil
		}
		if tries == 3 {
			return err
		}
	}
}

// followed returns the partition, loaded; for a follower, or for its leader if this broker is.
func (t *term) followed(ctx context.Context, tp catalog.TopicPartition) (*partition, error) {
	for {
		p := t.e.lock(tp)
		led, old := p.mu.term != nil, !p.mu.loaded || time.Since(p.mu.loadedAt) > reloadAfter
		dropped := p.mu.dropped
		p.mu.Unlock()
		switch {
		case dropped:
			return nil, fmt.Errorf("follow partition %s: %w", tp, ErrUnknownPartition)
		case led:
			if err := t.e.load(ctx, p); err != nil {
				return nil, err
			}
			return p, nil
		case !old:
			return p, nil
		}
		if err := t.loadFollowed(ctx, p); err != nil {
			t.e.forget(p)
			return nil, err
		}
		p.mu.Lock()
		loaded := p.mu.loaded
		p.mu.Unlock()
		if loaded {
			return p, nil
		}
	}
}

func (t *term) loadFollowed(ctx context.Context, p *partition) error {
	select {
	case p.loading <- struct{}{}:
		defer func() { <-p.loading }()
	case <-ctx.Done():
		return fmt.Errorf("load partition %s: %w", p.tp, ctx.Err())
	}
	p.mu.Lock()
	done := p.mu.term != nil || p.mu.orphan || p.mu.loaded && time.Since(p.mu.loadedAt) <= reloadAfter
	p.mu.Unlock()
	if done {
		return nil
	}
	return t.bringOne(ctx, &bringing{p: p})
}
