package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

func TestPragmas(t *testing.T) {
	c := openTest(t, filepath.Join(t.TempDir(), "catalog.db"), Options{})
	pragma := func(db *conn, name string) (value any) {
		_, err := db.one("PRAGMA "+name, func(r row) { value = r[0] })
		require.NoError(t, err)
		return value
	}
	require.NoError(t, c.write(t.Context(), "look", func(tx *tx) error {
		require.Equal(t, "wal", pragma(tx.conn, "journal_mode"))
		require.EqualValues(t, 2, pragma(tx.conn, "synchronous"), "FULL: a commit is on disk before its answer")
		require.EqualValues(t, 1, pragma(tx.conn, "foreign_keys"))
		require.EqualValues(t, 0, pragma(tx.conn, "wal_autocheckpoint"))
		require.EqualValues(t, 0, pragma(tx.conn, "mmap_size"))
		return nil
	}))
	err := c.read(t.Context(), "write on a reader", func(db *conn) error {
		_, err := db.exec("UPDATE counters SET value = 5")
		return err
	})
	require.ErrorContains(t, err, "readonly")
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?#%name.db")
	now := time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC)
	opts := Options{Now: func() time.Time { return now }}
	c, err := Open(t.Context(), path, opts)
	require.NoError(t, err)
	id, err := c.ClusterID(t.Context())
	require.NoError(t, err)
	epoch := register(t, c)
	at, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, 1, []byte("index"))})
	require.NoError(t, err)
	require.True(t, at.Equal(now))
	rows, err := c.ReadTail(t.Context(), epoch, 0, 10)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, c.Close(), "twice")
	_, err = os.Stat(path + "-wal")
	require.ErrorIs(t, err, os.ErrNotExist, "a clean end leaves one file")

	now = now.Add(-time.Hour)
	c = openTest(t, path, opts)
	again, err := c.ClusterID(t.Context())
	require.NoError(t, err)
	require.Equal(t, id, again)
	got, err := c.ReadTail(t.Context(), epoch, 0, 10)
	require.NoError(t, err)
	require.Equal(t, rows, got)
	later, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, 2, nil)})
	require.NoError(t, err)
	require.False(t, later.Before(at), "the clock does not go back over a restart")
	b, err := c.RegisterBroker(t.Context(), catalog.Registration{ID: 2, Incarnation: [16]byte{99}, TTL: time.Second})
	require.NoError(t, err)
	require.Greater(t, b.Epoch, epoch)
}

// hold keeps the writer busy in one transaction until the returned function is called.
func hold(t *testing.T, c *Catalog) (release func()) {
	t.Helper()
	running, gate, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- c.write(context.Background(), "hold", func(*tx) error {
			close(running)
			<-gate
			return nil
		})
	}()
	<-running
	return func() {
		close(gate)
		require.NoError(t, <-done)
	}
}

// queued puts a write into the queue and lets a goroutine wait for its answer.
func queued(ctx context.Context, t *testing.T, c *Catalog, fn func(*tx) error) chan error {
	t.Helper()
	w, err := c.enqueue(ctx, fn)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- translate(c.await(w)) }()
	return done
}

func allocate(n int64) func(*tx) error {
	return func(t *tx) error {
		_, err := t.bump("ids_object", n)
		return err
	}
}

func nextID(t *testing.T, c *Catalog) int64 {
	t.Helper()
	first, err := c.AllocateIDs(t.Context(), catalog.IDObject, 1)
	require.NoError(t, err)
	return first
}

