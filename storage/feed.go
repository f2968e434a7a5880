package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// followRows is how many tail rows are read at a time.
const followRows = 1000

// errFolded: rows that were due are gone, and what is known of the fold does not explain it.
var errFolded = errors.New("rows of the tail are gone")

// feed follows the tails of all other broker epochs: each from its cursor on, without gaps, in the order of its commits.
// Rows that were folded before they were read are no gap: what they said is in the folded rows, which partitions that were
// loaded before have to load again.
type feed struct {
	turn chan struct{} // capacity 1: guards what follows up to wake
	// cursors are how far each epoch was read; newest the largest epoch ever listed.
	cursors map[catalog.BrokerEpoch]*cursor
	newest  catalog.BrokerEpoch
	// gapped are partitions whose extents did not hang together after some complete look. One that does not after the
	// next either has lost rows to a fold.
	gapped map[*partition]int
	round  int
	// lookedAt is when the positions of the last complete look were answered: older ones are of no use.
	lookedAt time.Time
	// decoded, of a broker that is alone: the indexes of what was read, for the take-over that follows at once.
	decoded map[*tailObject]*segment.Index

	wake chan struct{} // capacity 1
	seen atomic.Int64  // when the positions of the last complete look were asked for, since term.start

	mu struct {
		sync.Mutex
		heard map[catalog.BrokerEpoch]catalog.Sequence // announced
		tails []catalog.BrokerTail                     // of the last heartbeat
		asked time.Time                                // when that was asked
		all   bool                                     // look at everything
	}
}

type cursor struct {
	after  catalog.Sequence
	folded catalog.Sequence
	merges int64
	// When after, folded and merges were read.
	readAt, foldedAt, mergedAt time.Time
	// vouched is up to where commits are known to be durable, not only seen: their broker announced them, which it does
	// once they were acknowledged, or they came with the answer to a heartbeat, which is a later commit.
	vouched catalog.Sequence
}

func (f *feed) init() {
	f.turn, f.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	f.cursors = make(map[catalog.BrokerEpoch]*cursor)
	f.gapped = make(map[*partition]int)
	f.decoded = make(map[*tailObject]*segment.Index)
	f.mu.heard = make(map[catalog.BrokerEpoch]catalog.Sequence)
}

func (f *feed) ring() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take waits for the feed's turn.
func (f *feed) take(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("follow the other brokers: %w", ctx.Err())
	}
}

func (f *feed) give() { <-f.turn }

// Heard is told of each announcement that other brokers made; with the zero one the engine looks at everything. It does
// not block.
func (e *Engine) Heard(a catalog.Announcement) {
	t := e.term.Load()
	if t == nil || e.cfg.Fleet == nil || a.From == t.epoch {
		return
	}
	f := &t.feed
	f.mu.Lock()
	if a == (catalog.Announcement{}) {
		f.mu.all = true
	}
	if a.Last > 0 {
		f.mu.heard[a.From] = max(f.mu.heard[a.From], a.Last)
	}
	f.mu.Unlock()
	f.ring()
}

// positions takes what a heartbeat said of all brokers: the backstop for announcements that were lost.
func (t *term) positions(beat *catalog.Heartbeat, asked time.Time) {
	if t.e.cfg.Fleet != nil {
		t.e.topicsVersion(beat.TopicsVersion)
		f := &t.feed
		f.mu.Lock()
		f.mu.tails, f.mu.asked = beat.Tails, asked
		f.mu.all = f.mu.all || beat.Tails == nil
		f.mu.Unlock()
		f.ring()
	}
	if t.e.cfg.Hooks.Heartbeat != nil {
		t.e.cfg.Hooks.Heartbeat(*beat)
	}
}

