package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// ErrCatalogLost says that the catalog no longer has what it acknowledged: it was put back to an earlier state, or failed
// over to a standby that was behind. To go on would give offsets out again that clients were told of, and have the sweep
// take what they wrote for orphans.
var ErrCatalogLost = errors.New("the catalog has lost what it acknowledged: it was restored to an earlier time, or failed over " +
	"to a standby that was behind; stop all brokers, bring back the later catalog or run `streamhouse restore`, and start again")

// Stopped tells, once, when the engine has stopped for good because it must not go on: [ErrCatalogLost] or
// [ErrForeignStore]. The process should end. Close is still to be called.
func (e *Engine) Stopped() <-chan error { return e.lost }

// fatal are the errors after which no term may begin.
func fatal(err error) bool { return errors.Is(err, ErrCatalogLost) || errors.Is(err, ErrForeignStore) }

// lose ends the engine for good.
func (e *Engine) lose(ctx context.Context, err error) {
	e.stopped.Store(&err)
	if sealErr := e.seal(ctx); sealErr != nil && errors.Is(err, ErrCatalogLost) {
		e.cfg.Logger.Warn("cannot note in the store that the catalog is an earlier one", "error", sealErr)
	}
	e.cfg.Logger.Error("this broker stops", "error", err)
	e.lost <- err
	close(e.lost)
}

// seal notes a broker epoch in the store that the catalog has not given out, so that no broker starts on it, one without
// memory in particular, which would find nothing missing and sweep the rest. `streamhouse restore` gets past it: it moves
// the epochs further.
func (e *Engine) seal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loserTimeout)
	defer cancel()
	id, err := e.cfg.Catalog.ClusterID(ctx)
	if err != nil {
		return fmt.Errorf("read the cluster id: %w", err)
	}
	key := fmt.Sprintf("%s%s/%012d", markerPrefix, id, e.newest.Load()+1)
	if err := e.cfg.Store.Put(ctx, key, noteBody()); err != nil && !errors.Is(err, objstore.ErrExists) {
		return fmt.Errorf("note a later broker epoch in the store: %w", err)
	}
	return nil
}

// sawEpoch remembers the largest broker epoch that the catalog gave out.
func (e *Engine) sawEpoch(epoch catalog.BrokerEpoch) {
	for {
		old := e.newest.Load()
		if int64(epoch) <= old || e.newest.CompareAndSwap(old, int64(epoch)) {
			return
		}
	}
}

// behind tells whether positions lack commits of an epoch that were known before they were asked for.
func behind(tails []catalog.BrokerTail, epoch catalog.BrokerEpoch, known catalog.Sequence) error {
	for i := range tails {
		if tails[i].Epoch == epoch && tails[i].Last < known {
			return fmt.Errorf("%w (broker epoch %d is at sequence %d, and was at %d)", ErrCatalogLost, epoch, tails[i].Last, known)
		}
	}
	return nil
}

// whyEnded looks, after the catalog refused this term, whether it is still the catalog that acknowledged the term's commits.
// Registering anew without asking is what must not happen: the new epoch would lead from where the log was at the time of
// the backup.
func (t *term) whyEnded(ctx context.Context, err error) error {
	if !errors.Is(err, catalog.ErrSequence) && !errors.Is(err, catalog.ErrFenced) {
		return err
	}
	known := catalog.Sequence(t.told.Load())
	wait := backoff{}
	for {
		tails, readErr := t.e.cfg.Catalog.BrokerTails(ctx)
		if readErr == nil {
			if lost := behind(tails, t.epoch, known); lost != nil {
				return lost
			}
			return err
		}
		if errors.Is(readErr, catalog.ErrClosed) || !wait.sleep(ctx) {
			return err
		}
	}
}

// errShown: a row was followed that is not there any more, and perhaps was never acknowledged.
var errShown = errors.New("a commit that was seen is not there: if it was never acknowledged, its broker makes it again")

// checkFollowed does it for an epoch that is followed: a broker that is idle has lost nothing itself, but would fence those
// that have, and sweep.
//
// What was only seen may be gone without loss: (1) a commit waits for the synchronous standby, (2) the database dies and ends
// the wait, so that the row shows, (3) this broker follows it, (4) the standby, which never got it, is promoted. Its broker,
// which was not answered, makes the same commit again; until then it is waited for. If that broker is fenced first, nobody
// can tell any more whether it had been answered, and the answer must be that it was.
func (t *term) checkFollowed(ctx context.Context, c *cursor, bt *catalog.BrokerTail, asked time.Time) error {
	if !asked.After(c.readAt) {
		return nil // the positions are older than what was read
	}
	tails := []catalog.BrokerTail{*bt}
	if lost := behind(tails, bt.Epoch, c.vouched); lost != nil || bt.Last >= c.after {
		return lost
	}
	brokers, err := t.e.cfg.Catalog.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	for i := range brokers {
		if b := &brokers[i]; b.Epoch == bt.Epoch && (!b.Fenced || b.LastSequence >= c.after) {
			return fmt.Errorf("%w (broker epoch %d is at sequence %d, and was at %d)", errShown, b.Epoch, bt.Last, c.after)
		}
	}
	return behind(tails, bt.Epoch, c.after)
}

// undone ends a term that saw a fold or a hot merge that is not there any more: see checkFollowed, of which this is the other
// half. After a fold the rows are the tail again, and memory has forgotten them: a partition taken over now would begin below
// what was acknowledged. After a merge memory names an object that the manifest does not. The next term loads what is true.
func (t *term) undone(bt *catalog.BrokerTail, c *cursor) error {
	err := fmt.Errorf("a fold or merge that was seen is not there any more (broker epoch %d: folded up to sequence %d, was to %d; %d merges, were %d)",
		bt.Epoch, bt.Folded, c.folded, bt.Merges, c.merges)
	t.fail(err)
	return err
}