func TestRefusedWriteDoesNotHurtItsGroup(t *testing.T) {
	c := openTest(t, filepath.Join(t.TempDir(), "catalog.db"), Options{})
	refusal := errors.New("no")
	release := hold(t, c)
	first := queued(t.Context(), t, c, allocate(10))
	refused := queued(t.Context(), t, c, func(t *tx) error { return errors.Join(allocate(1000)(t), refusal) })
	broken := queued(t.Context(), t, c, func(t *tx) error {
		if err := allocate(1000)(t); err != nil {
			return err
		}
		_, err := t.exec("UPDATE counters SET value = -1 WHERE name = 'clock'") // breaks a CHECK
		return err
	})
	second := queued(t.Context(), t, c, allocate(100))
	release()
	require.NoError(t, <-first)
	require.ErrorIs(t, <-refused, refusal)
	require.ErrorContains(t, <-broken, "CHECK")
	require.NoError(t, <-second)
	require.EqualValues(t, 111, nextID(t, c))
}

func TestFailedCommitFailsItsGroup(t *testing.T) {
	c := openTest(t, filepath.Join(t.TempDir(), "catalog.db"), Options{})
	release := hold(t, c)
	innocent := queued(t.Context(), t, c, allocate(10))
	// Its refusal rests on the innocent's write, which will not be stored.
	refused := queued(t.Context(), t, c, func(t *tx) error {
		if last, err := t.counter("ids_object"); err != nil || last != 1 {
			return errors.Join(err, catalog.ErrSequence)
		}
		return nil
	})
	guilty := queued(t.Context(), t, c, func(t *tx) error {
		if _, err := t.exec("PRAGMA defer_foreign_keys = ON"); err != nil { // until the commit finds out
			return err
		}
		_, err := t.exec("INSERT INTO leases (topic, partition, epoch) VALUES (x'', 5, -1)")
		return err
	})
	release()
	require.Error(t, <-innocent)
	err := <-refused
	require.Error(t, err)
	require.NotErrorIs(t, err, catalog.ErrSequence, "nobody knows whether it is due")
	require.Error(t, <-guilty)
	require.EqualValues(t, 1, nextID(t, c), "nothing was applied, and the writer goes on")
}

// TestRunsAreReadAgain: rows read ahead of a write are not trusted once others were taken out of the tail, be it by a
// write of the same group.
func TestRunsAreReadAgain(t *testing.T) {
	c := openTest(t, filepath.Join(t.TempDir(), "catalog.db"), Options{})
	epoch := register(t, c)
	for seq := range catalog.Sequence(4) {
		_, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, seq+1, nil)})
		require.NoError(t, err)
	}
	ahead := func() *tailRun {
		run, err := c.tailRun(t.Context(), "look", epoch, 1, 4)
		require.NoError(t, err)
		return run
	}
	refresh := func(run *tailRun, fresh bool, rows int) func(*tx) error {
		return func(t2 *tx) error {
			got, err := t2.refresh(run)
			require.Equal(t, fresh, got)
			require.Len(t, run.rows, rows)
			return err
		}
	}
	require.NoError(t, c.write(t.Context(), "unchanged", refresh(ahead(), false, 4)))
	before, besides := ahead(), ahead()
	release := hold(t, c)
	drop := queued(t.Context(), t, c, func(t *tx) error { return t.dropTail(epoch, 1, 2) })
	look := queued(t.Context(), t, c, refresh(besides, true, 2))
	release()
	require.NoError(t, <-drop)
	require.NoError(t, <-look)
	require.NoError(t, c.write(t.Context(), "changed before", refresh(before, true, 2)))
	require.NoError(t, c.write(t.Context(), "unchanged again", refresh(ahead(), false, 2)))

	// Read between the two moves of the stamp, when the edit may not be visible yet.
	running, gate := make(chan struct{}), make(chan struct{})
	drop = queued(t.Context(), t, c, func(t *tx) error {
		err := t.dropTail(epoch, 3, 3)
		close(running)
		<-gate
		return err
	})
	<-running
	between := ahead()
	require.Len(t, between.rows, 2)
	close(gate)
	require.NoError(t, <-drop)
	require.NoError(t, c.write(t.Context(), "changed since", refresh(between, true, 1)))
}

