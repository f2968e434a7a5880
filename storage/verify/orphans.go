package verify

import (
	"context"
	"fmt"
	"strings"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// checkOrphans lists the store.
func (c *checker) checkOrphans(ctx context.Context) error {
	c.begin(PhaseOrphans, 0)
	return eachStored(ctx, c.cat, c.store, func(info objstore.Info, is stored) {
		switch is {
		case storedForeign:
			c.res.Foreign.add(info.Size)
		case storedOrphan:
			c.res.Orphans.add(info.Size)
			if len(c.res.OrphanKeys) < c.opts.MaxOrphans {
				c.res.OrphanKeys = append(c.res.OrphanKeys, info.Key)
			}
		case storedNamed:
			if c.retired[info.Key] {
				c.res.Retired.add(info.Size)
			}
		}
		c.step(1)
	})
}

// stored is what an object in the store is.
type stored int

const (
	storedNamed   stored = iota // by the tail, the folded level, or as retired
	storedOrphan                // a key of ours that the catalog does not name
	storedForeign               // no key of ours
)

// eachStored goes over the objects in the store, by key.
func eachStored(ctx context.Context, cat catalog.Manifest, store objstore.Store, each func(objstore.Info, stored)) error {
	for after := ""; ; {
		infos, more, err := store.List(ctx, "", after, objstore.MaxList)
		if err != nil {
			return fmt.Errorf("list objects: %w", err)
		}
		keys := make([]string, len(infos))
		for i := range infos {
			keys[i] = infos[i].Key
		}
		var known map[string]bool
		if len(keys) > 0 {
			if known, err = cat.KnownObjects(ctx, keys); err != nil {
				return fmt.Errorf("ask for known objects: %w", err)
			}
		}
		for _, info := range infos {
			after = info.Key
			if strings.HasPrefix(info.Key, segment.MarkerPrefix) {
				continue // the cluster's own note
			}
			is := storedNamed
			if !known[info.Key] {
				is = storedOrphan
				if _, err := segment.ParseKey(info.Key); err != nil {
					is = storedForeign
				}
			}
			each(info, is)
		}
		if !more || len(infos) == 0 {
			return nil
		}
	}
}
