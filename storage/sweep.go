package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

const (
	// sweepBatches bounds how many batches of retired objects one sweep deletes, sweepList how many keys it looks at
	// for orphans, purgeTopics how many deleted topics one step looks at.
	sweepBatches = 16
	sweepList    = 4096
	purgeTopics  = 64
)

// sweep deletes the files of retired objects whose grace has passed, then looks for orphans.
func (t *term) sweep(ctx context.Context) error {
	cat := t.e.cfg.Catalog
	batches, err := cat.ListRetired(ctx, t.e.cfg.ObjectGrace, sweepBatches)
	if err != nil {
		return fmt.Errorf("list retired objects: %w", err)
	}
	for _, b := range batches {
		if err := t.e.remove(ctx, deleteRetired, b.Keys); err != nil {
			return fmt.Errorf("delete retired objects: %w", err)
		}
		if err := cat.ForgetRetired(ctx, []int64{b.ID}); err != nil {
			return fmt.Errorf("forget retired objects: %w", err)
		}
	}
	return t.sweepOrphans(ctx)
}

// sweepOrphans deletes objects of fenced broker epochs that no manifest row names. An epoch is asked about only if
// the catalog knows it and does not list it as unfenced: this broker's own epoch and all unfenced ones are left alone.
// Nothing is deleted after an error or on a partial answer. It goes through the store once, and once more whenever a broker
// that lived then is fenced: what is left behind otherwise belongs to live epochs.
func (t *term) sweepOrphans(ctx context.Context) error {
	s := &t.e.orphans
	if s.done && t.e.cfg.Fleet == nil {
		return nil
	}
	cat := t.e.cfg.Catalog
	var infos []objstore.Info
	more := false
	if !s.done {
		var err error
		if infos, more, err = t.e.cfg.Store.List(ctx, "", s.after, sweepList); err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
	}
	// The list of unfenced brokers is read after the objects were listed: an epoch that registered in between has
	// objects that this list does not hold, or is on the list of brokers.
	brokers, err := cat.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	live := map[catalog.BrokerEpoch]bool{t.epoch: true}
	newest := t.epoch
	for i := range brokers {
		newest = max(newest, brokers[i].Epoch)
		if !brokers[i].Fenced {
			live[brokers[i].Epoch] = true
		}
	}
	if s.done {
		for epoch := range s.live {
			if !live[epoch] {
				*s = orphanSweep{}
				break
			}
		}
		return nil
	}
	if s.after == "" {
		s.live = live
	}
	candidates := make(map[string]catalog.BrokerEpoch)
	for _, info := range infos {
		k, err := segment.ParseKey(info.Key)
		if err == nil && k.Epoch <= newest && !live[k.Epoch] { // not ours to judge otherwise
			candidates[info.Key] = k.Epoch
		}
	}
	orphans, err := t.unnamed(ctx, candidates)
	if err != nil {
		return err
	}
	if len(orphans) > 0 {
		if hook := t.e.cfg.Hooks.Orphans; hook != nil {
			hook(len(orphans))
		}
		if err := t.e.remove(ctx, deleteOrphan, orphans); err != nil {
			return fmt.Errorf("delete orphans: %w", err)
		}
		t.e.cfg.Logger.Info("deleted objects that an earlier process left uncommitted", "objects", len(orphans))
	}
	if len(infos) > 0 {
		s.after = infos[len(infos)-1].Key
	}
	s.done = !more
	return nil
}