// follow keeps the tail of the cluster in memory, for as long as the term lives.
func (t *term) follow(ctx context.Context) {
	wait := backoff{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.feed.wake:
		}
		err := t.catchUp(ctx)
		if err == nil {
			wait = backoff{}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if fatal(err) {
			t.fail(err)
			return
		}
		if n, log := t.e.quiet.loud("follow"); log {
			t.e.cfg.Logger.Warn("cannot follow the other brokers, trying again", "failures", n, "error", err)
		}
		t.feed.mu.Lock()
		t.feed.mu.all = true
		t.feed.mu.Unlock()
		t.feed.ring()
		if !wait.sleep(ctx) {
			return
		}
	}
}

// catchUp looks at what was heard since the last time.
func (t *term) catchUp(ctx context.Context) error {
	f := &t.feed
	f.mu.Lock()
	heard, tails, asked, all := f.mu.heard, f.mu.tails, f.mu.asked, f.mu.all
	f.mu.heard = make(map[catalog.BrokerEpoch]catalog.Sequence)
	f.mu.tails, f.mu.all = nil, false
	f.mu.Unlock()
	if len(heard) > 0 {
		known, err := t.readHeard(ctx, heard)
		if err != nil {
			return err
		}
		all = all || !known
	}
	if all {
		tails = nil
	}
	if all || tails != nil {
		return t.look(ctx, tails, asked)
	}
	return nil
}

// readHeard reads what was announced: one call for each broker that has news. False when that is not enough.
func (t *term) readHeard(ctx context.Context, heard map[catalog.BrokerEpoch]catalog.Sequence) (known bool, err error) {
	f := &t.feed
	if err := f.take(ctx); err != nil {
		return false, err
	}
	defer f.give()
	known = true
	for epoch, last := range heard {
		c := f.cursors[epoch]
		if c == nil {
			known = known && epoch < f.newest // one that is over
			continue
		}
		c.vouched = max(c.vouched, last)
		switch err := t.readOn(ctx, epoch, c, last); {
		case errors.Is(err, errFolded):
			known = false
		case err != nil:
			return false, err
		}
	}
	return known, nil
}

// look follows every broker epoch to where tails, of a heartbeat, says it is; nil: to where it is now. asked is when tails was asked for.
func (t *term) look(ctx context.Context, tails []catalog.BrokerTail, asked time.Time) error {
	f := &t.feed
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.give()
	if tails != nil && asked.Before(f.lookedAt) {
		return nil // a look that was begun later came first
	}
	for tries, vouched := 0, tails != nil; ; tries++ {
		if tails == nil {
			var err error
			vouched = false
			asked = time.Now()
			if tails, err = t.e.cfg.Catalog.BrokerTails(ctx); err != nil {
				return fmt.Errorf("list tails: %w", err)
			}
			f.lookedAt = time.Now()
		}
		err := t.readAll(ctx, tails, asked, vouched)
		if !errors.Is(err, errFolded) || tries == 5 {
			return err
		}
		tails = nil
	}
}

// readAll is one complete look. vouched: tails came with a heartbeat.
func (t *term) readAll(ctx context.Context, tails []catalog.BrokerTail, asked time.Time, vouched bool) error {
	f := &t.feed
	listed := make(map[catalog.BrokerEpoch]bool, len(tails))
	missed := asked.Sub(t.start)-time.Duration(f.seen.Load()) > t.e.cfg.Registration.TTL // brokers may have come and gone
	newest := f.newest
	for i := range tails {
		listed[tails[i].Epoch] = true
		newest = max(newest, tails[i].Epoch)
	}
	for epoch := f.newest + 1; epoch < newest && !missed; epoch++ {
		missed = !listed[epoch]
	}
	f.newest = newest
	if vouched {
		t.e.sawEpoch(newest)
	}
	for epoch := range f.cursors {
		if !listed[epoch] { // folded to its end, which we may not have seen
			t.dropFolded(epoch, endOfTail)
			delete(f.cursors, epoch)
			missed = true
		}
	}
	for i := range tails {
		if tails[i].Epoch != t.epoch {
			m, err := t.readEpoch(ctx, &tails[i], asked)
			missed = missed || m
			if c := t.feed.cursors[tails[i].Epoch]; vouched {
				c.vouched = max(c.vouched, tails[i].Last)
			}
			if err != nil {
				if missed {
					t.reloadFollowed()
				}
				return err
			}
		}
	}
	if missed {
		t.reloadFollowed()
	}
	t.closeGaps()
	f.seen.Store(int64(asked.Sub(t.start)))
	return nil
}

