package verify

import (
	"context"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// checkOrphans lists the store.
func (c *checker) checkOrphans(ctx context.Context) error {
	c.begin(PhaseOrphans, 0)
	return eachStored(ctx, c.cat, c.store, func(info objstore.Info, known bool) {
		switch {
		case !known:
			c.res.Orphans.add(info.Size)
			if len(c.res.OrphanKeys) < c.opts.MaxOrphans {
				c.res.OrphanKeys = append(c.res.OrphanKeys, info.Key)
			}
		case c.retired[info.Key]:
			c.res.Retired.add(info.Size)
		}
		c.step(1)
	})
}

// eachStored goes over the objects in the store, by key, and tells whether the catalog names them.
func eachStored(ctx context.Context, cat catalog.Manifest, store objstore.Store, each func(info objstore.Info, known bool)) error {
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
			each(info, known[info.Key])
			after = info.Key
		}
		if !more || len(infos) == 0 {
			return nil
		}
	}
}
