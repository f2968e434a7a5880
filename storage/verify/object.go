package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// named is an object as the catalog describes it.
type named struct {
	key      string
	size     int64
	checksum uint32
}

// checkObject reads one object. It returns the extents its footer lists, sound or not; ok is false when they are not to be
// relied on, which has been noted. index is nil, or what a tail row says of the object. The error ends the run.
func (c *checker) checkObject(ctx context.Context, o named, index *segment.Index) (extents []segment.FooterExtent, ok bool, err error) {
	if c.retired[o.key] {
		c.object(Retired, o.key, "it is live and on the list of objects to delete")
	}
	told := int64(0) // of progress
	defer func() {
		if c.opts.Fast {
			c.step(1)
		} else {
			c.step(o.size - told)
		}
	}()
	if err := c.probeEnd(ctx, o); err != nil {
		return nil, false, c.objectFailed(ctx, o, err)
	}
	d, err := segment.Describe(ctx, c.store, o.key, o.size)
	if err != nil {
		return nil, false, c.objectFailed(ctx, o, err)
	}
	ok = true
	if index != nil {
		ok = c.compareIndex(o.key, index, d.Extents)
	}
	var v segment.Verified
	if !c.opts.Fast {
		tee := newTee(c.store, index)
		v, err = segment.VerifyObject(ctx, tee, o.key, o.size, func(done int64) {
			c.step(done - told)
			told = done
		})
		switch {
		case err != nil:
			return d.Extents, false, c.objectFailed(ctx, o, err)
		case v.Checksum != o.checksum:
			c.object(Corrupt, o.key, "its checksum is %08x, the catalog says %08x", v.Checksum, o.checksum)
		case ok && tee.wrong != "":
			c.object(Index, o.key, "%s", tee.wrong)
		}
	}
	c.mu.Lock()
	c.res.Extents += int64(len(d.Extents))
	c.res.Batches += v.Batches
	c.res.Records += v.Records
	c.mu.Unlock()
	return d.Extents, ok, nil
}

var errLonger = errors.New("it is longer than the catalog says")

// probeEnd tells whether the object ends where the catalog says, for at most two GETs: a local store's Head would read it all.
func (c *checker) probeEnd(ctx context.Context, o named) error {
	var p [1]byte
	if o.size > 0 {
		if err := c.store.GetRange(ctx, o.key, o.size-1, p[:]); err != nil {
			return err
		}
	}
	err := c.store.GetRange(ctx, o.key, max(o.size, 0), p[:])
	switch {
	case err == nil:
		return errLonger
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	}
	return err
}

// objectFailed sorts out why an object could not be checked. It returns an error only when the run is over.
func (c *checker) objectFailed(ctx context.Context, o named, err error) error {
	switch {
	case ended(ctx, err):
		return fmt.Errorf("read %s: %w", o.key, err)
	case errors.Is(err, objstore.ErrNotFound):
		c.object(Missing, o.key, "it is not in the store")
	case errors.Is(err, errLonger), errors.Is(err, io.ErrUnexpectedEOF):
		info, headErr := c.store.Head(ctx, o.key)
		if headErr != nil {
			c.object(Corrupt, o.key, "it does not have the %d bytes the catalog says", o.size)
		} else {
			c.object(Corrupt, o.key, "it has %d bytes, the catalog says %d", info.Size, o.size)
		}
	case errors.Is(err, segment.ErrCorrupt), errors.Is(err, segment.ErrVersion):
		c.object(Corrupt, o.key, "%v", err)
	default:
		c.object(Unreadable, o.key, "%v", err)
	}
	return nil
}

// compareIndex checks a tail row's index against the object's footer.
func (c *checker) compareIndex(key string, index *segment.Index, extents []segment.FooterExtent) bool {
	if len(index.Extents) != len(extents) {
		c.object(Index, key, "the tail row lists %d extents, the object %d", len(index.Extents), len(extents))
		return false
	}
	for i := range extents {
		x, f := &index.Extents[i], &extents[i]
		if x.TopicPartition != f.TopicPartition || x.Base != f.Base || x.End != f.End || x.Pos != f.Pos || x.Len != f.Len ||
			x.LeaderEpoch != f.LeaderEpoch || x.MaxTimestamp != f.MaxTimestamp {
			c.object(Index, key, "the tail row has extent %s [%d,%d) at byte %d, %d long, leader epoch %d, max timestamp %d; "+
				"the object has %s [%d,%d) at byte %d, %d long, leader epoch %d, max timestamp %d",
				x.TopicPartition, x.Base, x.End, x.Pos, x.Len, x.LeaderEpoch, x.MaxTimestamp,
				f.TopicPartition, f.Base, f.End, f.Pos, f.Len, f.LeaderEpoch, f.MaxTimestamp)
			return false
		}
	}
	return true
}
