package storage

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// Read fills dst with whole batches from the one that holds req.Offset on, at most req.MaxBytes, and with the
// partition's offsets (those also together with ErrOffsetOutOfRange). Nothing to read is not an error. dst must be
// released by the caller, also after an error.
//
// Bytes come from the tail cache, then the block cache, then the store; those from the store are checked against
// their block's checksum before anybody sees them (ErrCorrupt).
func (e *Engine) Read(ctx context.Context, req ReadRequest, dst *Read) error {
	p := e.lookup(req.TP)
	if p == nil {
		return e.absent(req.TP)
	}
	if err := e.load(ctx, p); err != nil {
		return err
	}
	return e.read(ctx, p, &req, false, dst)
}

// read is what Read and ReadFollower share.
func (e *Engine) read(ctx context.Context, p *partition, req *ReadRequest, follower bool, dst *Read) error {
	offset := req.Offset
	var ahead ahead
	billed := false
	for retries := 0; ; {
		had := len(dst.Records)
		step, err := p.step(req, offset, follower, dst)
		if n := len(dst.Records) - had; n > 0 && e.cfg.Hooks.TailRead != nil {
			e.cfg.Hooks.TailRead(n)
		}
		if errors.Is(err, ErrOffsetOutOfRange) && !follower { // another broker may know better, and a consumer would skip data
			if unsure := e.affirmed(ctx, p, step.reign); unsure != nil {
				return unsure
			}
		}
		if err != nil || step.done {
			return err
		}
		if enough := dst.Bytes > 0 || !req.MinOne; enough && !req.Until.IsZero() && time.Now().After(req.Until) {
			return nil
		}
		if step.rows {
			err := e.loadRows(ctx, p, offset)
			if errors.Is(err, errStaleRow) && retries < 2 {
				retries++ // the log start moved meanwhile: look again
				if err = e.lookAgain(ctx, p, follower); err == nil {
					continue
				}
			}
			if err != nil {
				return err
			}
			continue
		}
		if !billed {
			billed, ctx = true, e.onBehalf(ctx, req.TP.Topic)
		}
		var next int64
		if err = ahead.start(ctx, e, p, &step, int64(req.MaxBytes-dst.Bytes)); err == nil {
			next, err = e.readStored(ctx, &step, req.MaxBytes, req.MinOne, dst)
		}
		if (errors.Is(err, objstore.ErrNotFound) || errors.Is(err, errStaleRow)) && retries < 2 {
			// The object was merged away and its grace passed between our look at the extents and the read. Look again.
			retries++
			if err = e.lookAgain(ctx, p, follower); err == nil {
				continue
			}
		}
		if err != nil {
			if dst.Bytes > 0 { // what was read is right; the next fetch meets the error
				return nil
			}
			return fmt.Errorf("read %s at offset %d: %w", req.TP, offset, translateRead(err))
		}
		if next == offset {
			return nil
		}
		offset = next
	}
}

// lookAgain has what was cached of a partition's manifest read anew, where it turned out to be old.
func (e *Engine) lookAgain(ctx context.Context, p *partition, follower bool) error {
	p.mu.Lock()
	p.dropRowsLocked()
	if follower && p.mu.term == nil {
		p.mu.loadedAt = time.Time{} // the log start may have moved
	}
	p.mu.Unlock()
	t := e.term.Load()
	if t == nil || e.cfg.Fleet == nil {
		return nil
	}
	if err := t.look(ctx, nil, time.Time{}); err != nil { // others merge and fold, too
		return translate(err)
	}
	if follower {
		return t.loadFollowed(ctx, p)
	}
	return nil
}

// stored locates an extent whose bytes must come through the block cache.
type stored struct {
	tp        catalog.TopicPartition
	object    catalog.ObjectID
	key       string // empty: ask the catalog
	size      int64
	offset    int64 // where to start
	base, end int64 // offsets of the extent
	pos, len  int64 // bytes of the extent

	done bool // nothing (more) to read
	rows bool // packed rows must be loaded first

	reign reign // with ErrOffsetOutOfRange: who says so
}

