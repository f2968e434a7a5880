package storage

import "github.com/streamhouse/streamhouse/catalog"

// damagedProducers tells, once for each partition, that its producer snapshot cannot be read.
//
// Nobody can then tell whether a batch with a sequence was committed before, so none is taken (ErrCorrupt) by a leader that
// had to load it. Batches without one, reads and folds go on. Folds carry the damaged bytes over: a snapshot that was begun
// anew would look as if it knew all producers.
func (e *Engine) damagedProducers(tp catalog.TopicPartition, err error) {
	if e.quiet.once("producers " + tp.String()) {
		e.cfg.Logger.Error("the producer snapshot of a partition is damaged in the catalog: idempotent producers are refused once it is loaded, all else goes on",
			"topic_id", tp.Topic, "partition", tp.Partition, "error", err)
	}
}

// damagedRow tells, once for each, that a packed row cannot be read.
func (e *Engine) damagedRow(tp catalog.TopicPartition, base int64, err error) {
	if e.quiet.once("packed " + tp.String()) {
		e.cfg.Logger.Error("a packed row is damaged in the catalog: reads of what it names fail, all else goes on",
			"topic_id", tp.Topic, "partition", tp.Partition, "base_offset", base, "error", err)
	}
}