// unnamed returns those of the keys, each of which is given with its broker epoch, that the manifest does not name and never
// will.
//
// That an epoch is fenced was only seen so far, and perhaps on a server that was lost since: the one promoted in its place
// never got the fence, and what was asked next would be asked of that one, with the broker about to commit to it. So the epochs
// of keys that nobody names are fenced, which is no more than to say it again, and holds on every server to come. Then it is
// asked once more what is named. An epoch that turns out to live keeps its objects.
func (t *term) unnamed(ctx context.Context, keys map[string]catalog.BrokerEpoch) ([]string, error) {
	left, err := t.unknown(ctx, slices.Sorted(maps.Keys(keys)))
	if err != nil || len(left) == 0 {
		return nil, err
	}
	fenced := make(map[catalog.BrokerEpoch]bool)
	for _, key := range left {
		epoch := keys[key]
		if _, asked := fenced[epoch]; asked {
			continue
		}
		err := t.e.cfg.Catalog.FenceBroker(ctx, epoch, catalog.FenceExpired)
		fenced[epoch] = err == nil
		switch {
		case errors.Is(err, catalog.ErrNotExpired), errors.Is(err, catalog.ErrUnknownBroker):
			t.e.orphans.live[epoch] = true // once it is fenced they are looked for again
		case err != nil:
			return nil, fmt.Errorf("make sure that broker epoch %d is fenced: %w", epoch, err)
		}
	}
	left = slices.DeleteFunc(left, func(key string) bool { return !fenced[keys[key]] })
	return t.unknown(ctx, left)
}

// unknown returns those of the keys that the catalog does not name.
func (t *term) unknown(ctx context.Context, keys []string) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	known, err := t.e.cfg.Catalog.KnownObjects(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("ask for known objects: %w", err)
	}
	return slices.DeleteFunc(keys, func(key string) bool { return known[key] }), nil
}

// Why objects are deleted, for Hooks.Deleted.
const (
	deleteOrphan     = "orphan"
	deleteRetired    = "retired"
	deleteSuperseded = "superseded"
)

// remove deletes objects from the store and tells the hook.
func (e *Engine) remove(ctx context.Context, kind string, keys []string) error {
	err := e.cfg.Store.Delete(ctx, keys)
	if hook := e.cfg.Hooks.Deleted; hook != nil {
		hook(kind, len(keys), err)
	}
	return err
}

// orphanSweep is how far the search for orphans has come.
type orphanSweep struct {
	after string
	done  bool
	live  map[catalog.BrokerEpoch]bool // unfenced when it began
}

// deleteLosers deletes upload attempts whose sequence was committed under another key. A failure leaves them to the
// orphan sweep of a later process.
func (e *Engine) deleteLosers(ctx context.Context, keys []string) {
	e.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loserTimeout)
		defer cancel()
		if err := e.remove(ctx, deleteSuperseded, keys); err != nil {
			if n, log := e.quiet.loud("losers"); log {
				e.cfg.Logger.Warn("cannot delete superseded upload attempts", "objects", len(keys), "failures", n, "error", err)
			}
		}
	})
}

// purgeTopics drops the packed rows of deleted topics, some at a time, and then the topics.
func (t *term) purgeTopics(ctx context.Context) error {
	cat := t.e.cfg.Catalog
	ids, err := cat.DeletedTopics(ctx)
	if err != nil {
		return fmt.Errorf("list deleted topics: %w", err)
	}
	var errs []error
	for _, id := range ids[:min(len(ids), purgeTopics)] {
		if err := t.purgeTopic(ctx, id); err != nil { // one that cannot be purged does not keep the others
			errs = append(errs, fmt.Errorf("purge topic %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

func (t *term) purgeTopic(ctx context.Context, id catalog.TopicID) error {
	cat := t.e.cfg.Catalog
	tps, err := cat.PackedPartitions(ctx, id)
	if err != nil {
		return err
	}
	if len(tps) == 0 {
		return cat.Edit(ctx, t.epoch, catalog.Edit{Purge: []catalog.TopicID{id}})
	}
	slices.SortFunc(tps, catalog.TopicPartition.Compare)
	spans := make([]catalog.Span, len(tps))
	for i, tp := range tps {
		spans[i] = catalog.Span{TopicPartition: tp, To: math.MaxInt64}
	}
	c := clipping{t: t}
	err = eachPacked(ctx, cat, spans, func(r *catalog.PackedRow) error { return c.add(ctx, r, math.MaxInt64) })
	if err == nil || errors.Is(err, errEnough) {
		err = c.apply(ctx)
	}
	if errors.Is(err, catalog.ErrConflict) {
		return nil // a repeat whose first answer was lost, or a merge came first: looked at again next time
	}
	return err
}
