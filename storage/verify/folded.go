package verify

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/segment"
)

const (
	// chunkExtents is how many footer extents are gathered before the packed rows are walked: about 20 MiB.
	chunkExtents = 256 << 10
	// rowPage is how many packed rows are read at a time.
	rowPage = 64
)

// chunk is some folded objects, and what the packed rows turn out to say of them.
type chunk struct {
	objects map[catalog.ObjectID]*chunkObject
	extents atomic.Int64
}

type chunkObject struct {
	catalog.Object

	extents    []segment.FooterExtent
	ok         bool // extents can be relied on
	refs, live int64
	wrong      int // extents of packed rows that are not in it
}

// maxWrongExtents is how many extents are reported per object.
const maxWrongExtents = 8

// checkFolded checks the folded objects, and the packed rows against them, chunk by chunk.
func (c *checker) checkFolded(ctx context.Context) error {
	k := &chunk{objects: make(map[catalog.ObjectID]*chunkObject)}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opts.Parallel)
	flush := func() error {
		err := g.Wait()
		if err == nil {
			err = c.walk(ctx, k)
		}
		k = &chunk{objects: make(map[catalog.ObjectID]*chunkObject)}
		g, gctx = errgroup.WithContext(ctx)
		g.SetLimit(c.opts.Parallel)
		return err
	}
	err := eachFolded(ctx, c.cat, func(obj *catalog.Object) error {
		if k.extents.Load() >= c.limit {
			if err := flush(); err != nil {
				return err
			}
		}
		if gctx.Err() != nil {
			return errors.Join(g.Wait(), ctx.Err())
		}
		if c.ids[obj.ID] {
			c.object(Tail, obj.Key, "object id %d is in the tail and folded", obj.ID)
		}
		o := &chunkObject{Object: *obj}
		k.objects[o.ID] = o
		k.extents.Add(1) // objects that cannot be read take room too
		into, workCtx := k, gctx
		g.Go(func() (err error) {
			o.extents, o.ok, err = c.checkObject(workCtx, named{o.Key, o.Size, o.Checksum}, nil)
			into.extents.Add(int64(len(o.extents)))
			return err
		})
		return nil
	})
	if err != nil {
		_ = g.Wait() // err came first
		return err
	}
	return flush()
}

