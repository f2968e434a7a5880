package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// hotMergeObjects: this many small objects of the tail become one segment.
	hotMergeObjects = 1024
	// hotMergeBytes: or this many bytes in small objects.
	hotMergeBytes = 16 << 20
	// smallObject: log objects below this size are small; larger ones are folded where they lie.
	smallObject = 2 << 20
	// foldRest: rows younger than this stay in the tail, so that readers near the end find them in memory.
	foldRest = 5 * time.Second
	// foldObjects is how many objects one fold moves at least, if there are as many.
	foldObjects = 256
	// slowEvery is how often, and mergeTurn for how long at most, the folded level is looked after at a time.
	slowEvery = 5 * time.Second
	mergeTurn = 5 * time.Second
)

// keep is the engine's housekeeper: hot merges, folds, segment merges, clean-up, one at a time. Each step either is applied
// as a whole by one guarded catalog statement or leaves only orphan objects.
//
// In a fleet every broker looks after its own tail and what lies below the log starts of its partitions, the controller
// after the rest. Two that both believe to be the controller only cost each other conflicts.
func (e *Engine) keep(ctx context.Context) {
	tick := time.NewTicker(e.cfg.MergeInterval)
	defer tick.Stop()
	slow := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-e.nudge:
		}
		e.housekeep(ctx, "tail", func(t *term) error { return t.tidyTail(ctx, false) })
		if time.Since(slow) < slowEvery {
			continue
		}
		slow = time.Now()
		e.mergeAll(ctx)
		e.housekeep(ctx, "trim", func(t *term) error {
			_, err := t.trim(ctx)
			return err
		})
		e.control(ctx, "space", func(t *term) error { // one a turn: space is not urgent
			_, err := t.rewriteSparse(ctx)
			return err
		})
		e.housekeep(ctx, "tail", func(t *term) error { return t.tidyTail(ctx, false) })
		e.housekeep(ctx, "topics", func(t *term) error { return t.dropDeleted(ctx) })
		e.control(ctx, "topics", func(t *term) error { return t.purgeTopics(ctx) })
		e.control(ctx, "sweep", func(t *term) error { return t.sweep(ctx) })
	}
}

// control does a step if this broker is the controller.
func (e *Engine) control(ctx context.Context, what string, step func(*term) error) {
	e.housekeep(ctx, what, func(t *term) error {
		if !t.controls() {
			return nil
		}
		return step(t)
	})
}

// controls tells whether this broker looks after what is nobody's.
func (t *term) controls() bool {
	if t.e.cfg.Fleet == nil {
		return true
	}
	p := t.e.lookup(t.e.cfg.Controller)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.term == t && p.leadsLocked()
}

// mergeAll merges segments until there is nothing to merge or its turn is over, looking after the tail between any two
// merges: what comes after it frees the space that merges take.
func (e *Engine) mergeAll(ctx context.Context) {
	began := time.Now()
	for more := true; more && ctx.Err() == nil && time.Since(began) < mergeTurn; {
		more = false
		e.control(ctx, "merge", func(t *term) (err error) {
			more, err = t.mergeSegments(ctx)
			return err
		})
		e.housekeep(ctx, "tail", func(t *term) error { return t.tidyTail(ctx, false) })
	}
}

func (e *Engine) wakeKeeper() {
	select {
	case e.nudge <- struct{}{}:
	default:
	}
}

// housekeep runs one step of the current term, alone.
func (e *Engine) housekeep(ctx context.Context, what string, step func(*term) error) {
	t := e.term.Load()
	if t == nil {
		return
	}
	select {
	case e.rewrite <- struct{}{}:
		defer func() { <-e.rewrite }()
	case <-ctx.Done():
		return
	}
	switch err := step(t); {
	case err == nil, ctx.Err() != nil:
	case errors.Is(err, catalog.ErrFenced):
		t.fail(fmt.Errorf("housekeeping: %w", err))
	case errors.Is(err, catalog.ErrConflict):
		e.cfg.Logger.Info("housekeeping met a change, will plan again", "step", what, "error", err)
	default:
		if n, log := e.quiet.loud("keep " + what); log {
			e.cfg.Logger.Warn("housekeeping failed, will try again", "step", what, "failures", n, "error", err)
		}
	}
}

