package storage

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/cache"
)

const (
	// aheadObjects and aheadBytes bound what is got ahead for one reader, beyond the extent it is in. How many objects are got
	// at once, for all readers together, the block cache bounds; the tail cache is no part of this.
	aheadObjects = 64
	aheadBytes   = 4 << 20
	// readersAhead: all that so many readers look ahead fits into the block cache together.
	readersAhead = 8
	// pathWays is how many readers of one partition are told apart.
	pathWays = 4
)

// path remembers where readers of a partition are, by the end offsets of the last extents they read from the store.
type path struct {
	ends [pathWays]int64 // 0: none
	next int             // to be overwritten
}

// follows notes a read in the extent [base, end), and tells whether it goes on where one ended: in the extent before, or in
// the midst of this one.
func (t *path) follows(base, end int64) bool {
	for i, at := range t.ends {
		if at != 0 && (at == base || at == end) {
			t.ends[i] = end
			return true
		}
	}
	t.ends[t.next] = end
	t.next = (t.next + 1) % pathWays
	return false
}

// ahead plans and starts reads of the extents behind the one that a reader is in. Used by one read, step after step.
type ahead struct {
	spans []cache.Span
}

// start has the block cache get what comes after x: as much as the read still wants, or as far as may be for a reader that
// goes through the log. It gives x the key of its object, if that is not known, in the same look-up as those behind it. It
// waits for nothing but that look-up.
func (a *ahead) start(ctx context.Context, e *Engine, p *partition, x *stored, wanted int64) error {
	a.spans = a.spans[:0]
	limit := min(aheadBytes, e.cfg.BlockCacheBytes/readersAhead)
	p.mu.Lock()
	if p.mu.path.follows(x.base, x.end) {
		wanted = limit
	} else {
		wanted -= x.len // of which all may be before the offset: then the next step asks for the rest
	}
	if wanted > 0 {
		a.behindLocked(p, x.end, wanted)
	}
	p.mu.Unlock()
	if err := a.name(ctx, e, x); err != nil {
		return err
	}
	n := 0
	for ; n < len(a.spans) && a.spans[n].Key != ""; n++ {
		if limit -= a.spans[n].Cost(); limit < 0 {
			break
		}
	}
	if n > 0 {
		e.blocks.Ahead(ctx, a.spans[:n])
	}
	return nil
}

// behindLocked gathers the extents from an offset on that lie in the store, wanted bytes of them.
func (a *ahead) behindLocked(p *partition, offset, wanted int64) {
	take := func(s cache.Span) bool {
		a.spans = append(a.spans, s)
		wanted -= s.Len
		return wanted > 0 && len(a.spans) < aheadObjects
	}
	for offset < p.mu.foldedEnd {
		i := slices.IndexFunc(p.mu.rows, func(r cachedRow) bool { return r.base <= offset && offset < r.end })
		if i < 0 {
			return // its row is read when the reader comes there
		}
		r := &p.mu.rows[i]
		for j := sort.Search(len(r.extents), func(j int) bool { return r.extents[j].End > offset }); j < len(r.extents); j++ {
			x := &r.extents[j]
			if !take(cache.Span{ID: x.Object, Pos: x.Pos, Len: x.Len}) {
				return
			}
		}
		offset = r.end
	}
	tail := p.mu.tail
	for i := sort.Search(len(tail), func(i int) bool { return tail[i].end > offset }); i < len(tail); i++ {
		x := &tail[i]
		if x.obj.refs.Load() > 0 {
			continue // in the tail cache
		}
		if !take(cache.Span{ID: x.obj.row.Object, Key: x.obj.row.Key, Size: x.obj.row.Size, Pos: x.pos, Len: x.size()}) {
			return
		}
	}
}

// name finds the keys of folded objects: of x in any case, with it, or once half of the others are unknown, of all.
func (a *ahead) name(ctx context.Context, e *Engine, x *stored) error {
	need := x.key == "" && !e.names.known(x.object, &x.key, &x.size)
	var unknown []catalog.ObjectID
	if need {
		unknown = append(unknown, x.object)
	}
	for i := range a.spans {
		if s := &a.spans[i]; s.Key == "" && !e.names.known(s.ID, &s.Key, &s.Size) {
			unknown = append(unknown, s.ID)
		}
	}
	if !need && len(unknown) <= len(a.spans)/2 {
		return nil
	}
	objs, err := e.cfg.Catalog.ObjectsByID(ctx, unknown)
	if err != nil {
		if !need {
			return nil // the reader will ask again, and be told
		}
		return fmt.Errorf("look up object %d: %w", x.object, translate(err))
	}
	for i := range objs {
		e.names.note(objs[i].ID, objs[i].Key, objs[i].Size)
	}
	if need && !e.names.known(x.object, &x.key, &x.size) {
		return fmt.Errorf("%w: the manifest refers to object %d, which it does not name", errStaleRow, x.object)
	}
	for i := range a.spans {
		if s := &a.spans[i]; s.Key == "" {
			e.names.known(s.ID, &s.Key, &s.Size)
		}
	}
	return nil
}
