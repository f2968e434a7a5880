package storage

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Backlog is what lies in a partition from an offset on.
type Backlog struct {
	LogStart      int64
	HighWatermark int64
	// Oldest is the time of the oldest record from the offset on, in milliseconds since 1970, as the index of batches has it:
	// the largest timestamp of its batch, or of the few batches that share an entry of a stored object's index. So it is
	// never older than the record, and hardly younger. -1 when there is none.
	Oldest int64
}

// noBacklog tells nothing.
var noBacklog = Backlog{LogStart: -1, HighWatermark: -1, Oldest: -1}

// Backlog tells what lies in a partition from an offset on, without reading records. This broker need not lead it: high
// watermark and log start are as it follows them, and never go back. Offsets below the log start count from there.
// ErrNotLeader when nothing is followed; what reading may return otherwise. It asks the catalog and the store for what is
// in neither memory nor cache. With an error log start and high watermark are there all the same where it is just Oldest that
// could not be found out, and -1 otherwise.
func (e *Engine) Backlog(ctx context.Context, tp catalog.TopicPartition, offset int64) (Backlog, error) {
	for retries := 0; ; retries++ {
		p, err := e.known(ctx, tp)
		if err != nil {
			return noBacklog, err
		}
		b, x, err := p.backlog(offset)
		if err == nil && x.rows {
			err = e.loadRows(ctx, p, x.offset)
			if err == nil {
				retries-- // not another try: each brings the rows around an offset that only grows
				continue
			}
		}
		if err == nil && x.object != 0 {
			b.Oldest, err = e.timeOfRun(ctx, &x)
		}
		switch {
		case err == nil:
			return b, nil
		case retries < 3 && (errors.Is(err, errStaleRow) || errors.Is(err, objstore.ErrNotFound) || errors.Is(err, errUnloaded)):
			if err := e.lookAgain(ctx, p, true); err != nil {
				return b, err
			}
		default:
			return b, fmt.Errorf("look at the backlog of %s from %d: %w", tp, offset, err)
		}
	}
}

// known returns a partition, loaded, whether it is led here or followed. One that is followed is not loaded again for its
// age: only its log start can be old.
func (e *Engine) known(ctx context.Context, tp catalog.TopicPartition) (*partition, error) {
	if e.cfg.Fleet == nil {
		p := e.lookup(tp)
		if p == nil {
			return nil, e.absent(tp)
		}
		return p, e.load(ctx, p)
	}
	t := e.term.Load()
	if t == nil || !t.fresh() {
		return nil, fmt.Errorf("follow partition %s: %w", tp, ErrNotLeader)
	}
	p := e.lock(tp)
	ready := p.mu.loaded && !p.mu.dropped
	p.mu.Unlock()
	if ready {
		return p, nil
	}
	return t.followed(ctx, tp)
}

// Know reads what this broker does not know yet of many partitions with few queries, so that Backlog finds them in memory.
// Partitions that do not exist are left out.
func (e *Engine) Know(ctx context.Context, tps []catalog.TopicPartition) error {
	t := e.term.Load()
	if e.cfg.Fleet == nil || t == nil || !t.fresh() {
		return nil
	}
	var list []*bringing
	for _, tp := range tps {
		p := e.lock(tp)
		if !p.mu.loaded && !p.mu.dropped && p.mu.term == nil {
			list = append(list, &bringing{p: p})
		}
		p.mu.Unlock()
	}
	unknown, err := t.bring(ctx, list)
	for _, p := range unknown {
		e.forget(p)
	}
	if err != nil {
		return fmt.Errorf("load %d partitions: %w", len(list), err)
	}
	return nil
}

// backlog answers from memory, or says where in the store to look: x.object, or x.rows with the offset.
func (p *partition) backlog(offset int64) (b Backlog, x stored, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.dropped {
		return noBacklog, x, ErrUnknownPartition
	}
	if !p.mu.loaded {
		return noBacklog, x, fmt.Errorf("%w: %w", errUnloaded, ErrNotLeader)
	}
	off := p.offsetsLocked()
	b = Backlog{LogStart: off.LogStart, HighWatermark: off.HighWatermark, Oldest: -1}
	offset = max(offset, off.LogStart)
	if offset >= off.HighWatermark {
		return b, x, nil
	}
	if offset < p.mu.foldedEnd {
		x = p.foldedLocked(offset)
		x.offset = offset
		return b, x, nil
	}
	tail := p.mu.tail
	i := sort.Search(len(tail), func(i int) bool { return tail[i].end > offset })
	if i == len(tail) || tail[i].base > offset {
		return b, x, fmt.Errorf("%w: offset %d is not in the tail: %w", errUnloaded, offset, ErrNotLeader)
	}
	want := uint32(offset - tail[i].base)
	batches := tail[i].batches
	j := sort.Search(len(batches), func(j int) bool { return batches[j].end > want })
	if j == len(batches) {
		return b, x, fmt.Errorf("an extent of the tail has no batch with offset %d: %w", offset, ErrCorrupt)
	}
	b.Oldest = batches[j].maxTS
	return b, x, nil
}

// timeOfRun is the largest timestamp of the index entry that holds x.offset, in the footer of its object.
func (e *Engine) timeOfRun(ctx context.Context, x *stored) (int64, error) {
	footer, err := e.openStored(e.onBehalf(ctx, x.tp.Topic), x)
	if err != nil {
		if errors.Is(err, errStaleRow) || errors.Is(err, objstore.ErrNotFound) {
			return -1, err
		}
		return -1, translateRead(err)
	}
	run, ok := footer.FindRun(x.tp, max(x.offset, x.base))
	if !ok {
		return -1, fmt.Errorf("%w: %s has no offset %d of %s", ErrCorrupt, x.key, x.offset, x.tp)
	}
	return run.MaxTimestamp, nil
}