// Tidy does at once what the housekeeper does in time: merge and fold the whole tail, merge segments, clean up. For
// tests and for shutting down small.
func (e *Engine) Tidy(ctx context.Context) error {
	t := e.term.Load()
	if t == nil {
		return fmt.Errorf("tidy: %w", ErrNotLeader)
	}
	select {
	case e.rewrite <- struct{}{}:
		defer func() { <-e.rewrite }()
	case <-ctx.Done():
		return ctx.Err()
	}
	errs := []error{t.tidyTail(ctx, true)}
	steps := []func(context.Context) (bool, error){t.trim}
	if t.controls() {
		steps = append(steps, t.mergeSegments, t.rewriteSparse)
	}
	for _, step := range steps {
		for more := true; more; {
			var err error
			more, err = step(ctx)
			errs = append(errs, err)
		}
	}
	errs = append(errs, t.dropDeleted(ctx))
	if t.controls() {
		errs = append(errs, t.purgeTopics(ctx), t.sweep(ctx))
	}
	return errors.Join(errs...)
}

// tidyTail merges and folds what is due, oldest broker epoch first: a partition's offsets must be folded in order.
// After a statement whose outcome is not known it first finds out whether memory still says what the manifest says.
func (t *term) tidyTail(ctx context.Context, all bool) error {
	if t.doubt {
		if err := t.reconcile(ctx); err != nil {
			return err
		}
		t.doubt = false
	}
	for {
		epochs, err := t.tailsToFold(ctx)
		if err != nil {
			return err
		}
		progress, waiting := false, false
		for _, epoch := range epochs {
			var n, due int
			if epoch == t.epoch {
				n, due, err = t.tidyOwn(ctx, all)
			} else {
				objs := t.tailOf(epoch)
				due = len(objs)
				n, err = t.foldInParts(ctx, epoch, objs)
			}
			if err != nil {
				return err
			}
			progress, waiting = progress || n > 0, waiting || n < due
		}
		if !progress || !waiting {
			return nil
		}
		// What one tail gave may be what another waits for.
	}
}

// tailsToFold are the broker epochs whose tails are this broker's to fold, oldest first: its own, and those of the fenced
// if it is the controller.
func (t *term) tailsToFold(ctx context.Context) ([]catalog.BrokerEpoch, error) {
	t.mu.Lock()
	epochs := slices.Sorted(maps.Keys(t.mu.tails))
	t.mu.Unlock()
	if t.e.cfg.Fleet == nil {
		return epochs, nil // all others are fenced
	}
	live := func(epoch catalog.BrokerEpoch) bool { return epoch != t.epoch }
	if others := slices.ContainsFunc(epochs, live); others && t.controls() {
		brokers, err := t.e.cfg.Catalog.ListBrokers(ctx)
		if err != nil {
			return nil, fmt.Errorf("list brokers: %w", err)
		}
		unfenced := make(map[catalog.BrokerEpoch]bool)
		newest := t.epoch
		for i := range brokers {
			newest = max(newest, brokers[i].Epoch)
			if !brokers[i].Fenced && brokers[i].Epoch != t.epoch {
				unfenced[brokers[i].Epoch] = true
			}
		}
		live = func(epoch catalog.BrokerEpoch) bool { return unfenced[epoch] || epoch > newest }
	}
	return slices.DeleteFunc(epochs, live), nil
}

// tidyOwn merges and folds what is due of this broker's own tail. It reports how many objects it folded, of how many.
func (t *term) tidyOwn(ctx context.Context, all bool) (folded, of int, err error) {
	for {
		objs := t.tailOf(t.epoch)
		if len(objs) == 0 {
			return 0, 0, nil
		}
		age := t.e.clock.now().Sub(objs[0].row.CommittedAt)
		due := all || age >= t.e.cfg.FoldInterval || t.pressed()
		merged, unmerged := t.mergeHot(ctx, objs, due)
		if t.doubt {
			return 0, 0, unmerged
		}
		if merged {
			continue // look at the shorter tail
		}
		if !due { // else a fold, which needs no bytes, goes on without
			return 0, 0, unmerged
		}
		n := len(objs)
		if !all {
			n = settled(objs, t.e.clock.now().Add(-foldRest))
		}
		folded, err := t.foldInParts(ctx, t.epoch, objs[:n])
		if err == nil {
			err = unmerged
		}
		return folded, n, err
	}
}

