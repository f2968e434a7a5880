package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// channel is what listeners listen to. Channels are the database's own.
	channel = "streamhouse"
	// maxAnnouncers bounds how many brokers' announcements wait: wake-ups may be lost.
	maxAnnouncers = 1024
)

// inbox is announcements that wait, at most one of each broker. Safe for concurrent use.
type inbox struct {
	wake chan struct{} // capacity 1: there is something

	mu struct {
		sync.Mutex
		waiting []catalog.Announcement
	}
}

func (b *inbox) put(a catalog.Announcement) {
	b.mu.Lock()
	if i := slices.IndexFunc(b.mu.waiting, func(w catalog.Announcement) bool { return w.From == a.From }); i >= 0 {
		b.mu.waiting[i] = b.mu.waiting[i].Merge(a)
	} else if len(b.mu.waiting) < maxAnnouncers {
		b.mu.waiting = append(b.mu.waiting, a)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default: // awake
	}
}

func (b *inbox) take() []catalog.Announcement {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.mu.waiting
	b.mu.waiting = nil
	return out
}

// announcer sends this handle's announcements.
type announcer struct {
	inbox

	handle string // random: by it a handle knows its own
}

func (a *announcer) init() {
	a.wake = make(chan struct{}, 1)
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	a.handle = hex.EncodeToString(id[:])
}

// A payload is the handle, From, Last and the flags, with spaces between.
const (
	flagLeases = 1 << iota
	flagTopics
	flagLeaving
)

func encodeAnnouncement(handle string, a catalog.Announcement) string {
	flags := 0
	for flag, set := range map[int]bool{flagLeases: a.Leases, flagTopics: a.Topics, flagLeaving: a.Leaving} {
		if set {
			flags |= flag
		}
	}
	return handle + " " + strconv.FormatInt(int64(a.From), 10) + " " + strconv.FormatInt(int64(a.Last), 10) + " " + strconv.Itoa(flags)
}

// decodeAnnouncement reads a payload. Anybody may notify: what is not a payload of ours is passed over, and further fields
// are, so that a newer program may say more.
func decodeAnnouncement(payload string) (handle string, a catalog.Announcement, ok bool) {
	fields := strings.Fields(payload)
	if len(fields) < 4 {
		return "", a, false
	}
	from, err1 := strconv.ParseInt(fields[1], 10, 64)
	last, err2 := strconv.ParseInt(fields[2], 10, 64)
	flags, err3 := strconv.Atoi(fields[3])
	if err1 != nil || err2 != nil || err3 != nil {
		return "", a, false
	}
	return fields[0], catalog.Announcement{
		From: catalog.BrokerEpoch(from), Last: catalog.Sequence(last),
		Leases: flags&flagLeases != 0, Topics: flags&flagTopics != 0, Leaving: flags&flagLeaving != 0,
	}, true
}

// Announce implements [catalog.Fleet]. It only notes the announcement; see announcing.
func (c *Catalog) Announce(ctx context.Context, a catalog.Announcement) error {
	if c.closed.Err() != nil {
		return fmt.Errorf("announce: %w", catalog.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("announce: %w", translate(ctx, err))
	}
	c.wakes.put(a)
	return nil
}

// announcing sends what waits, all of it in one statement, while the catalog is open. While one is under way the next ones
// gather. NOTIFY never shares a transaction with a commit: Postgres takes a database-wide lock for it.
func (c *Catalog) announcing() {
	for {
		select {
		case <-c.closed.Done():
			return
		case <-c.wakes.wake:
		}
		waiting := c.wakes.take()
		payloads := make([]string, len(waiting))
		for i, a := range waiting {
			payloads[i] = encodeAnnouncement(c.wakes.handle, a)
		}
		if len(payloads) == 0 {
			continue
		}
		err := c.statement(c.closed, c.urgent, "announce", func(ctx context.Context) error {
			_, err := c.urgent.Exec(ctx, "SELECT pg_notify('"+channel+"', p) FROM unnest($1::text[]) p", payloads)
			return err
		})
		if err != nil && c.closed.Err() == nil {
			c.log.Warn("announcements are lost; others find out by their heartbeats", "brokers", len(payloads), "error", err)
		}
	}
}

// Listen implements [catalog.Fleet], on a connection of its own. The connection is read by another goroutine, so that a
// slow fn leaves nothing lying at the server.
func (c *Catalog) Listen(ctx context.Context, fn func(catalog.Announcement)) error {
	heard := inbox{wake: make(chan struct{}, 1)}
	err := c.listen(ctx, fn, &heard)
	if c.closed.Err() != nil {
		return fmt.Errorf("listen: %w", catalog.ErrClosed)
	}
	return fmt.Errorf("listen: %w", translate(ctx, err))
}

func (c *Catalog) listen(ctx context.Context, fn func(catalog.Announcement), heard *inbox) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.calls.add(cancel)()
	opening, opened := context.WithTimeout(ctx, c.urgent.timeout) // a server that is gone answers neither yes nor no
	defer opened()
	conn, err := c.session(opening, func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if handle, a, ok := decodeAnnouncement(n.Payload); ok && handle != c.wakes.handle {
			heard.put(a)
		}
	})
	if err != nil {
		return err
	}
	if _, err := conn.Exec(opening, "LISTEN "+channel); err != nil {
		closeConn(ctx, conn)
		return err
	}
	lost := make(chan error, 1)
	go func() {
		defer closeConn(ctx, conn)
		lost <- c.idle(ctx, conn)
	}()
	fn(catalog.Announcement{})
	for {
		select {
		case err := <-lost:
			return err
		case <-heard.wake:
			for _, a := range heard.take() {
				fn(a)
			}
		}
	}
}

// session opens a connection that stays, past any pooler.
func (c *Catalog) session(ctx context.Context, heard pgconn.NotificationHandler) (*pgx.Conn, error) {
	if c.closed.Err() != nil {
		return nil, catalog.ErrClosed
	}
	cfg, err := c.opts.connConfig(c.opts.SessionURL, c.opts.UrgentTimeout, c.opts.UrgentTimeout)
	if err != nil {
		return nil, err
	}
	// If this process falls silent, the server must notice soon: others wait for it.
	cfg.RuntimeParams["tcp_keepalives_idle"], cfg.RuntimeParams["tcp_keepalives_interval"] = "2", "1"
	cfg.RuntimeParams["tcp_keepalives_count"] = "3"
	cfg.OnNotification = heard
	return pgx.ConnectConfig(ctx, cfg)
}

// idle waits on a connection until it is lost or ctx ends, and returns why. Notifications are handled meanwhile.
func (c *Catalog) idle(ctx context.Context, conn *pgx.Conn) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, sessionProbe)
		err := conn.PgConn().WaitForNotification(waiting)
		cancel()
		if err == nil {
			continue
		}
		if ctx.Err() != nil || !pgconn.Timeout(err) || conn.IsClosed() {
			return err
		}
		probing, cancel := context.WithTimeout(ctx, c.opts.UrgentTimeout)
		err = conn.Ping(probing)
		cancel()
		if err != nil {
			return err
		}
	}
}
