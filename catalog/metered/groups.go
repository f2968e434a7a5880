package metered

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// ReadGroups implements [catalog.Catalog].
func (c *Catalog) ReadGroups(ctx context.Context, shard int32, after string, limit int) (groups []catalog.GroupRecord, err error) {
	err = c.measure(OpReadGroups, func() (err error) {
		groups, err = c.inner.ReadGroups(ctx, shard, after, limit)
		return err
	})
	return groups, err
}

// ReadGroup implements [catalog.Catalog].
func (c *Catalog) ReadGroup(ctx context.Context, id string) (group catalog.GroupRecord, err error) {
	err = c.measure(OpReadGroup, func() (err error) {
		group, err = c.inner.ReadGroup(ctx, id)
		return err
	})
	return group, err
}

// WriteGroups implements [catalog.Catalog].
func (c *Catalog) WriteGroups(ctx context.Context, w catalog.GroupWrite) (at time.Time, err error) {
	err = c.measure(OpWriteGroups, func() (err error) {
		at, err = c.inner.WriteGroups(ctx, w)
		return err
	})
	return at, err
}
