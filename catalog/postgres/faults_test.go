package postgres_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

func register(tb testing.TB, c catalog.Catalog, id byte) catalog.BrokerEpoch {
	tb.Helper()
	b, err := c.RegisterBroker(tb.Context(), catalog.Registration{ID: catalog.BrokerID(id), Incarnation: [16]byte{1, id}, TTL: 2 * time.Second})
	require.NoError(tb, err)
	return b.Epoch
}

func entry(epoch catalog.BrokerEpoch, seq catalog.Sequence) catalog.TailEntry {
	id := catalog.ObjectID(int64(epoch)*1_000_000 + int64(seq))
	return catalog.TailEntry{
		Epoch: epoch, First: seq, Last: seq, Object: id, Key: "log/" + time.Duration(id).String(), Size: 100, Index: []byte("index"),
	}
}

func commit(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, seq catalog.Sequence) error {
	_, err := c.Commit(ctx, epoch, []catalog.TailEntry{entry(epoch, seq)})
	return err
}

// settle commits a sequence as the contract says when answers are lost: the same again, until it is known to be there.
func settle(tb testing.TB, c catalog.Catalog, epoch catalog.BrokerEpoch, seq catalog.Sequence) {
	tb.Helper()
	eventually(tb, "a commit goes through", func() bool {
		err := commit(tb.Context(), c, epoch, seq)
		if err == nil {
			return true
		}
		if !catalog.Retriable(err) {
			require.ErrorIs(tb, err, catalog.ErrSequence)
			row, err := c.TailAt(tb.Context(), epoch, seq)
			if catalog.Retriable(err) {
				return false
			}
			require.NoError(tb, err)
			require.Equal(tb, entry(epoch, seq).Object, row.Object, "somebody else's")
			return true
		}
		return false
	})
}

func eventually(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		require.True(tb, time.Now().Before(deadline), "waited for: %s", what)
		<-tick.C
	}
}

// waiting waits until n connections of the database wait for a lock.
func waiting(tb testing.TB, conn *pgx.Conn, n int) {
	tb.Helper()
	eventually(tb, "statements that wait for a lock", func() bool {
		var found int
		require.NoError(tb, conn.QueryRow(tb.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&found))
		return found == n
	})
}

// TestOverlapped makes each of commit, release, acquire and fold wait behind a fence under way, and the fence behind each of
// them, on real connections, and looks at who may go on.
func TestOverlapped(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) error{
		"commit": func(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, _ []catalog.TopicPartition) error {
			return commit(ctx, c, epoch, 2)
		},
		"release": func(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) error {
			return c.ReleaseLeases(ctx, epoch, tps)
		},
		"acquire": func(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, _ []catalog.TopicPartition) error {
			_, err := c.AcquireLeases(ctx, epoch, nil)
			return err
		},
		"acquire what is held": func(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) error {
			_, err := c.AcquireLeases(ctx, epoch, tps)
			return err
		},
		"log start": func(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) error {
			_, err := c.SetLogStart(ctx, epoch, tps[0], 5)
			return err
		},
		"fold": func(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, tps []catalog.TopicPartition) error {
			e := entry(epoch, 1)
			return c.Fold(ctx, epoch, catalog.Fold{
				Tail: epoch, Through: 1, Objects: []catalog.Object{{ID: e.Object, Key: e.Key, Size: e.Size, Refs: 1, Live: 1}},
				Rows:       []catalog.PackedRow{{TopicPartition: tps[0], End: 5}},
				Partitions: []catalog.PartitionState{{TopicPartition: tps[0], LogEnd: 5, LastStable: 5}},
			})
		},
		"heartbeat": func(ctx context.Context, c catalog.Catalog, epoch catalog.BrokerEpoch, _ []catalog.TopicPartition) error {
			_, err := c.Heartbeat(ctx, epoch)
			return err
		},
	} {
		for _, fenceFirst := range []bool{true, false} {
			t.Run(name+map[bool]string{true: " after fence", false: " before fence"}[fenceFirst], func(t *testing.T) {
				url := postgrestest.New(t)
				c := open(t, postgres.Options{URL: url, LockTimeout: 30 * time.Second, UrgentTimeout: 30 * time.Second, StatementTimeout: 30 * time.Second})
				watch, held := connect(t, url), connect(t, url)
				epoch := register(t, c, 1)
				topic, err := c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "t", Partitions: 1})
				require.NoError(t, err)
				tps := []catalog.TopicPartition{{Topic: topic.ID}}
				_, err = c.AcquireLeases(t.Context(), epoch, tps)
				require.NoError(t, err)
				require.NoError(t, commit(t.Context(), c, epoch, 1))

				// Somebody holds the broker's row, so that both wait, in the order of their coming.
				tx, err := held.Begin(t.Context())
				require.NoError(t, err)
				_, err = tx.Exec(t.Context(), "SELECT 1 FROM catalog_brokers WHERE epoch = $1 FOR UPDATE", int64(epoch))
				require.NoError(t, err)
				var called, fenced error
				var wg sync.WaitGroup
				steps := []func(){
					func() { fenced = c.FenceBroker(t.Context(), epoch, catalog.FenceProvenDead) },
					func() { called = call(t.Context(), c, epoch, tps) },
				}
				if !fenceFirst {
					steps[0], steps[1] = steps[1], steps[0]
				}
				for i, step := range steps {
					wg.Go(step)
					waiting(t, watch, i+1)
				}
				require.NoError(t, tx.Rollback(t.Context()))
				wg.Wait()
				require.NoError(t, fenced)
				if fenceFirst {
					require.ErrorIs(t, called, catalog.ErrFenced)
				} else if called != nil { // the server need not serve them in order
					require.ErrorIs(t, called, catalog.ErrFenced)
				}
				rows, err := c.ReadTail(t.Context(), epoch, 0, 10)
				require.NoError(t, err)
				want := map[string]int{"commit": 2, "fold": 0}
				n, known := want[name]
				if called != nil || !known {
					n = 1
				}
				require.Len(t, rows, n)
			})
		}
	}
}

