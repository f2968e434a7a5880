package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

var childIncarnation = [16]byte{0xc}

// commitUntilKilled commits objects of various sizes, merges the tail now and then, and says each sequence on standard
// output after its commit was acknowledged.
func commitUntilKilled(path string) {
	err := func() error {
		ctx := context.Background()
		c, err := Open(ctx, path, Options{})
		if err != nil {
			return err
		}
		b, err := c.RegisterBroker(ctx, catalog.Registration{ID: 1, Incarnation: childIncarnation, TTL: time.Minute})
		if err != nil {
			return err
		}
		tails, err := c.BrokerTails(ctx)
		if err != nil {
			return err
		}
		seq := tails[0].Last
		var run []catalog.ObjectID
		for first := seq + 1; ; {
			seq++
			if _, err := c.Commit(ctx, b.Epoch, []catalog.TailEntry{entry(b.Epoch, seq, make([]byte, seq%97*300))}); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(os.Stdout, seq); err != nil {
				return err
			}
			if run = append(run, catalog.ObjectID(seq)); len(run) == 30 {
				e := entry(b.Epoch, seq, []byte("merged"))
				e.First, e.Object, e.Key = first, -e.Object, "merged/"+e.Key
				if err := c.MergeTail(ctx, b.Epoch, catalog.TailMerge{Replaces: run, Entry: e}); err != nil {
					return err
				}
				run, first = nil, seq+1
			}
		}
	}()
	fmt.Fprintln(os.Stderr, "child:", err)
}

// TestKilledProcessLosesNothingAcknowledged kills a committing process with SIGKILL, again and again on one file. It
// cannot show what a power loss would do: that rests on synchronous=FULL, which TestPragmas looks at.
func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	for round := range 6 {
		var acknowledged catalog.Sequence
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			_, err := fmt.Sscan(lines.Text(), &acknowledged)
			require.NoError(t, err)
			if n == 100+37*round {
				require.NoError(t, child.Process.Kill())
			}
		}
		require.Error(t, child.Wait(), "it was killed")

		c, err := Open(t.Context(), path, Options{})
		require.NoError(t, err)
		tails, err := c.BrokerTails(t.Context())
		require.NoError(t, err)
		require.Len(t, tails, 1)
		require.GreaterOrEqual(t, tails[0].Last, acknowledged)
		require.LessOrEqual(t, tails[0].Last, acknowledged+1, "at most one more was applied whose answer was lost")
		rows, err := c.ReadTail(t.Context(), tails[0].Epoch, 0, 1_000_000)
		require.NoError(t, err)
		next := catalog.Sequence(1)
		for _, r := range rows {
			require.Equal(t, next, r.First)
			next = r.Last + 1
		}
		require.Equal(t, tails[0].Last+1, next)
		intact(t, c)
		require.NoError(t, c.Close())
	}
}

// intact checks the file's pages, indexes and foreign keys.
func intact(t *testing.T, c *Catalog) {
	t.Helper()
	require.NoError(t, c.read(t.Context(), "check", func(db *conn) error {
		var answer string
		if _, err := db.one("PRAGMA integrity_check", func(r row) { answer = r.text(0) }); err != nil {
			return err
		}
		require.Equal(t, "ok", answer)
		broken, err := db.one("PRAGMA foreign_key_check", func(row) {})
		require.False(t, broken)
		return err
	}))
}
