package catalog

import (
	"fmt"
	"unicode/utf8"
)

// The checks here are those that need no stored facts. Implementations do them first, before the fence is looked at, so
// that nonsense is refused alike by all. What depends on stored facts is a conflict, and theirs to find.

// maxIDs is the largest block AllocateIDs hands out: keeps 63 bits from running out.
const maxIDs = 1 << 32

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrInvalid)...)
}

// CheckIDs checks the arguments of AllocateIDs. ErrInvalid.
func CheckIDs(kind IDKind, n int64) error {
	if kind != IDProducer && kind != IDObject && kind != IDBroker {
		return invalid("ids of kind %q", kind)
	}
	if n < 1 || n > maxIDs {
		return invalid("%d ids", n)
	}
	return nil
}

// CheckLogStart checks the offset of SetLogStart. ErrInvalid.
func CheckLogStart(offset int64) error {
	if offset < 0 {
		return invalid("log start %d", offset)
	}
	return nil
}

// CheckSpans checks the spans of PackedSpans. ErrInvalid. An empty span is none: nothing reaches into it.
func CheckSpans(spans []Span) error {
	if len(spans) > MaxSpans {
		return invalid("%d spans", len(spans))
	}
	seen := make(map[TopicPartition]bool, len(spans))
	for i := range spans {
		if tp := spans[i].TopicPartition; seen[tp] {
			return invalid("two spans of partition %s", tp)
		}
		seen[spans[i].TopicPartition] = true
	}
	return nil
}

// Check checks what needs no stored facts. ErrInvalid. The number of partitions is left to CreateTopic.
func (s *TopicSpec) Check() error {
	if s.ID == (TopicID{}) || s.Name == "" {
		return invalid("topic %q with id %s", s.Name, s.ID)
	}
	return nil
}

// Check checks what needs no stored facts. ErrInvalid.
func (r *Registration) Check() error {
	if r.TTL < 0 {
		return invalid("session of %s", r.TTL)
	}
	return nil
}

func checkKey(key string) error {
	if key == "" || !utf8.ValidString(key) {
		return invalid("object key %q", key)
	}
	return nil
}

// CheckCommit checks the entries of a Commit. ErrInvalid. Their sequences and epochs are left to Commit.
func CheckCommit(entries []TailEntry) error {
	seen := newDistinct(len(entries))
	for i := range entries {
		if err := entries[i].check(); err != nil {
			return err
		}
		if err := seen.object(entries[i].Object, entries[i].Key); err != nil {
			return err
		}
	}
	return nil
}

func (e *TailEntry) check() error {
	if e.Size < 0 {
		return invalid("object %d of %d bytes", e.Object, e.Size)
	}
	return checkKey(e.Key)
}

// distinct finds objects that are named twice in one statement.
type distinct struct {
	ids  map[ObjectID]bool
	keys map[string]bool
}

func newDistinct(n int) distinct {
	if n < 2 {
		return distinct{} // the common commit: nothing to compare, nothing to allocate
	}
	return distinct{make(map[ObjectID]bool, n), make(map[string]bool, n)}
}

func (d distinct) object(id ObjectID, key string) error {
	if d.ids == nil {
		return nil
	}
	if d.ids[id] || d.keys[key] {
		return invalid("object %d, key %q, is named twice", id, key)
	}
	d.ids[id], d.keys[key] = true, true
	return nil
}

// Check checks what needs no stored facts. ErrInvalid.
func (m *TailMerge) Check() error {
	e := &m.Entry
	if e.First < 1 || e.Last < e.First || len(m.Replaces) == 0 {
		return invalid("merge of %d rows into sequences %d to %d", len(m.Replaces), e.First, e.Last)
	}
	return e.check()
}

func checkObjects(objs []Object) error {
	seen := newDistinct(len(objs))
	for i := range objs {
		o := &objs[i]
		if o.Size < 0 || o.Generation < 0 || o.Refs < 0 || o.Live < 0 {
			return invalid("object %d of %d bytes, generation %d, %d references to %d bytes", o.ID, o.Size, o.Generation, o.Refs, o.Live)
		}
		if err := checkKey(o.Key); err != nil {
			return err
		}
		if err := seen.object(o.ID, o.Key); err != nil {
			return err
		}
	}
	return nil
}

// checkRows looks at each row and reference alone; overlaps are conflicts.
func checkRows(replaces []RowRef, rows []PackedRow) error {
	type at struct {
		TopicPartition
		base int64
	}
	seen := make(map[at]bool, len(replaces))
	for _, r := range replaces {
		k := at{r.TopicPartition, r.Base}
		if seen[k] {
			return invalid("packed row of %s at %d is replaced twice", r.TopicPartition, r.Base)
		}
		seen[k] = true
	}
	for i := range rows {
		if r := &rows[i]; r.Base < 0 || r.End <= r.Base {
			return invalid("packed row of %s from %d to %d", r.TopicPartition, r.Base, r.End)
		}
	}
	return nil
}

func (p *PartitionState) check() error {
	if p.LogStart < 0 || p.LogEnd < 0 || p.LastStable < 0 || p.LastStable > p.LogEnd {
		return invalid("partition %s: log start %d, last stable offset %d, log end %d", p.TopicPartition, p.LogStart, p.LastStable, p.LogEnd)
	}
	for _, e := range p.LeaderEpochs {
		if e.Epoch < 0 || e.Start < 0 {
			return invalid("partition %s: leader epoch %d from %d", p.TopicPartition, e.Epoch, e.Start)
		}
	}
	return nil
}

// Check checks what needs no stored facts. ErrInvalid; ErrConflict when a row does not end at the log end of its
// partition in the same fold.
func (f *Fold) Check() error {
	if f.After < 0 || f.Through <= f.After {
		return invalid("fold of (%d, %d]", f.After, f.Through)
	}
	if err := checkObjects(f.Objects); err != nil {
		return err
	}
	if err := checkRows(f.Replaces, f.Rows); err != nil {
		return err
	}
	ends := make(map[TopicPartition]int64, len(f.Partitions))
	for i := range f.Partitions {
		p := &f.Partitions[i]
		if err := p.check(); err != nil {
			return err
		}
		if _, twice := ends[p.TopicPartition]; twice {
			return invalid("partition %s is folded twice", p.TopicPartition)
		}
		ends[p.TopicPartition] = p.LogEnd
	}
	rows := make(map[TopicPartition]bool, len(f.Rows))
	for i := range f.Rows {
		r := &f.Rows[i]
		if rows[r.TopicPartition] {
			return invalid("two packed rows for partition %s", r.TopicPartition)
		}
		rows[r.TopicPartition] = true
		if end, ok := ends[r.TopicPartition]; !ok || end != r.End {
			return fmt.Errorf("packed row of %s ends at %d, its log at %d (named: %t): %w", r.TopicPartition, r.End, end, ok, ErrConflict)
		}
	}
	return nil
}

// Check checks what needs no stored facts. ErrInvalid.
func (e *Edit) Check() error {
	if err := checkObjects(e.Objects); err != nil {
		return err
	}
	if err := checkRows(e.Replaces, e.Rows); err != nil {
		return err
	}
	changed := make(map[ObjectID]bool, len(e.Deltas)+len(e.Objects))
	for i := range e.Objects {
		changed[e.Objects[i].ID] = true
	}
	for _, d := range e.Deltas {
		if changed[d.Object] {
			return invalid("object %d is changed twice", d.Object)
		}
		changed[d.Object] = true
	}
	return nil
}
