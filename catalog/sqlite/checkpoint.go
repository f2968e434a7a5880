package sqlite

import (
	"fmt"
	"time"
)

const (
	// passiveBytes: about this much written, the write-ahead log is copied into the file.
	passiveBytes = 4 << 20
	// wrapBytes: once the log is this long the writer itself copies the little that is left, so that its next
	// transaction starts the log from the beginning.
	wrapBytes = 12 << 20
	// restPages is how little of the log should be left when the writer is asked to copy the rest, because commits wait
	// for that.
	restPages = 64
	// keepBytes is how long the log's file may stay after it was started anew.
	keepBytes = 16 << 20
	// tidyEvery: a log with anything new in it is copied at least this often, so that a crash leaves little to recover.
	tidyEvery = 5 * time.Second

	pageBytes = 4096
)

// checkpointer copies the log into the file, on its own connection, off the commit path. A passive checkpoint blocks
// nobody. Under constant load it never reaches the log's end before the next commit moves it, and a log that is not
// copied to its end is never started anew; so when the log gets long, the writer is asked to copy the rest.
func (c *Catalog) checkpointer(db *conn) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-c.dirty:
		case <-tick.C:
			if !c.unclean.Load() {
				continue
			}
		}
		c.unclean.Store(false)
		pages, err := ahead(db)
		if err != nil {
			c.log.Warn("cannot copy the catalog's write-ahead log, will try again", "error", err)
			continue
		}
		if pages*pageBytes < wrapBytes {
			continue
		}
		answer := make(chan error, 1)
		select {
		case c.finish <- answer:
			if err := <-answer; err != nil {
				c.log.Warn("cannot finish copying the catalog's write-ahead log, will try again", "error", err)
			}
		case <-c.closing:
			return
		}
	}
}

// ahead copies the log, and when it is long and about to be finished by the writer, also what was written while it was
// copied, as long as that is much. It returns the log's length in pages.
func ahead(db *conn) (pages int64, err error) {
	before := int64(0)
	for range 4 {
		var copied int64
		if pages, copied, err = passive(db); err != nil {
			return 0, err
		}
		if pages*pageBytes < wrapBytes || before > 0 && copied-before < restPages {
			break
		}
		before = copied
	}
	return pages, nil
}

// passive copies what can be copied without waiting for anybody. It returns the log's length and how much of it is
// copied, in pages.
func passive(db *conn) (pages, copied int64, err error) {
	err = db.query(db.whole, "PRAGMA wal_checkpoint(PASSIVE)", func(r row) error {
		pages, copied = r.int(1), r.int(2)
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("checkpoint: %w", translate(err))
	}
	return pages, copied, nil
}

// backfill is the writer's part of a checkpoint.
func (c *Catalog) backfill() error {
	_, _, err := passive(c.db)
	return err
}

// noteWritten tells the checkpointer when enough was written.
func (c *Catalog) noteWritten() {
	c.unclean.Store(true)
	if c.db.bound < passiveBytes/4 { // a page or more per statement, of which about 1 KiB was counted
		return
	}
	c.db.bound = 0
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}
