package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/cache"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// readStored appends batches of one extent from x.offset on, through the block cache, and returns the offset after
// the last batch it took; x.offset itself when dst is full.
func (e *Engine) readStored(ctx context.Context, x *stored, maxBytes int, minOne bool, dst *Read) (int64, error) {
	footer, err := e.openStored(ctx, x)
	if err != nil {
		return 0, err
	}
	run, ok := footer.FindRun(x.tp, x.offset)
	if !ok {
		return 0, fmt.Errorf("%w: %s has no offset %d of %s", ErrCorrupt, x.key, x.offset, x.tp)
	}
	room := max(maxBytes-dst.Bytes, 0)
	left := x.pos + x.len - run.Pos
	n := min(left, int64(room)+run.Len)
	for {
		pinned := new(cache.Pinned)
		if err := e.blocks.Read(ctx, x.object, x.key, x.size, footer, run.Pos, n, pinned); err != nil {
			pinned.Release()
			return 0, err
		}
		w := walker{slices: pinned.Slices, x: x, next: run.Base}
		cut, err := w.cut(room, minOne && dst.Bytes == 0)
		switch {
		case err != nil:
			pinned.Release()
			return 0, err
		case cut.need > n && cut.need <= left:
			// Not even the batch that must be returned lies within what was read.
			pinned.Release()
			n = cut.need
			continue
		case cut.need > n:
			pinned.Release()
			return 0, fmt.Errorf("%w: a batch of %s in %s reaches beyond its extent", ErrCorrupt, x.tp, x.key)
		}
		if cut.to == cut.from {
			pinned.Release()
			return x.offset, nil
		}
		dst.Records = appendRange(dst.Records, pinned.Slices, cut.from, cut.to)
		dst.Bytes += int(cut.to - cut.from)
		dst.pins = append(dst.pins, pinned)
		if cut.full {
			return x.offset, nil // more would not fit: ends the read
		}
		return cut.next, nil
	}
}

// openStored finds the object's key, if need be, and opens it for a reader of its data.
func (e *Engine) openStored(ctx context.Context, x *stored) (*segment.Footer, error) {
	if x.key == "" {
		key, size, err := e.names.find(ctx, e.cfg.Catalog, x.object)
		if err != nil {
			return nil, err
		}
		x.key, x.size = key, size
	}
	return e.blocks.Open(ctx, x.object, x.key, x.size)
}

// cut is the part of a walk that is returned.
type cut struct {
	from, to int64 // bytes, relative to where the walk began
	next     int64 // offset after the last batch
	full     bool  // stopped because the next batch would not fit
	need     int64 // bytes needed to return at least one batch
}

// walker steps over the batches in consecutive slices.
type walker struct {
	slices [][]byte
	x      *stored
	next   int64 // the lowest offset the next batch may have
	at     int64 // bytes stepped over
	si, so int   // where that is: slice and offset in it
}

// cut finds the batches from x.offset on that fit into room bytes, or one if there must be one.
func (w *walker) cut(room int, atLeastOne bool) (cut, error) {
	c := cut{from: -1}
	total := int64(0)
	for _, s := range w.slices {
		total += int64(len(s))
	}
	for w.next < w.x.end {
		var raw [recordbatch.HeaderSize]byte
		if !w.peek(raw[:]) {
			if c.from < 0 || c.to == c.from && atLeastOne {
				c.need = w.at + recordbatch.HeaderSize
			}
			break
		}
		h, err := recordbatch.ParseHeader(raw[:])
		if err != nil || h.BaseOffset < w.next || h.LastOffset() >= w.x.end || h.LastOffset() < h.BaseOffset {
			return c, fmt.Errorf("%w: batch at offset %d of %s in %s is not what the manifest says", ErrCorrupt, w.next, w.x.tp, w.x.key)
		}
		size := int64(h.Size())
		if h.LastOffset() >= w.x.offset {
			if c.from < 0 {
				c.from, c.to = w.at, w.at
			}
			got := c.to - c.from
			must := atLeastOne && got == 0
			if got+size > int64(room) && !must {
				c.full = true
				break
			}
			if w.at+size > total {
				if must || got == 0 {
					c.need = w.at + size
				}
				break
			}
			c.to, c.next = w.at+size, h.LastOffset()+1
		}
		if w.at+size > total {
			c.need = w.at + size + recordbatch.HeaderSize
			break
		}
		w.skip(size)
		w.next = h.LastOffset() + 1
	}
	if c.from < 0 {
		c.from, c.to = 0, 0
	}
	return c, nil
}

// peek copies the next bytes without moving; false if there are fewer.
func (w *walker) peek(p []byte) bool {
	si, so := w.si, w.so
	for len(p) > 0 {
		if si == len(w.slices) {
			return false
		}
		n := copy(p, w.slices[si][so:])
		p, so = p[n:], so+n
		if so == len(w.slices[si]) {
			si, so = si+1, 0
		}
	}
	return true
}

func (w *walker) skip(n int64) {
	w.at += n
	for n > 0 && w.si < len(w.slices) {
		here := int64(len(w.slices[w.si]) - w.so)
		if n < here {
			w.so += int(n)
			return
		}
		n -= here
		w.si, w.so = w.si+1, 0
	}
}

// appendRange appends bytes [from, to) of consecutive slices to dst, as slices.
func appendRange(dst, src [][]byte, from, to int64) [][]byte {
	for _, s := range src {
		n := int64(len(s))
		if from < n && to > 0 {
			dst = append(dst, s[max(from, 0):min(to, n)])
		}
		from, to = from-n, to-n
		if to <= 0 {
			break
		}
	}
	return dst
}

func translateRead(err error) error {
	switch {
	case errors.Is(err, ErrCorrupt), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, segment.ErrCorrupt), errors.Is(err, segment.ErrVersion):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// objectNames remembers the keys of folded objects: ids are never reused, so an entry is true for ever.
type objectNames struct {
	mu struct {
		sync.Mutex
		byID map[catalog.ObjectID]objectName
	}
}

type objectName struct {
	key  string
	size int64
}

const maxObjectNames = 8192

// known fills in an object's key and size, if they are remembered.
func (n *objectNames) known(id catalog.ObjectID, key *string, size *int64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	name, ok := n.mu.byID[id]
	if ok {
		*key, *size = name.key, name.size
	}
	return ok
}

func (n *objectNames) find(ctx context.Context, cat catalog.Catalog, id catalog.ObjectID) (key string, size int64, err error) {
	if n.known(id, &key, &size) {
		return key, size, nil
	}
	objs, err := cat.ObjectsByID(ctx, []catalog.ObjectID{id})
	if err != nil {
		return "", 0, fmt.Errorf("look up object %d: %w", id, translate(err))
	}
	if len(objs) == 0 {
		return "", 0, fmt.Errorf("%w: the manifest refers to object %d, which it does not name", errStaleRow, id)
	}
	n.note(objs[0].ID, objs[0].Key, objs[0].Size)
	return objs[0].Key, objs[0].Size, nil
}

func (n *objectNames) note(id catalog.ObjectID, key string, size int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.byID == nil || len(n.mu.byID) >= maxObjectNames {
		n.mu.byID = make(map[catalog.ObjectID]objectName)
	}
	n.mu.byID[id] = objectName{key, size}
}

// errStaleRow: a packed row in memory refers to an object that was replaced meanwhile.
var errStaleRow = errors.New("stale manifest row")