// settled counts the leading objects that were committed by then; at least half of them, since the caller found that a
// bound was reached.
func settled(objs []*tailObject, then time.Time) int {
	n := 0
	for n < len(objs) && !objs[n].row.CommittedAt.After(then) {
		n++
	}
	return max(n, len(objs)/2)
}

// oldestTail returns a copy of the tail of the oldest broker epoch that has one.
func (t *term) oldestTail() (catalog.BrokerEpoch, []*tailObject) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var oldest catalog.BrokerEpoch
	for epoch, objs := range t.mu.tails {
		if len(objs) > 0 && (oldest == 0 || epoch < oldest) {
			oldest = epoch
		}
	}
	return oldest, append([]*tailObject(nil), t.mu.tails[oldest]...)
}

// tailOf returns a copy of the tail of one broker epoch.
func (t *term) tailOf(epoch catalog.BrokerEpoch) []*tailObject {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*tailObject(nil), t.mu.tails[epoch]...)
}

func (t *term) tailSize() (rows int, index int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.rows, t.mu.indexSize
}

// replaceTail swaps a run of the tail in memory, starting with first, for by (nil: for nothing).
func (t *term) replaceTail(old []*tailObject, by *tailObject) {
	epoch := old[0].row.Epoch
	t.mu.Lock()
	defer t.mu.Unlock()
	objs := t.mu.tails[epoch]
	at := 0
	for at < len(objs) && objs[at] != old[0] {
		at++
	}
	if at+len(old) > len(objs) {
		return // the term was reset meanwhile
	}
	kept := append([]*tailObject(nil), objs[:at]...)
	if by != nil {
		kept = append(kept, by)
		t.countLocked(by, 1)
	}
	if kept = append(kept, objs[at+len(old):]...); len(kept) > 0 {
		t.mu.tails[epoch] = kept
	} else {
		delete(t.mu.tails, epoch) // epochs come and go
	}
	for _, o := range old {
		t.countLocked(o, -1)
	}
	t.freeRoomLocked()
}

// reconcile compares the tail in memory with the manifest after a rewrite whose answer was lost and could not be settled at
// once. Where they differ, the term ends: the next one loads what is true.
func (t *term) reconcile(ctx context.Context) error {
	cat := t.e.cfg.Catalog
	tails, err := cat.BrokerTails(ctx)
	if err != nil {
		return fmt.Errorf("settle a rewrite in doubt: %w", err)
	}
	folded := make(map[catalog.BrokerEpoch]catalog.Sequence)
	for _, bt := range tails {
		folded[bt.Epoch] = bt.Folded
	}
	t.mu.Lock()
	memory := make(map[catalog.BrokerEpoch][]*tailObject, len(t.mu.tails))
	for epoch, objs := range t.mu.tails {
		if epoch == t.epoch || t.e.cfg.Fleet == nil { // those of others are followed, and put right, by the feed
			memory[epoch] = append([]*tailObject(nil), objs...)
		}
	}
	t.mu.Unlock()
	for epoch, objs := range memory {
		at, listed := folded[epoch]
		for len(objs) > 0 {
			if !listed {
				return t.disagree(epoch)
			}
			rows, err := cat.ReadTail(ctx, epoch, at, 1000)
			if err != nil {
				return fmt.Errorf("settle a rewrite in doubt: %w", err)
			}
			for _, row := range rows {
				if len(objs) == 0 {
					break // committed since
				}
				if row.Object != objs[0].row.Object || row.First != objs[0].row.First {
					return t.disagree(epoch)
				}
				objs, at = objs[1:], row.Last
			}
			if len(rows) == 0 && len(objs) > 0 {
				return t.disagree(epoch)
			}
		}
	}
	return nil
}

func (t *term) disagree(epoch catalog.BrokerEpoch) error {
	err := fmt.Errorf("the tail of broker epoch %d in memory is not what the manifest names: a rewrite was applied although its answer was lost", epoch)
	t.fail(err)
	return err
}