// proxy passes connections on to Postgres and can be told to do ill.
type proxy struct {
	l      net.Listener
	target string
	wg     sync.WaitGroup

	swallow atomic.Bool            // answers are dropped, and then the connection
	hold    atomic.Pointer[string] // what contains this is not passed on to the server, nor is anything after it
	passed  atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &proxy{l: l, target: target}
	p.wg.Go(p.serve)
	tb.Cleanup(func() {
		_ = l.Close() // ends serve
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() {
			p.questions(in, out)
			_ = out.Close()
		})
		p.wg.Go(func() { p.answers(in, out) })
	}
}

func (p *proxy) questions(in, out net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if hold := p.hold.Load(); n > 0 && hold != nil && strings.Contains(string(buf[:n]), *hold) {
			_, _ = io.Copy(io.Discard, in) // until the client gives up
			return
		}
		if n > 0 {
			if _, err := out.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) answers(in, out net.Conn) {
	defer func() { _ = in.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		if n > 0 && p.swallow.Load() {
			return // the server did it, nobody hears of it
		}
		if n > 0 {
			p.passed.Add(1)
			if _, err := in.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

func (p *proxy) url(direct string, server *postgrestest.Server) string {
	return strings.Replace(direct, server.Addr(), p.l.Addr().String(), 1)
}

// TestAnswerLost: the server commits and nobody hears of it. The caller is told that it does not know, and settles it.
func TestAnswerLost(t *testing.T) {
	direct := postgrestest.New(t)
	p := newProxy(t, postgrestest.Shared(t).Addr())
	c := open(t, postgres.Options{URL: p.url(direct, postgrestest.Shared(t)), PulseInterval: time.Hour})
	epoch := register(t, c, 1)
	require.NoError(t, commit(t.Context(), c, epoch, 1))

	p.swallow.Store(true)
	err := commit(t.Context(), c, epoch, 2)
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	require.True(t, catalog.Retriable(err))
	p.swallow.Store(false)
	err = commit(t.Context(), c, epoch, 2)
	require.ErrorIs(t, err, catalog.ErrSequence, "it was applied")
	row, err := c.TailAt(t.Context(), epoch, 2)
	require.NoError(t, err)
	require.Equal(t, entry(epoch, 2).Object, row.Object)
	settle(t, c, epoch, 3)

	// A transaction of several statements, its COMMIT's answer lost or an earlier one: the caller cannot tell which.
	spec := catalog.TopicSpec{ID: catalog.TopicID{7}, Name: "t", Partitions: 3}
	p.swallow.Store(true)
	_, err = c.CreateTopic(t.Context(), spec)
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	p.swallow.Store(false)
	topic, err := c.CreateTopic(t.Context(), spec)
	require.NoError(t, err)
	require.EqualValues(t, 3, topic.Partitions)

	// Reads try again by themselves.
	p.cut()
	rows, err := c.ReadTail(t.Context(), epoch, 0, 10)
	require.NoError(t, err)
	require.Len(t, rows, 3)
}

// TestLockedByOthers: a row somebody holds for long makes calls fail with ErrUnavailable in time, and then all is well.
func TestLockedByOthers(t *testing.T) {
	url := postgrestest.New(t)
	c := open(t, postgres.Options{URL: url, LockTimeout: 300 * time.Millisecond})
	epoch := register(t, c, 1)
	held := connect(t, url)
	tx, err := held.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT 1 FROM catalog_brokers FOR UPDATE")
	require.NoError(t, err)
	began := time.Now()
	err = commit(t.Context(), c, epoch, 1)
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	require.Less(t, time.Since(began), 3*time.Second)
	_, err = c.Heartbeat(t.Context(), epoch)
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	require.ErrorIs(t, c.FenceBroker(t.Context(), epoch, catalog.FenceProvenDead), catalog.ErrUnavailable)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, commit(t.Context(), c, epoch, 1), "nothing of the first try was left")
}

// TestPoolExhausted: folds and reads that hang use up their connections, and commits and heartbeats go on.
func TestPoolExhausted(t *testing.T) {
	url := postgrestest.New(t)
	c := open(t, postgres.Options{URL: url, MaxConns: 2, StatementTimeout: 30 * time.Second, LockTimeout: 30 * time.Second})
	epoch := register(t, c, 1)
	_, err := c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{1}, Name: "t", Partitions: 1})
	require.NoError(t, err)
	held, watch := connect(t, url), connect(t, url)
	tx, err := held.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE catalog_partitions IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			// It hangs until the lock is given back. Would it give up, the test had to be done with the rest by then.
			if _, err := c.LoadPartitions(t.Context(), []catalog.TopicPartition{{Topic: catalog.TopicID{1}}}); err != nil {
				t.Error(err)
			}
		})
	}
	waiting(t, watch, 2)
	for seq := range catalog.Sequence(20) {
		require.NoError(t, commit(t.Context(), c, epoch, seq+1))
	}
	_, err = c.Heartbeat(t.Context(), epoch)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = c.ReadTail(short, epoch, 0, 1)
	require.ErrorIs(t, err, catalog.ErrUnavailable, "no connection is free")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, tx.Rollback(t.Context()))
	wg.Wait()
	_, err = c.ReadTail(t.Context(), epoch, 0, 1)
	require.NoError(t, err)
}

