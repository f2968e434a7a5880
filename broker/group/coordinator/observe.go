package coordinator

import (
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/catalog"
)

// Why is why a group rebalances.
type Why int

// The reasons. WhyOther is for what has no word of its own.
const (
	WhyOther Why = iota
	WhyMemberJoins
	WhyMemberLeaves
	WhySession          // a member was not heard of in its session time-out
	WhyRebalanceTimeout // a member did not do its part in its rebalance time-out
	WhySubscription     // a member subscribes to something else, or says something else of itself
	WhyTopics           // topics were made, grown or deleted
	WhyProtocol         // the group speaks another protocol now
)

// whyOf finds the reason in the notes of the step that began the rebalance.
func whyOf(notes []group.Note) Why {
	why := WhyOther
	for i := range notes {
		what := notes[i].What
		switch {
		case strings.HasPrefix(what, "rebalance: a member joins"), strings.HasPrefix(what, "rebalance: a static member is back"):
			why = WhyMemberJoins
		case strings.HasPrefix(what, "rebalance: topics"):
			why = WhyTopics
		case strings.HasPrefix(what, "rebalance: "):
			why = WhySubscription
		case strings.HasPrefix(what, "member removed: its session"):
			why = WhySession
		case strings.HasPrefix(what, "member removed: it did not"):
			why = WhyRebalanceTimeout
		case strings.HasPrefix(what, "member removed: it leaves"), strings.HasPrefix(what, "member left"):
			why = WhyMemberLeaves
		case strings.HasPrefix(what, "the group becomes"):
			why = WhyProtocol
		}
	}
	return why
}

// course is how a group's rebalances go, as its shard has seen it.
type course struct {
	phase string
	epoch int32
	began time.Time // of the rebalance under way; zero: there is none, or it began before the shard was read
}

const (
	phaseStable    = "Stable"
	phasePreparing = "PreparingRebalance"
)

// observe tells the hooks of rebalances that began or ended in a step, and the log what is worth a line for who looks for it. A
// rebalance begins when a classic group waits for its members to join or does not have to, or a consumer group has a new epoch;
// it ends when the group is stable.
func (s *shard) observe(e *entry, notes []group.Note, now time.Time) {
	g, ok := e.m.(*group.Group)
	if !ok {
		return
	}
	for i := range notes {
		s.c.cfg.Logger.Debug("something happened to a group", "what", notes[i].What, "group", e.id, "member", notes[i].Member, "reason", notes[i].Reason)
	}
	was := e.course
	e.phase, e.epoch = g.Phase(), g.Epoch()
	begins := e.epoch != was.epoch && g.HasMembers()
	if g.Kind() == catalog.GroupClassic { // one that all joined in the same step has its new generation already
		begins = was.phase != phasePreparing && (begins || e.phase == phasePreparing)
	}
	h := &s.c.cfg.Hooks
	if begins {
		if e.began.IsZero() {
			e.began = now
		}
		if h.Rebalancing != nil {
			h.Rebalancing(g.Kind(), whyOf(notes))
		}
	}
	switch {
	case e.began.IsZero():
	case e.phase == phaseStable:
		if h.Rebalanced != nil {
			h.Rebalanced(g.Kind(), now.Sub(e.began))
		}
		e.began = time.Time{}
	case !g.HasMembers():
		e.began = time.Time{}
	}
}