// walk goes over all packed rows and compares what refers to the chunk's objects.
func (c *checker) walk(ctx context.Context, k *chunk) error {
	if len(k.objects) == 0 {
		return nil
	}
	ids := append([]catalog.TopicID(nil), c.deleted...)
	for i := range c.topics {
		ids = append(ids, c.topics[i].ID)
	}
	for _, id := range ids {
		tps, err := c.cat.PackedPartitions(ctx, id)
		if err != nil {
			return fmt.Errorf("list packed partitions of topic %s: %w", id, err)
		}
		for _, tp := range tps {
			err := eachPackedRow(ctx, c.cat, tp, func(row *catalog.PackedRow) error {
				xs, err := segment.DecodePacked(row.Extents)
				if err != nil {
					return nil //nolint:nilerr // noted when its partition is checked
				}
				for i := range xs {
					if o := k.objects[xs[i].Object]; o != nil {
						o.refs++
						o.live += xs[i].Len
						if err := c.checkExtent(ctx, o, tp, &xs[i]); err != nil {
							return err
						}
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	for _, o := range k.objects {
		if o.refs != o.Refs || o.live != o.Live {
			c.object(References, o.Key, "packed rows refer to it %d times, %d bytes; the catalog says %d times, %d bytes", o.refs, o.live, o.Refs, o.Live)
		} else if o.refs == 0 {
			c.object(References, o.Key, "nothing refers to it, so it should be retired")
		}
	}
	return nil
}

// eachPackedRow goes over the packed rows of a partition, by base offset.
func eachPackedRow(ctx context.Context, cat catalog.Catalog, tp catalog.TopicPartition, each func(*catalog.PackedRow) error) error {
	for from := int64(-1); ; {
		rows, err := cat.PackedRows(ctx, tp, from, rowPage)
		if err != nil {
			return fmt.Errorf("read packed rows of %s: %w", tp, err)
		}
		last := from
		for i := range rows {
			if err := each(&rows[i]); err != nil {
				return err
			}
			last = max(last, rows[i].End)
		}
		if len(rows) < rowPage || last == from {
			return nil
		}
		from = last
	}
}

// checkExtent checks one extent of a packed row against the object it points into.
func (c *checker) checkExtent(ctx context.Context, o *chunkObject, tp catalog.TopicPartition, x *segment.PackedExtent) error {
	if !o.ok {
		return nil // noted
	}
	why, err := c.misplaced(ctx, o, tp, x)
	if why == "" || err != nil {
		return err
	}
	o.wrong++
	if o.wrong <= maxWrongExtents {
		c.note(Problem{
			Kind: Packed, Object: o.Key, Topic: c.topicName(tp.Topic), Partition: &tp.Partition,
			Detail: fmt.Sprintf("a packed row has offsets [%d,%d) at byte %d, %d long, leader epoch %d: %s", x.Base, x.End, x.Pos, x.Len, x.LeaderEpoch, why),
		})
	}
	return nil
}

// misplaced tells why an extent is not in the object; "" if it is.
func (c *checker) misplaced(ctx context.Context, o *chunkObject, tp catalog.TopicPartition, x *segment.PackedExtent) (string, error) {
	i := sort.Search(len(o.extents), func(i int) bool {
		f := &o.extents[i]
		order := f.Compare(tp)
		return order > 0 || order == 0 && f.Base > x.Base
	}) - 1
	if i < 0 || o.extents[i].TopicPartition != tp || x.Base >= o.extents[i].End {
		return "the object has no such offsets", nil
	}
	f := &o.extents[i]
	switch {
	case x.End > f.End:
		return fmt.Sprintf("the object's extent ends at offset %d", f.End), nil
	case x.LeaderEpoch != f.LeaderEpoch:
		return fmt.Sprintf("the object's extent is of leader epoch %d", f.LeaderEpoch), nil
	case x.Pos < f.Pos || x.Pos+x.Len > f.Pos+f.Len:
		return fmt.Sprintf("the object's extent is at byte %d, %d long", f.Pos, f.Len), nil
	case (x.Base == f.Base) != (x.Pos == f.Pos) || (x.End == f.End) != (x.Pos+x.Len == f.Pos+f.Len):
		return fmt.Sprintf("the object has offsets [%d,%d) at byte %d, %d long", f.Base, f.End, f.Pos, f.Len), nil
	case x.MaxTimestamp > f.MaxTimestamp || x.Base == f.Base && x.End == f.End && x.MaxTimestamp != f.MaxTimestamp:
		return fmt.Sprintf("its max timestamp is %d, the object says %d", x.MaxTimestamp, f.MaxTimestamp), nil
	}
	// A part of an extent: it must be cut at batches.
	if x.Base != f.Base {
		if why, err := c.batchAt(ctx, o, x.Pos, x.Base); why != "" || err != nil {
			return why, err
		}
	}
	if x.End != f.End {
		return c.batchAt(ctx, o, x.Pos+x.Len, x.End)
	}
	return "", nil
}

// batchAt tells whether the batch with a base offset starts at a byte.
func (c *checker) batchAt(ctx context.Context, o *chunkObject, pos, base int64) (string, error) {
	head := make([]byte, recordbatch.HeaderSize)
	if err := c.store.GetRange(ctx, o.Key, pos, head); err != nil {
		if ended(ctx, err) {
			return "", fmt.Errorf("read %s: %w", o.Key, err)
		}
		return fmt.Sprintf("no batch can be read at byte %d: %v", pos, err), nil
	}
	h, err := recordbatch.ParseHeader(head)
	if err == nil && h.BaseOffset == base && h.Magic == 2 {
		return "", nil
	}
	return fmt.Sprintf("no batch with offset %d starts at byte %d", base, pos), nil
}