// TestTerminated: an administrator ends all connections, again and again, under load. Nothing acknowledged is lost.
func TestTerminated(t *testing.T) {
	url := postgrestest.New(t)
	c := open(t, postgres.Options{URL: url, ApplicationName: "victim"})
	epoch := register(t, c, 1)
	var done atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for seq := catalog.Sequence(1); ; seq++ {
			select {
			case <-stop:
				return
			default:
			}
			settle(t, c, epoch, seq)
			done.Store(int64(seq))
		}
	})
	for range 5 {
		before := done.Load()
		eventually(t, "commits", func() bool { return done.Load() > before+20 })
		terminate(t, url, "victim")
	}
	close(stop)
	wg.Wait()
	rows, err := c.ReadTail(t.Context(), epoch, 0, 1_000_000)
	require.NoError(t, err)
	require.EqualValues(t, done.Load(), len(rows))
}

// TestServerRestarts: restarts and kills of the server under load lose nothing acknowledged, and expire nobody: brokers that
// could not renew their sessions meanwhile get a full term.
func TestServerRestarts(t *testing.T) {
	server, err := postgrestest.Start(postgrestest.Options{Durable: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Close()) }()
	url := server.NewDatabase(t)
	var said lines
	c := open(t, postgres.Options{URL: url, PulseInterval: 200 * time.Millisecond, ConnectTimeout: time.Second, Logger: slog.New(&said)})
	other := open(t, postgres.Options{URL: url, PulseInterval: 200 * time.Millisecond, ConnectTimeout: time.Second})
	epoch, sleeper := register(t, c, 1), register(t, c, 2) // sessions of 2 s
	_, lost, err := c.Attach(t.Context(), epoch)
	require.NoError(t, err)
	var seq catalog.Sequence
	for outage, end := range []func(){server.Stop, server.Kill} {
		for range 20 {
			seq++
			settle(t, c, epoch, seq)
		}
		end()
		down := time.Now()
		eventually(t, "the server to be gone", func() bool { // a killed server's processes end when they notice
			err := commit(t.Context(), c, epoch, seq+1)
			if err == nil {
				seq++
				return false
			}
			require.ErrorIs(t, err, catalog.ErrUnavailable)
			return true
		})
		_, err = c.Heartbeat(t.Context(), epoch)
		require.ErrorIs(t, err, catalog.ErrUnavailable)
		select {
		case <-lost:
		case <-time.After(10 * time.Second):
			t.Fatal("the loss of the attachment was not told")
		}
		_, err = other.Detached(t.Context(), []catalog.BrokerEpoch{epoch})
		require.ErrorIs(t, err, catalog.ErrUnavailable)
		eventually(t, "longer than a session", func() bool { return time.Since(down) > 2500*time.Millisecond })
		require.NoError(t, server.Up())
		eventually(t, "answers", func() bool { return other.Ping(t.Context()) == nil })
		err = other.FenceBroker(t.Context(), sleeper, catalog.FenceExpired)
		require.ErrorIs(t, err, catalog.ErrNotExpired, "it could not renew its session")
		seq++
		settle(t, c, epoch, seq)
		require.ErrorIs(t, c.Unfenced(t.Context(), epoch), catalog.ErrUnavailable, "it attached to another start of the server")
		require.NoError(t, other.Unfenced(t.Context(), epoch), "it never attached")
		_, lost, err = c.Attach(t.Context(), epoch)
		require.NoError(t, err)
		require.NoError(t, c.Unfenced(t.Context(), epoch))
		eventually(t, "the end of the outage to be told", func() bool { return said.count("the catalog can be reached again") == outage+1 })
		require.Equal(t, outage+1, said.count("the catalog cannot be reached"), "once each time: %q", said.all())
	}
	rows, err := c.ReadTail(t.Context(), epoch, 0, 1000)
	require.NoError(t, err)
	require.Len(t, rows, int(seq))
	eventually(t, "the sleeper's session to expire", func() bool {
		_, err := c.Heartbeat(t.Context(), epoch)
		require.NoError(t, err)
		err = other.FenceBroker(t.Context(), sleeper, catalog.FenceExpired)
		if err != nil {
			require.ErrorIs(t, err, catalog.ErrNotExpired)
		}
		return err == nil
	})
	require.ErrorIs(t, other.FenceBroker(t.Context(), epoch, catalog.FenceExpired), catalog.ErrNotExpired)
}

