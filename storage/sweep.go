package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

const (
	// sweepBatches bounds how many batches of retired objects one sweep deletes, sweepList how many keys it looks at
	// for orphans, purgeRows how many packed rows of a deleted topic one step removes.
	sweepBatches = 4
	sweepList    = 4096
	purgeRows    = 1024
)

// sweep deletes the files of retired objects whose grace has passed, then looks for orphans.
func (t *term) sweep(ctx context.Context) error {
	cat, store := t.e.cfg.Catalog, t.e.cfg.Store
	batches, err := cat.ListRetired(ctx, t.e.cfg.ObjectGrace, sweepBatches)
	if err != nil {
		return fmt.Errorf("list retired objects: %w", err)
	}
	for _, b := range batches {
		if err := store.Delete(ctx, b.Keys); err != nil {
			return fmt.Errorf("delete retired objects: %w", err)
		}
		if err := cat.ForgetRetired(ctx, []int64{b.ID}); err != nil {
			return fmt.Errorf("forget retired objects: %w", err)
		}
	}
	return t.sweepOrphans(ctx)
}

// sweepOrphans deletes objects of fenced broker epochs that no manifest row names. An epoch counts as fenced only if
// the catalog lists it so or is past it: this broker's own epoch and all unfenced ones are left alone. Nothing is
// deleted after an error or on a partial answer. It goes through the store once per process life, then stops: what is left
// behind later belongs to live epochs.
func (t *term) sweepOrphans(ctx context.Context) error {
	s := &t.e.orphans
	if s.done {
		return nil
	}
	cat := t.e.cfg.Catalog
	infos, more, err := t.e.cfg.Store.List(ctx, "", s.after, sweepList)
	if err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	// The list of unfenced brokers is read after the objects were listed: an epoch that registered in between has
	// objects that this list does not hold, or is on the list of brokers.
	brokers, err := cat.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	live := map[catalog.BrokerEpoch]bool{t.epoch: true}
	for i := range brokers {
		if !brokers[i].Fenced {
			live[brokers[i].Epoch] = true
		}
	}
	var candidates []string
	for _, info := range infos {
		k, err := segment.ParseKey(info.Key)
		if err == nil && k.Epoch < t.epoch && !live[k.Epoch] { // not ours to judge otherwise
			candidates = append(candidates, info.Key)
		}
	}
	if len(candidates) > 0 {
		known, err := cat.KnownObjects(ctx, candidates)
		if err != nil {
			return fmt.Errorf("ask for known objects: %w", err)
		}
		var orphans []string
		for _, key := range candidates {
			if !known[key] {
				orphans = append(orphans, key)
			}
		}
		if len(orphans) > 0 {
			if err := t.e.cfg.Store.Delete(ctx, orphans); err != nil {
				return fmt.Errorf("delete orphans: %w", err)
			}
			t.e.cfg.Logger.Info("deleted objects that an earlier process left uncommitted", "objects", len(orphans))
		}
	}
	if len(infos) > 0 {
		s.after = infos[len(infos)-1].Key
	}
	s.done = !more
	return nil
}

// orphanSweep is how far the search for orphans has come.
type orphanSweep struct {
	after string
	done  bool
}

// deleteLosers deletes upload attempts whose sequence was committed under another key. A failure leaves them to the
// orphan sweep of a later process.
func (e *Engine) deleteLosers(ctx context.Context, keys []string) {
	e.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loserTimeout)
		defer cancel()
		if err := e.cfg.Store.Delete(ctx, keys); err != nil {
			e.cfg.Logger.Warn("cannot delete superseded upload attempts", "objects", len(keys), "error", err)
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
	for _, id := range ids {
		if err := t.purgeTopic(ctx, id); err != nil {
			return fmt.Errorf("purge topic %s: %w", id, err)
		}
	}
	return nil
}

func (t *term) purgeTopic(ctx context.Context, id catalog.TopicID) error {
	cat := t.e.cfg.Catalog
	tps, err := cat.PackedPartitions(ctx, id)
	if err != nil {
		return err
	}
	e := catalog.Edit{}
	deltas := make(map[catalog.ObjectID]catalog.RefDelta)
	for _, tp := range tps {
		rows, err := cat.PackedRows(ctx, tp, 0, purgeRows)
		if err != nil {
			return err
		}
		for _, r := range rows {
			xs, err := segment.DecodePacked(r.Extents)
			if err != nil {
				return fmt.Errorf("decode a packed row: %w", err)
			}
			e.Replaces = append(e.Replaces, catalog.RowRef{TopicPartition: tp, Base: r.Base, Version: r.Version})
			for _, x := range xs {
				d := deltas[x.Object]
				deltas[x.Object] = catalog.RefDelta{Object: x.Object, Refs: d.Refs - 1, Live: d.Live - x.Len}
			}
		}
		if len(e.Replaces) >= purgeRows {
			break
		}
	}
	for _, d := range deltas {
		e.Deltas = append(e.Deltas, d)
	}
	if len(tps) == 0 {
		e.Purge = []catalog.TopicID{id}
	}
	err = cat.Edit(ctx, t.epoch, e)
	if errors.Is(err, catalog.ErrConflict) && len(tps) > 0 {
		return nil // a repeat whose first answer was lost, or a merge came first: looked at again next time
	}
	return err
}
