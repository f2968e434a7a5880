package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// markerPrefix is where a cluster writes its name into its store: cluster/CLUSTER-ID/BROKER-EPOCH, one empty-handed
// object for each broker epoch that lives. Without it, a catalog that was made anew or restored from a backup would take
// the store's objects for orphans and sweep them away.
const markerPrefix = segment.MarkerPrefix

// ErrForeignStore says that the object store belongs to another cluster, or to a later state of this one's catalog.
var ErrForeignStore = errors.New("object store does not belong to this catalog")

// errOlderCatalog says what a store's note of a later broker epoch means.
func errOlderCatalog(noted catalog.BrokerEpoch) error {
	return fmt.Errorf("%w: it has seen broker epoch %d, which the catalog never gave out: the catalog was restored from a backup, and what was written since would be lost; if that is meant, move it forward with `streamhouse restore` and start again", ErrForeignStore, noted)
}

// foresee refuses a catalog that never gave out the broker epochs noted in the store, before one is taken from it: each
// start that is refused only afterwards takes an epoch, until the restored catalog has caught up and its next one looks
// like a successor.
func (e *Engine) foresee(ctx context.Context) error {
	id, err := e.cfg.Catalog.ClusterID(ctx)
	if err != nil {
		return fmt.Errorf("read the cluster id: %w", err)
	}
	infos, _, err := e.cfg.Store.List(ctx, markerPrefix, "", objstore.MaxList)
	if err != nil {
		return fmt.Errorf("look for the store's cluster: %w", err)
	}
	latest := catalog.BrokerEpoch(0)
	for _, info := range infos {
		cluster, epoch, err := parseMarker(info.Key)
		if err != nil {
			return err
		}
		if cluster == id { // claim tells what another one's means
			latest = max(latest, epoch)
		}
	}
	if latest == 0 {
		return nil
	}
	// Nothing else tells a broker that is dead and forgotten from one that never was. One that has expired may be fenced
	// by anybody at any time.
	err = e.cfg.Catalog.FenceBroker(ctx, latest, catalog.FenceExpired)
	switch {
	case errors.Is(err, catalog.ErrUnknownBroker):
		return errOlderCatalog(latest)
	case err != nil && !errors.Is(err, catalog.ErrNotExpired):
		return fmt.Errorf("ask for the broker epoch that the store knows: %w", err)
	}
	return nil
}

// claim checks that the store belongs to this catalog, and notes the broker epoch in it.
func (e *Engine) claim(ctx context.Context, own catalog.BrokerEpoch) error {
	id, err := e.cfg.Catalog.ClusterID(ctx)
	if err != nil {
		return fmt.Errorf("read the cluster id: %w", err)
	}
	infos, _, err := e.cfg.Store.List(ctx, markerPrefix, "", objstore.MaxList)
	if err != nil {
		return fmt.Errorf("look for the store's cluster: %w", err)
	}
	brokers, err := e.cfg.Catalog.ListBrokers(ctx) // after the list: a marker's epoch was registered before it was written
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	latest, live := own, make(map[catalog.BrokerEpoch]bool)
	for i := range brokers {
		latest = max(latest, brokers[i].Epoch)
		live[brokers[i].Epoch] = !brokers[i].Fenced && !e.cfg.PredecessorsDead
	}
	var older []string
	for _, info := range infos {
		cluster, epoch, err := parseMarker(info.Key)
		switch {
		case err != nil:
			return err
		case cluster != id:
			return fmt.Errorf("%w: it holds the log of cluster %s, the catalog is that of cluster %s; give each catalog a store of its own, or bring back the catalog this store belongs to", ErrForeignStore, cluster, id)
		case epoch > latest, epoch == own: // nobody else was given ours by this catalog, and we have not noted it yet
			return errOlderCatalog(epoch)
		case epoch < own && !live[epoch]: // those that live ask the store for their notes
			older = append(older, info.Key)
		}
	}
	if err := e.cfg.Store.Put(ctx, markerKey(id, own), noteBody()); err != nil && !errors.Is(err, objstore.ErrExists) {
		return fmt.Errorf("note the cluster in the store: %w", err)
	}
	if len(older) > 0 {
		if err := e.cfg.Store.Delete(ctx, older); err != nil {
			return fmt.Errorf("remove the notes of earlier broker epochs: %w", err)
		}
	}
	e.store.marker.Store(new(markerKey(id, own)))
	e.store.seen()
	return nil
}

func markerKey(cluster string, epoch catalog.BrokerEpoch) string {
	return fmt.Sprintf("%s%s/%012d", markerPrefix, cluster, epoch)
}

func noteBody() objstore.Body { return objstore.NewBody([]byte("StreamHouse\n")) }

func parseMarker(key string) (cluster string, epoch catalog.BrokerEpoch, err error) {
	cluster, number, ok := strings.Cut(strings.TrimPrefix(key, markerPrefix), "/")
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil {
		return "", 0, fmt.Errorf("%w: %s is not a cluster's note", ErrForeignStore, key)
	}
	return cluster, catalog.BrokerEpoch(n), nil
}