// TestRetiredListsAreMigrated: schema version 1 had a row per retired key.
func TestRetiredListsAreMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	files, err := fs.Sub(migrations, "migrations")
	require.NoError(t, err)
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithLogger(goose.NopLogger()))
	require.NoError(t, err)
	_, err = p.UpTo(t.Context(), 1)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `INSERT INTO retired_batches (id, at) VALUES (1, 5), (2, 6);
		INSERT INTO retired_objects (key, batch) VALUES ('b', 1), ('a"é', 1), ('c', 2)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	c := openTest(t, path, Options{})
	batches, err := c.ListRetired(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, batches, 2)
	require.ElementsMatch(t, []string{"b", "a\"é"}, batches[0].Keys)
	require.Equal(t, []string{"c"}, batches[1].Keys)
}

func TestContextEndsInTheQueue(t *testing.T) {
	c := openTest(t, filepath.Join(t.TempDir(), "catalog.db"), Options{})
	release := hold(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	done := queued(ctx, t, c, allocate(10))
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	release()
	require.EqualValues(t, 1, nextID(t, c), "not applied")
}

func TestContextEndsBeforeTheCommit(t *testing.T) {
	c := openTest(t, filepath.Join(t.TempDir(), "catalog.db"), Options{})
	release := hold(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	running, gate := make(chan struct{}), make(chan struct{})
	first := queued(ctx, t, c, allocate(10))
	second := queued(t.Context(), t, c, func(*tx) error {
		close(running)
		<-gate
		return nil
	})
	release()
	<-running
	cancel()
	err := <-first
	require.ErrorIs(t, err, catalog.ErrUnavailable, "in doubt")
	require.ErrorIs(t, err, context.Canceled)
	close(gate)
	require.NoError(t, <-second)
	require.EqualValues(t, 11, nextID(t, c), "it was applied")
}

func TestCloseRefusesWhatWaits(t *testing.T) {
	c, err := Open(t.Context(), filepath.Join(t.TempDir(), "catalog.db"), Options{})
	require.NoError(t, err)
	release := hold(t, c)
	waiting := queued(t.Context(), t, c, allocate(10))
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	<-c.closing
	release()
	if err := <-waiting; err != nil { // or it went with the next group
		require.ErrorIs(t, err, catalog.ErrClosed)
	}
	require.NoError(t, <-closed)
}

func TestNoSpace(t *testing.T) {
	c := openTest(t, filepath.Join(t.TempDir(), "catalog.db"), Options{})
	epoch := register(t, c)
	limit := func(query string) {
		require.NoError(t, c.write(t.Context(), "limit", func(tx *tx) error {
			_, err := tx.exec(query)
			return err
		}))
	}
	limit("PRAGMA max_page_count = 1") // means: as many as there are
	big := entry(epoch, 1, make([]byte, 1<<20))
	_, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{big})
	require.ErrorIs(t, err, catalog.ErrNoSpace)
	require.True(t, catalog.Retriable(err))
	rows, err := c.ReadTail(t.Context(), epoch, 0, 1)
	require.NoError(t, err)
	require.Empty(t, rows)
	limit("PRAGMA max_page_count = 1000000")
	_, err = c.Commit(t.Context(), epoch, []catalog.TailEntry{big})
	require.NoError(t, err, "nothing of the first try was applied")
	intact(t, c)
}

func TestFilesThatAreNotOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(path, []byte("this is no database, however long it may be made to look like one. "+string(make([]byte, 5000))), 0o600))
	_, err := Open(t.Context(), path, Options{})
	require.ErrorIs(t, err, ErrDamaged)

	for pragma, want := range map[string]string{"application_id = 77": "another program", "user_version = 1000": "use a newer program"} {
		path := filepath.Join(t.TempDir(), "catalog.db")
		c, err := Open(t.Context(), path, Options{})
		require.NoError(t, err)
		require.NoError(t, c.Close())
		db, err := sql.Open("sqlite", path)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "PRAGMA "+pragma)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		_, err = Open(t.Context(), path, Options{})
		require.ErrorContains(t, err, want)
	}
	_, err = Open(t.Context(), filepath.Join(t.TempDir(), "no", "such", "folder"), Options{})
	require.ErrorIs(t, err, catalog.ErrUnavailable)
}

func TestDamagedPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	c, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	epoch := register(t, c)
	for seq := catalog.Sequence(1); seq <= 50; seq++ {
		_, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, seq, make([]byte, 900))})
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for i := 30 * pageBytes; i < len(b); i++ {
		b[i] = 0x5a
	}
	require.NoError(t, os.WriteFile(path, b, 0o600))
	c, err = Open(t.Context(), path, Options{})
	if err == nil { // the damage is in pages that opening does not read
		_, err = c.ReadTail(t.Context(), epoch, 0, 100)
		require.NoError(t, c.Close())
	}
	require.ErrorIs(t, err, ErrDamaged)
	require.False(t, catalog.Retriable(err))
}

func TestViewsArePresent(t *testing.T) {
	c := openTest(t, filepath.Join(t.TempDir(), "catalog.db"), Options{})
	epoch := register(t, c)
	topic, err := c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.TopicID{0xab}, Name: "orders", Partitions: 2})
	require.NoError(t, err)
	_, err = c.AcquireLeases(t.Context(), epoch, nil)
	require.NoError(t, err)
	_, err = c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, 1, nil)})
	require.NoError(t, err)
	require.NoError(t, c.Edit(t.Context(), epoch, catalog.Edit{
		Objects: []catalog.Object{{ID: 7, Key: "a", Refs: 1}, {ID: 8, Key: "b"}},
		Rows:    []catalog.PackedRow{{TopicPartition: catalog.TopicPartition{Topic: topic.ID}, End: 5}},
	}))
	_, err = c.CreateTopic(t.Context(), catalog.TopicSpec{ID: catalog.GroupsTopic, Name: "__consumer_offsets", Partitions: 1})
	require.NoError(t, err)
	_, err = c.AcquireLeases(t.Context(), epoch, nil)
	require.NoError(t, err)
	now := time.Unix(1, 0)
	_, err = c.WriteGroups(t.Context(), catalog.GroupWrite{Holder: epoch, Number: 1, Changes: []catalog.GroupChange{{
		ID: "g", Group: &catalog.Group{ID: "g", Kind: catalog.GroupClassic, Phase: "Empty", State: []byte("{}"), ChangedAt: now},
		Members: []catalog.GroupMember{{ID: "m", State: []byte("{}")}}, Offsets: []catalog.GroupOffset{{Topic: "t", CommittedAt: now}, {Topic: "u", CommittedAt: now}},
	}}})
	require.NoError(t, err)
	want := map[string]int64{
		"v_groups": 1, "v_group_members": 1, "v_group_offsets": 2,
		"v_topics": 2, "v_brokers": 1, "v_leases": 3, "v_partitions": 3, "v_tail": 1, "v_packed_rows": 1, "v_objects": 1, "v_retired": 1,
	}
	require.NoError(t, c.read(t.Context(), "look", func(db *conn) error {
		for view, rows := range want {
			got := int64(0)
			if err := db.query(t.Context(), "SELECT * FROM "+view, func(row) error { got++; return nil }); err != nil {
				return err
			}
			require.Equal(t, rows, got, view)
		}
		var id string
		_, err := db.one("SELECT id FROM v_topics WHERE name = 'orders'", func(r row) { id = r.text(0) })
		require.Equal(t, topic.ID.String(), id)
		return err
	}))
}

// TestLogStaysBounded writes much more than the write-ahead log may hold, without a pause.
func TestLogStaysBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	c := openTest(t, path, Options{})
	epoch := register(t, c)
	index := make([]byte, 64<<10)
	for seq := catalog.Sequence(1); seq <= 1600; seq++ {
		_, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, seq, index)})
		require.NoError(t, err)
	}
	info, err := os.Stat(path + "-wal")
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(64<<20), "100 MiB were written")
	t.Logf("log: %d KiB", info.Size()>>10)
}
