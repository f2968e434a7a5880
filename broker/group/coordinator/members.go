package coordinator

import (
	"context"
	"sync"

	"github.com/streamhouse/streamhouse/broker/group"
)

// ShardMembers are the members of the groups of one shard that this broker leads, as far as they changed.
type ShardMembers struct {
	Shard int32
	// Whole says that nothing was told of this shard before, under this lease: groups that are not in Groups have no members.
	Whole bool
	// Groups are those whose members, or what they own, changed, with the members as they are now. Not to be changed.
	Groups map[string][]group.Member
	// Gone are groups that do not exist any more.
	Gone []string
}

// TakeMembers tells what changed of members since it was called last, one element for each shard whose groups this broker knows
// now; most have nothing in them. It is for one caller at a time, who may call it when Hooks.Members was called, and has to look
// at all of it: what was taken is not told again. So it does not end before its time when ctx does. It waits for no more than
// the shards' goroutines, which do not block. After Run has ended there are no shards.
func (c *Coordinator) TakeMembers(ctx context.Context) []ShardMembers {
	ctx = context.WithoutCancel(ctx)
	var out []ShardMembers
	for n := range c.cfg.Shards {
		s := c.slots[n].shard.Load()
		if s == nil || !s.ready.Load() {
			continue
		}
		m := ShardMembers{Shard: n}
		if s.untold.Load() {
			o := newOp("")
			o.take = &m
			if err := c.do(ctx, n, o); err != nil && m.Groups == nil && s.isOver() {
				continue
			}
			// If the shard does not trust its lease now, what was told before is what is known.
		}
		out = append(out, m)
	}
	return out
}

// noticeMembers remembers a group whose members changed. It is for the shard's goroutine, as are those below.
func (s *shard) noticeMembers(e *entry) {
	g, ok := e.m.(*group.Group)
	if !ok || g.MembersVersion() == e.seen {
		return
	}
	e.seen = g.MembersVersion()
	s.noticed(e.id)
}

// noticed remembers a group whose members changed, or of which nothing is left.
func (s *shard) noticed(id string) {
	w := &s.work
	if s.c.cfg.Hooks.Members == nil {
		return
	}
	if w.moved == nil {
		w.moved = make(map[string]struct{})
	}
	w.moved[id] = struct{}{}
	if !s.untold.Swap(true) {
		s.c.cfg.Hooks.Members()
	}
}

// membersRead is called when the shard was read: there is something to tell, be it that there are no members.
func (s *shard) membersRead() {
	w := &s.work
	w.whole = true
	s.isReady(true)
	if s.c.cfg.Hooks.Members != nil && !s.untold.Swap(true) {
		s.c.cfg.Hooks.Members()
	}
}

// forgetMembers is called when the shard is read, perhaps anew.
func (s *shard) forgetMembers() {
	s.isReady(false)
	s.untold.Store(false)
	s.work.moved = nil
}

// tellMembers hands over what changed.
func (s *shard) tellMembers(into *ShardMembers) {
	w := &s.work
	s.untold.Store(false)
	into.Whole, w.whole = w.whole, false
	into.Groups = make(map[string][]group.Member, len(w.moved))
	for id := range w.moved {
		e := w.groups[id]
		if e == nil {
			into.Gone = append(into.Gone, id)
			continue
		}
		if g, ok := e.m.(*group.Group); ok {
			into.Groups[id] = g.Members()
		}
	}
	w.moved = nil
}

// isReady says whether the shard's groups are known, and moves the number of those that are.
func (s *shard) isReady(ready bool) {
	if s.ready.Swap(ready) == ready {
		return
	}
	by := 1
	if !ready {
		by = -1
	}
	s.c.ready.add(by, s.c.cfg.Hooks.Shards)
}

// readyShards counts the shards that were read.
type readyShards struct {
	mu sync.Mutex
	n  int
}

// add changes the number and tells it. Under one lock: of two shards that get ready at once the one that counted first could
// otherwise tell last, and its number would stay.
func (r *readyShards) add(by int, tell func(n int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += by
	if tell != nil {
		tell(r.n)
	}
}
