package faulty

import (
	"context"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// ReadGroups implements [catalog.Catalog].
func (c *Catalog) ReadGroups(ctx context.Context, shard int32, after string, limit int) ([]catalog.GroupRecord, error) {
	return answer(ctx, c, OpReadGroups, func() ([]catalog.GroupRecord, error) { return c.inner.ReadGroups(ctx, shard, after, limit) })
}

// ReadGroup implements [catalog.Catalog].
func (c *Catalog) ReadGroup(ctx context.Context, id string) (catalog.GroupRecord, error) {
	return answer(ctx, c, OpReadGroup, func() (catalog.GroupRecord, error) { return c.inner.ReadGroup(ctx, id) })
}

// WriteGroups implements [catalog.Catalog].
func (c *Catalog) WriteGroups(ctx context.Context, w catalog.GroupWrite) (time.Time, error) {
	return answer(ctx, c, OpWriteGroups, func() (time.Time, error) { return c.inner.WriteGroups(ctx, w) })
}
