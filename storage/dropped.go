package storage

import (
	"context"
	"fmt"

	"github.com/streamhouse/streamhouse/catalog"
)

// dropDeleted lets go of topics that were deleted without this engine hearing of it, or before it began to hold them:
//
//   - A lease manager looks at the leases. The topic is deleted, and DropTopic is called, once. The manager has the engine
//     adopt a lease that it saw before.
//   - A topic is created, its lease taken and the topic deleted, all between two looks of the broker at the topics.
//
// What is held was there when it was taken, and ids of topics never come back: so one that a later look does not find is
// deleted for good. A look is only taken when leases came, or topics changed, since the last one.
func (t *term) dropDeleted(ctx context.Context) error {
	e := t.e
	if e.cfg.Fleet == nil || !e.suspect.Swap(false) { // before looking: what comes meanwhile asks again
		return nil
	}
	err := t.dropMissing(ctx)
	if err != nil {
		e.suspect.Store(true)
	}
	return err
}

func (t *term) dropMissing(ctx context.Context) error {
	held := make(map[catalog.TopicID]catalog.TopicPartition) // one of each
	for tp := range t.e.Held() {
		held[tp.Topic] = tp
	}
	if len(held) == 0 {
		return nil
	}
	set, err := t.e.cfg.Catalog.TopicSet(ctx, 0)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for i := range set.Topics {
		delete(held, set.Topics[i].ID)
	}
	for id := range held {
		t.e.cfg.Logger.Info("a topic was deleted before its leases were taken, or unheard: they are let go", "topic_id", id)
		t.e.DropTopic(id)
	}
	return nil
}

// topicsVersion notes what a heartbeat said.
func (e *Engine) topicsVersion(v int64) {
	if e.topics.Swap(v) != v {
		e.suspect.Store(true)
	}
}
