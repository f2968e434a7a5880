package verify

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

const (
	// tailPage is how many tail rows are read at a time: an index may have a megabyte.
	tailPage = 32
	// objectPage is how many folded objects are read at a time.
	objectPage = 512
)

// run is a stretch of one partition's offsets in the tail of one broker epoch.
type run struct {
	base, end   int64
	leaderEpoch int32
	broker      catalog.BrokerEpoch
}

// measure finds out how much there is to read.
func (c *checker) measure(ctx context.Context) error {
	err := eachTailRow(ctx, c.cat, func(_ catalog.BrokerTail, row *catalog.TailEntry) error {
		c.res.Tail.add(row.Size)
		return nil
	})
	if err != nil {
		return err
	}
	err = eachFolded(ctx, c.cat, func(o *catalog.Object) error {
		c.res.Folded.add(o.Size)
		return nil
	})
	if err != nil {
		return err
	}
	total := c.res.Tail.Bytes + c.res.Folded.Bytes
	if c.opts.Fast {
		total = c.res.Tail.Objects + c.res.Folded.Objects
	}
	c.begin(PhaseObjects, total)
	return nil
}

// eachTailRow goes over all tail rows, by broker epoch and sequence.
func eachTailRow(ctx context.Context, cat catalog.Catalog, each func(catalog.BrokerTail, *catalog.TailEntry) error) error {
	tails, err := cat.BrokerTails(ctx)
	if err != nil {
		return fmt.Errorf("list tails: %w", err)
	}
	for _, bt := range tails {
		// From the start and to the end, whatever folded and last say: rows outside are problems to be seen.
		for after := catalog.Sequence(0); ; {
			rows, err := cat.ReadTail(ctx, bt.Epoch, after, tailPage)
			if err != nil {
				return fmt.Errorf("read the tail of broker epoch %d: %w", bt.Epoch, err)
			}
			for i := range rows {
				if err := each(bt, &rows[i]); err != nil {
					return err
				}
				after = max(after, rows[i].Last)
			}
			if len(rows) < tailPage {
				break
			}
		}
	}
	return nil
}

// eachFolded goes over all folded objects, by id.
func eachFolded(ctx context.Context, cat catalog.Catalog, each func(*catalog.Object) error) error {
	for after := catalog.ObjectID(-1); ; {
		objs, err := cat.FoldedObjects(ctx, after, objectPage)
		if err != nil {
			return fmt.Errorf("list folded objects: %w", err)
		}
		for i := range objs {
			if err := each(&objs[i]); err != nil {
				return err
			}
			after = max(after, objs[i].ID)
		}
		if len(objs) < objectPage {
			return nil
		}
	}
}

// checkTail checks the rows, their objects, and notes which offsets they hold.
func (c *checker) checkTail(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opts.Parallel)
	next := make(map[catalog.BrokerEpoch]catalog.Sequence)
	err := eachTailRow(gctx, c.cat, func(bt catalog.BrokerTail, row *catalog.TailEntry) error {
		due, begun := next[bt.Epoch]
		if !begun {
			due = bt.Folded + 1
		}
		if row.Epoch != bt.Epoch || row.First != due || row.Last < row.First || row.Last > bt.Last {
			c.object(Tail, row.Key, "it is sequences %d to %d of broker epoch %d; due was %d, the last committed is %d",
				row.First, row.Last, bt.Epoch, due, bt.Last)
		}
		next[bt.Epoch] = row.Last + 1
		if c.ids[row.Object] {
			c.object(Tail, row.Key, "object id %d stands twice in the tail", row.Object)
		}
		c.ids[row.Object] = true
		index, err := segment.DecodeTail(row.Index)
		if err != nil {
			c.object(Tail, row.Key, "its index does not decode: %v", err)
			index = nil
		} else {
			c.noteRuns(row, index)
		}
		o := named{row.Key, row.Size, row.Checksum}
		g.Go(func() error {
			_, _, err := c.checkObject(gctx, o, index)
			return err
		})
		return nil
	})
	if workErr := g.Wait(); workErr != nil {
		return workErr // it ended gctx, which may be all that err says
	}
	if err != nil {
		return err
	}
	tails, err := c.cat.BrokerTails(ctx)
	if err != nil {
		return fmt.Errorf("list tails: %w", err)
	}
	for _, bt := range tails {
		due, begun := next[bt.Epoch]
		if !begun {
			due = bt.Folded + 1
		}
		if due <= bt.Last {
			c.note(Problem{Kind: Tail, Detail: fmt.Sprintf("rows of broker epoch %d end before sequence %d, the last committed is %d",
				bt.Epoch, due, bt.Last)})
		}
	}
	return nil
}

// noteRuns remembers which offsets of live partitions a row holds.
func (c *checker) noteRuns(row *catalog.TailEntry, index *segment.Index) {
	for i := range index.Extents {
		x := &index.Extents[i]
		if _, live := c.names[x.Topic]; !live {
			continue // of a deleted topic: it ends here
		}
		runs := c.tail[x.TopicPartition]
		if n := len(runs); n > 0 && runs[n-1].broker == row.Epoch {
			last := &runs[n-1]
			if x.Base < last.end {
				c.partition(Overlap, x.TopicPartition, "%s has offsets [%d,%d) though an earlier tail row ends at %d", row.Key, x.Base, x.End, last.end)
			}
			if x.Base == last.end && x.LeaderEpoch == last.leaderEpoch {
				last.end = x.End
				continue
			}
		}
		c.tail[x.TopicPartition] = append(runs, run{base: x.Base, end: x.End, leaderEpoch: x.LeaderEpoch, broker: row.Epoch})
	}
}