// step copies what the tail cache has from offset on and returns where to go on.
func (p *partition) step(req *ReadRequest, offset int64, follower bool, dst *Read) (stored, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.term == nil && !follower || !p.mu.loaded {
		if p.mu.dropped {
			return stored{}, fmt.Errorf("read %s: %w", p.tp, ErrUnknownPartition)
		}
		if follower {
			return stored{}, fmt.Errorf("read %s: %w: %w", p.tp, errUnloaded, ErrNotLeader)
		}
		return stored{}, fmt.Errorf("read %s: %w", p.tp, ErrNotLeader)
	}
	off := p.offsetsLocked()
	dst.HighWatermark, dst.LastStable, dst.LogStart = off.HighWatermark, off.LastStable, off.LogStart
	limit := off.HighWatermark
	if req.ReadCommitted {
		limit = off.LastStable
	}
	end := off.HighWatermark
	if !follower {
		// Followers may know of a commit whose answer is still on its way here, and have sent a consumer on: up to here it exists, or will.
		end = max(end, p.mu.next)
	}
	if req.Offset < off.LogStart || req.Offset > end {
		if !follower && (p.mu.closed || !p.mu.term.trusted()) {
			return stored{}, fmt.Errorf("read %s: lease not renewed in time: %w", p.tp, ErrNotLeader)
		}
		return stored{reign: p.reignLocked()}, fmt.Errorf("read %s at offset %d, log is [%d, %d): %w", p.tp, req.Offset, off.LogStart, off.HighWatermark, ErrOffsetOutOfRange)
	}
	if offset >= limit || dst.Bytes >= req.MaxBytes && (dst.Bytes > 0 || !req.MinOne) {
		return stored{done: true}, nil
	}
	if offset < p.mu.foldedEnd {
		return p.foldedLocked(offset), nil
	}
	tail := p.mu.tail
	for i := sort.Search(len(tail), func(i int) bool { return tail[i].end > offset }); i < len(tail); i++ {
		x := &tail[i]
		if x.base > offset || offset >= limit { // followed, and what lies between is not read yet
			return stored{done: true}, nil
		}
		if !x.obj.tryRetain() {
			return stored{
				tp: p.tp, object: x.obj.row.Object, key: x.obj.row.Key, size: x.obj.row.Size,
				offset: max(offset, x.base), base: x.base, end: x.end, pos: x.pos, len: x.size(),
			}, nil
		}
		dst.pins = append(dst.pins, x.obj)
		if full := x.take(max(offset, x.base), req, dst); full {
			return stored{done: true}, nil
		}
		offset = x.end
	}
	return stored{done: true}, nil
}

// take appends cached batches from offset on; it reports that the read is full.
func (x *tailExtent) take(offset int64, req *ReadRequest, dst *Read) bool {
	want := uint32(offset - x.base)
	i := sort.Search(len(x.batches), func(i int) bool { return x.batches[i].end > want })
	for ; i < len(x.batches); i++ {
		b := x.obj.slices[x.first+i]
		if dst.Bytes+len(b) > req.MaxBytes && (dst.Bytes > 0 || !req.MinOne) {
			return true
		}
		dst.Records = append(dst.Records, b)
		dst.Bytes += len(b)
	}
	return dst.Bytes >= req.MaxBytes
}

// foldedLocked finds the packed extent that holds offset, or the first one after it.
func (p *partition) foldedLocked(offset int64) stored {
	for i := range p.mu.rows {
		r := &p.mu.rows[i]
		if offset < r.base || offset >= r.end {
			continue
		}
		j := sort.Search(len(r.extents), func(j int) bool { return r.extents[j].End > offset })
		if j == len(r.extents) {
			break
		}
		x := &r.extents[j]
		return stored{
			tp: p.tp, object: x.Object, offset: max(offset, x.Base), base: x.Base, end: x.End, pos: x.Pos, len: x.Len,
		}
	}
	return stored{rows: true}
}