// TestListenHangs: a listener whose LISTEN gets no answer, on a connection that stands, gives up in time.
func TestListenHangs(t *testing.T) {
	direct := postgrestest.New(t)
	p := newProxy(t, postgrestest.Shared(t).Addr())
	c := open(t, postgres.Options{URL: p.url(direct, postgrestest.Shared(t)), UrgentTimeout: 500 * time.Millisecond})
	word := "LISTEN"
	p.hold.Store(&word)
	ended := make(chan error, 1)
	go func() { ended <- c.Listen(t.Context(), func(catalog.Announcement) {}) }()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, catalog.ErrUnavailable)
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for ever")
	}
	p.hold.Store(nil)
	listening, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := c.Listen(listening, func(catalog.Announcement) { cancel() })
	require.ErrorIs(t, err, context.Canceled, "it listened")
}

// lines is a log as its messages. Safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	msgs []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.msgs = append(l.msgs, r.Message)
	return nil
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.msgs)
}

// count is how many messages begin so.
func (l *lines) count(prefix string) (n int) {
	for _, msg := range l.all() {
		if strings.HasPrefix(msg, prefix) {
			n++
		}
	}
	return n
}

// TestServerHangs: a server that stops answering makes calls fail in time, and is used again when it thaws.
func TestServerHangs(t *testing.T) {
	server, err := postgrestest.Start(postgrestest.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Close()) }()
	c := open(t, postgres.Options{URL: server.NewDatabase(t), UrgentTimeout: 500 * time.Millisecond, StatementTimeout: 500 * time.Millisecond, ConnectTimeout: 500 * time.Millisecond})
	epoch := register(t, c, 1)
	settle(t, c, epoch, 1)
	require.NoError(t, server.Freeze())
	began := time.Now()
	require.ErrorIs(t, commit(t.Context(), c, epoch, 2), catalog.ErrUnavailable)
	_, err = c.BrokerTails(t.Context())
	require.ErrorIs(t, err, catalog.ErrUnavailable)
	require.Less(t, time.Since(began), 10*time.Second)
	require.NoError(t, server.Thaw())
	settle(t, c, epoch, 2)
	rows, err := c.ReadTail(t.Context(), epoch, 0, 1000)
	require.NoError(t, err)
	require.Len(t, rows, 2)
}
