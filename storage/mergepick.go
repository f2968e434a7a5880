package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

const (
	// mergeBytes bounds the inputs of one merge, so that what waits behind it waits for seconds, not minutes.
	mergeBytes = 4 * segmentBytes
	// maxAside bounds how many objects are remembered as unreadable; beyond it they are tried again.
	maxAside = 4096
	// sparseList is how many sparse objects are looked at per step.
	sparseList = 64
)

// mergeState is what the keeper remembers between merges. Used by one goroutine at a time: who holds Engine.rewrite.
type mergeState struct {
	// aside: folded objects that could not be read as they were written. They stay in the manifest as they are; merges
	// go on without them.
	aside map[catalog.ObjectID]bool
	// dense: objects that look sparse by their size, but are mostly footer.
	dense map[catalog.ObjectID]bool
	// last is the generation merged last, so that each gets its turn.
	last int32
	// sparse is the last object looked at for its space.
	sparse catalog.ObjectID
}

func remember(set *map[catalog.ObjectID]bool, id catalog.ObjectID) {
	if *set == nil || len(*set) >= maxAside {
		*set = make(map[catalog.ObjectID]bool)
	}
	(*set)[id] = true
}

// mergeSegments merges the oldest Config.MergeFanIn folded objects of one generation that has as many: partition by
// partition, into outputs of segmentBytes, so that files get fewer and runs per partition longer. It does one merge and
// reports whether there may be more to do. Generations take turns. An object that cannot be read is set aside, with a
// warning, and the others are merged without it.
func (t *term) mergeSegments(ctx context.Context) (more bool, err error) {
	if t.pressed() {
		return false, nil // the tail first
	}
	m, fanIn := &t.e.merges, t.e.cfg.MergeFanIn
	objs, err := t.e.cfg.Catalog.MergeCandidates(ctx, segmentBytes*3/4, maxGeneration, 64*fanIn+len(m.aside))
	if err != nil {
		return false, fmt.Errorf("list objects to merge: %w", err)
	}
	group := pickGroup(objs, m.aside, fanIn, m.last)
	if len(group) == 0 {
		return false, nil
	}
	m.last = group[0].Generation
	if err := t.mergeOrSetAside(ctx, group); err != nil {
		return false, fmt.Errorf("merge %d objects of generation %d: %w", len(group), group[0].Generation, err)
	}
	return true, nil
}

// pickGroup chooses what to merge: of the generations with at least fanIn objects the next one after last, and of
// that its oldest objects, up to fanIn and mergeBytes.
func pickGroup(objs []catalog.Object, aside map[catalog.ObjectID]bool, fanIn int, last int32) []catalog.Object {
	for i := range int32(maxGeneration) {
		gen := (last + 1 + i) % maxGeneration
		var group []catalog.Object
		for j := range objs {
			if o := &objs[j]; o.Generation == gen && !aside[o.ID] {
				group = append(group, *o)
			}
		}
		if len(group) < fanIn {
			continue
		}
		n, bytes := 0, int64(0)
		for n < fanIn && (n < 2 || bytes+group[n].Size <= mergeBytes) {
			bytes += group[n].Size
			n++
		}
		return group[:n]
	}
	return nil
}

// rewriteSparse gives back the space of folded objects of which less than half is live, whatever their generation: what
// is live is copied together into new ones. One rewrite a step. It reports whether there may be more.
func (t *term) rewriteSparse(ctx context.Context) (more bool, err error) {
	if t.pressed() {
		return false, nil
	}
	m := &t.e.merges
	objs, err := t.e.cfg.Catalog.SparseObjects(ctx, m.sparse, sparseList)
	if err != nil {
		return false, fmt.Errorf("list sparse objects: %w", err)
	}
	var group []catalog.Object
	live := int64(0)
	seen := catalog.ObjectID(0) // from the start again, unless there is more
	if len(objs) == sparseList {
		seen = objs[len(objs)-1].ID
	}
	for i := range objs {
		o := &objs[i]
		if m.aside[o.ID] || m.dense[o.ID] {
			continue
		}
		if len(group) == t.e.cfg.MergeFanIn || len(group) > 0 && live+o.Live > segmentBytes {
			seen = group[len(group)-1].ID
			break
		}
		f, err := t.e.blocks.Footer(ctx, o.ID, o.Key, o.Size)
		if err != nil {
			if err = t.setAside(o, translateRead(err)); err != nil {
				return false, fmt.Errorf("open %s: %w", o.Key, err)
			}
			continue
		}
		if o.Live >= f.DataEnd()-o.Live {
			remember(&m.dense, o.ID)
			continue
		}
		group = append(group, *o)
		live += o.Live
	}
	m.sparse = seen
	if len(group) == 0 {
		return seen != 0, nil
	}
	if err := t.mergeOrSetAside(ctx, group); err != nil {
		return false, fmt.Errorf("rewrite %d sparse objects: %w", len(group), err)
	}
	return true, nil
}

// mergeOrSetAside merges. What cannot be merged, now or ever, because of what is stored, is set aside: that is no error.
func (t *term) mergeOrSetAside(ctx context.Context, group []catalog.Object) error {
	err := t.mergeGroup(ctx, group)
	var in *inputError
	switch {
	case errors.Is(err, errTailWaits):
		return nil // the caller looks after the tail next
	case errors.As(err, &in):
		return t.setAside(&in.obj, err)
	case errors.Is(err, ErrCorrupt), errors.Is(err, segment.ErrCorrupt):
		// Not one object's bytes, but something between them, e.g. a packed row that does not decode.
		for i := range group {
			if err := t.setAside(&group[i], err); err != nil {
				return err
			}
		}
		return nil
	}
	return err
}

// setAside remembers an object that cannot be read as it was written. Any other error is returned: it may pass.
func (t *term) setAside(o *catalog.Object, err error) error {
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, segment.ErrCorrupt) && !errors.Is(err, objstore.ErrNotFound) {
		return err
	}
	remember(&t.e.merges.aside, o.ID)
	t.e.cfg.Logger.Warn("a folded object cannot be merged and is left as it is", "object", o.ID, "key", o.Key, "error", err)
	return nil
}

// inputError is an error of one input of a merge.
type inputError struct {
	obj catalog.Object
	err error
}

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

// errTailWaits ends a merge so that the tail can be folded.
var errTailWaits = errors.New("the tail needs a fold")

// pressed tells whether the tail is so long that producers may soon have to wait for it to be folded: this broker's, or
// another's, whose rows may wait for ours.
func (t *term) pressed() bool {
	if rows, index := t.tailSize(); rows >= maxTailRows/2 || index >= maxTailIndex/2 {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for epoch, objs := range t.mu.tails {
		if epoch == t.epoch || t.e.cfg.Fleet == nil {
			continue
		}
		index := int64(0)
		for _, o := range objs {
			index += int64(len(o.row.Index))
		}
		if len(objs) >= maxTailRows/2 || index >= maxTailIndex/2 {
			return true
		}
	}
	return false
}