// endOfTail is beyond every sequence.
const endOfTail = catalog.Sequence(1<<63 - 1)

// readEpoch brings one broker epoch to its position. It reports whether rows were folded before they were read.
func (t *term) readEpoch(ctx context.Context, bt *catalog.BrokerTail, asked time.Time) (missed bool, err error) {
	c := t.feed.cursors[bt.Epoch]
	if c == nil {
		c = &cursor{after: bt.Folded, folded: bt.Folded, merges: bt.Merges, foldedAt: time.Now(), mergedAt: time.Now()}
		t.feed.cursors[bt.Epoch] = c
		missed = bt.Folded > 0
	}
	if err := t.checkFollowed(ctx, c, bt, asked); err != nil {
		return false, err
	}
	if bt.Folded < c.folded && asked.After(c.foldedAt) || bt.Merges < c.merges && asked.After(c.mergedAt) {
		return false, t.undone(bt, c)
	}
	if bt.Folded > c.folded {
		t.dropFolded(bt.Epoch, bt.Folded)
		c.folded, c.foldedAt = bt.Folded, time.Now()
	}
	if bt.Folded > c.after {
		c.after, missed = bt.Folded, true
	}
	if err := t.readOn(ctx, bt.Epoch, c, bt.Last); err != nil {
		return missed, err
	}
	for c.merges < bt.Merges {
		rows, err := t.e.cfg.Fleet.ReadMerges(ctx, bt.Epoch, c.merges, followRows)
		if err != nil {
			return missed, fmt.Errorf("read the merges of broker epoch %d: %w", bt.Epoch, err)
		}
		for i := range rows {
			if rows[i].Last > c.after {
				break // a later one, of rows that are not read yet: they come with it
			}
			if err := t.takeMerge(&rows[i]); err != nil {
				return missed, err
			}
			c.merges, c.mergedAt = rows[i].Merge, time.Now()
		}
		if len(rows) < followRows || rows[len(rows)-1].Merge > c.merges {
			c.merges, c.mergedAt = max(c.merges, bt.Merges), time.Now()
		}
	}
	return missed, nil
}

// readOn reads the rows of one broker epoch behind its cursor, up to last at least.
func (t *term) readOn(ctx context.Context, epoch catalog.BrokerEpoch, c *cursor, last catalog.Sequence) error {
	for c.after < last {
		rows, err := t.e.cfg.Catalog.ReadTail(ctx, epoch, c.after, followRows)
		if err != nil {
			return fmt.Errorf("read the tail of broker epoch %d: %w", epoch, err)
		}
		if len(rows) == 0 || rows[0].First > c.after+1 {
			return fmt.Errorf("tail of broker epoch %d has a hole after sequence %d: %w", epoch, c.after, errFolded)
		}
		for i := range rows {
			if rows[i].First > c.after+1 {
				return fmt.Errorf("tail of broker epoch %d has a hole after sequence %d", epoch, c.after)
			}
			if err := t.takeRow(&rows[i], c.after); err != nil {
				return err
			}
			c.after, c.readAt = rows[i].Last, time.Now()
		}
		if hook := t.e.cfg.Hooks.Followed; hook != nil {
			hook(len(rows), max(0, t.e.clock.now().Sub(rows[0].CommittedAt))) // the clock may be late here
		}
	}
	return nil
}

// fresh tells whether all brokers were followed to where they were not too long ago.
func (t *term) fresh() bool {
	return time.Since(t.start)-time.Duration(t.feed.seen.Load()) < t.e.cfg.Registration.TTL
}