// loadRows brings the packed rows around offset into memory. A hole in the folded offsets (records dropped by
// retention while a read was under way) is bridged by stretching the row after it downwards.
func (e *Engine) loadRows(ctx context.Context, p *partition, offset int64) error {
	p.mu.Lock()
	stamp := p.mu.rowsStamp
	p.mu.Unlock()
	rows, err := e.cfg.Catalog.PackedRows(ctx, p.tp, offset, 2)
	if err != nil {
		return fmt.Errorf("read the manifest of %s: %w", p.tp, translate(err))
	}
	loaded := make([]cachedRow, 0, len(rows))
	for i, r := range rows {
		xs, err := segment.DecodePacked(r.Extents)
		if err != nil {
			return fmt.Errorf("decode a packed row of %s at %d: %w: %w", p.tp, r.Base, ErrCorrupt, err)
		}
		row := cachedRow{base: r.Base, end: r.End, extents: xs}
		if i == 0 {
			row.base = min(row.base, offset)
		}
		loaded = append(loaded, row)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.rowsStamp != stamp {
		return nil // changed meanwhile: the caller looks again
	}
	if len(loaded) == 0 {
		return fmt.Errorf("read %s at offset %d: the manifest names nothing below %d: %w: %w", p.tp, offset, p.mu.foldedEnd, errStaleRow, ErrCorrupt)
	}
	p.mu.rows = append(p.mu.rows, loaded...)
	if n := len(p.mu.rows); n > maxCachedRows {
		p.mu.rows = append([]cachedRow(nil), p.mu.rows[n-maxCachedRows:]...)
	}
	return nil
}

// Offsets returns what clients are told of the partition.
func (e *Engine) Offsets(ctx context.Context, tp catalog.TopicPartition) (Offsets, error) {
	p, err := e.lockLed(ctx, tp)
	if err != nil {
		return Offsets{}, err
	}
	defer p.mu.Unlock()
	return p.offsetsLocked(), nil
}

// lockLed returns the partition, loaded and locked, if this broker leads it now. What is answered under that lock
// was true under a lease trusted at that moment; the caller unlocks.
func (e *Engine) lockLed(ctx context.Context, tp catalog.TopicPartition) (*partition, error) {
	p := e.lookup(tp)
	if p == nil {
		return nil, e.absent(tp)
	}
	if err := e.load(ctx, p); err != nil {
		return nil, err
	}
	p.mu.Lock()
	if !p.leadsLocked() || !p.mu.loaded || !p.mu.term.trusted() {
		p.mu.Unlock()
		return nil, e.absent(tp)
	}
	return p, nil
}

// Producers lists the idempotent producers the partition remembers. ErrCorrupt: they are damaged.
func (e *Engine) Producers(ctx context.Context, tp catalog.TopicPartition) ([]ProducerState, error) {
	p, err := e.lockLed(ctx, tp)
	if err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	if p.mu.damage != nil {
		return nil, fmt.Errorf("list the producers of %s: %w: %w", tp, ErrCorrupt, p.mu.damage)
	}
	return p.mu.producers.states(), nil
}

// EndOfEpoch answers OffsetForLeaderEpoch (KIP-101, KIP-320).
func (e *Engine) EndOfEpoch(ctx context.Context, tp catalog.TopicPartition, epoch int32) (EpochEnd, error) {
	p, err := e.lockLed(ctx, tp)
	if err != nil {
		return EpochEnd{}, err
	}
	defer p.mu.Unlock()
	if epoch == p.mu.leaderEpoch {
		// As Kafka, also what is not committed: followers may know of a commit whose answer is still on its way here.
		return EpochEnd{Epoch: epoch, End: max(p.offsetsLocked().HighWatermark, p.mu.next)}, nil
	}
	if epoch > p.mu.leaderEpoch || epoch < 0 {
		return EpochEnd{Epoch: -1, End: -1}, nil
	}
	epochs := p.mu.epochs
	i := sort.Search(len(epochs), func(i int) bool { return int32(epochs[i].Epoch) > epoch })
	end := p.mu.hw
	if i < len(epochs) {
		end = epochs[i].Start
	}
	if i == 0 { // older than all that is known: the log starts where the first known epoch does
		return EpochEnd{Epoch: epoch, End: max(end, p.mu.logStart)}, nil
	}
	return EpochEnd{Epoch: int32(epochs[i-1].Epoch), End: max(end, p.mu.logStart)}, nil
}

// DeleteRecords moves the log start up to before, durably; -1 means the high watermark. It returns where the log starts for good.
func (e *Engine) DeleteRecords(ctx context.Context, tp catalog.TopicPartition, before int64) (int64, error) {
	p, err := e.lockLed(ctx, tp)
	if err != nil {
		return -1, err
	}
	off, t, reign := p.offsetsLocked(), p.mu.term, p.reignLocked()
	p.mu.Unlock()
	if before == -1 {
		before = off.HighWatermark
	}
	if before < 0 || before > off.HighWatermark {
		if err := e.affirmed(ctx, p, reign); err != nil {
			return -1, err
		}
		return -1, fmt.Errorf("delete records of %s before %d, high watermark is %d: %w", tp, before, off.HighWatermark, ErrOffsetOutOfRange)
	}
	// Also when that is where the log starts: this broker may only have seen it, and a fail-over may undo it. What is answered
	// must have been written.
	start, err := e.cfg.Catalog.SetLogStart(ctx, t.epoch, tp, max(before, off.LogStart))
	if err != nil {
		e.trims.note(tp) // it may have moved all the same
		return -1, fmt.Errorf("move the log start of %s: %w", tp, translate(err))
	}
	var b bell
	p.mu.Lock()
	if start > p.mu.logStart {
		p.mu.logStart = start
		b.add(p)
	}
	p.mu.Unlock()
	e.trims.note(tp)
	b.ring()
	return start, nil
}

// errUnloaded: what was known of a partition that is followed turned out to be old.
var errUnloaded = errors.New("partition must be loaded again")
