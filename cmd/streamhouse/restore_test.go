package main

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/streamhouse/streamhouse/catalog"
)

type restoreAnswer struct {
	At     time.Time    `json:"at"`
	Fenced []int64      `json:"fenced_broker_epochs"`
	Before restoreMarks `json:"before"`
	After  restoreMarks `json:"after"`
}

func TestRestoreAsksAndRefuses(t *testing.T) {
	f := newFleet(t)
	alive, silent := f.register(1, time.Hour), f.register(2, 0)
	tps := f.topic("orders", 2, silent)

	r := exec(t, "no\n", "restore")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "fences all its broker epochs (2 are not fenced)")
	require.Regexp(t, `broker 2, epoch 2: last heard of \S+ ago`, r.stderr)
	require.Contains(t, r.stderr, "not confirmed, nothing was changed")
	require.Equal(t, exitUsage, exec(t, "", "restore").code, "nobody answered")

	r = exec(t, "", "restore", "--yes")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "a broker is alive: broker 1 (epoch 1) renewed its session")
	require.Contains(t, r.stderr, "stop all brokers")
	require.NotContains(t, r.stderr, "broker 2")
	require.Equal(t, silent, f.lease(tps[0]).Holder, "nothing was changed")

	require.NoError(t, f.c.FenceBroker(t.Context(), alive, catalog.FenceProvenDead))
	r = exec(t, "restore\n", "restore")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Regexp(t, `(?m)^broker epoch +2 +1048578$`, r.out)
	require.Contains(t, r.out, "broker epochs fenced: 1\n")
	require.Contains(t, r.out, "the restored state is at least ")
	require.Equal(t, catalog.Lease{TopicPartition: tps[0], Epoch: catalog.RestoreEpochs}, f.lease(tps[0]))

	again := lines[restoreAnswer](t, ok(t, "", "restore", "--yes", "--format=json"))[0]
	require.Empty(t, again.Fenced)
	require.EqualValues(t, catalog.RestoreEpochs, again.Before.LeaseEpoch)
	require.EqualValues(t, 2*catalog.RestoreEpochs, again.After.LeaseEpoch)
}

// TestAnOlderCatalogIsRestored: a cluster's database is put back to a copy. The broker does not start on it until it was
// moved forward. Then what the copy names is there, what came after is not, and leader epochs tell.
func TestAnOlderCatalogIsRestored(t *testing.T) {
	f := newFleet(t)
	require.NoError(t, f.c.Close()) // a database in use is not copied
	store := "--store=file:" + filepath.Join(t.TempDir(), "objects")
	start := func() *process {
		return startServe(t, t.TempDir(), "--catalog="+os.Getenv("STREAMHOUSE_CATALOG"), store, "--auto-create-topics")
	}
	p := start()
	p.produce("t", "kept 1", "kept 2")
	require.Equal(t, exitOK, p.stop())
	copied := copyDatabase(t, f.url)

	p = start()
	p.produce("t", "lost 1", "lost 2", "lost 3")
	lostEpoch := leaderEpoch(t, p)
	require.Equal(t, exitOK, p.stop())

	t.Setenv("STREAMHOUSE_CATALOG", copied)
	for range 3 { // as a supervisor does
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var stderr bytes.Buffer
		code := run(ctx, []string{"serve", "--data-dir", t.TempDir(), store, "--addr=127.0.0.1:0", "--http-addr=off"}, nil, io.Discard, &stderr)
		cancel()
		require.Equal(t, exitFailed, code, "it serves")
		require.Contains(t, stderr.String(), "was restored from a backup")
		require.Contains(t, stderr.String(), "`streamhouse restore`")
	}

	require.Contains(t, ok(t, "", "restore", "--yes"), "Start the brokers now.\n")
	p = start()
	require.Equal(t, []string{"kept 1", "kept 2"}, p.consume("t", 2))
	p.produce("t", "new")
	require.Equal(t, []string{"kept 1", "kept 2", "new"}, p.consume("t", 3))
	require.Greater(t, leaderEpoch(t, p), lostEpoch+catalog.RestoreEpochs/2)
	require.Equal(t, exitOK, p.stop())
}

// copyDatabase makes a copy, as a backup would be, and returns its URL.
func copyDatabase(t *testing.T, of string) string {
	t.Helper()
	u, err := url.Parse(of)
	require.NoError(t, err)
	name := strings.Trim(u.Path, "/")
	u.Path = "/postgres"
	conn, err := pgx.Connect(t.Context(), u.String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+name+"_copy TEMPLATE "+name)
	require.NoError(t, err)
	u.Path = "/" + name + "_copy"
	return u.String()
}

func leaderEpoch(t *testing.T, p *process) int32 {
	t.Helper()
	m, err := kadm.NewClient(p.client()).Metadata(t.Context(), "t")
	require.NoError(t, err)
	return m.Topics["t"].Partitions[0].LeaderEpoch
}

// TestAnEmbeddedCatalogIsRestored: likewise, with a copy of the file. Its broker's lock takes the place of sessions.
func TestAnEmbeddedCatalogIsRestored(t *testing.T) {
	dir := t.TempDir()
	p := startServe(t, dir)
	p.produce("t", "kept")
	require.Regexp(t, `(?m)^1 +1 +alive `, ok(t, "", "brokers", "--data-dir", dir), "beside a broker")
	require.Regexp(t, `(?m)^t +0 +1 `, ok(t, "", "leases", "--data-dir", dir), "beside a broker")
	r := exec(t, "", "restore", "--yes", "--data-dir", dir)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "only while no broker runs on it; stop it first")
	r = exec(t, "", "migrate", "up", "--data-dir", dir)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "only while no broker runs on it; stop it first")
	require.Equal(t, exitOK, p.stop())
	file := filepath.Join(dir, "catalog.db")
	backup, err := os.ReadFile(file)
	require.NoError(t, err)

	p = startServe(t, dir)
	p.produce("t", "lost")
	lostEpoch := leaderEpoch(t, p)
	require.NoError(t, p.cmd.Process.Kill())
	p.wait()
	for _, suffix := range []string{"-wal", "-shm"} {
		require.NoError(t, os.RemoveAll(file+suffix))
	}
	require.NoError(t, os.WriteFile(file, backup, 0o600))

	require.Contains(t, ok(t, "", "restore", "--yes", "--data-dir", dir), "Start the brokers now.\n")
	p = startServe(t, dir)
	require.Equal(t, []string{"kept"}, p.consume("t", 1))
	p.produce("t", "new")
	require.Equal(t, []string{"kept", "new"}, p.consume("t", 2))
	require.Greater(t, leaderEpoch(t, p), lostEpoch+catalog.RestoreEpochs/2)
	require.Equal(t, exitOK, p.stop())
	require.Contains(t, ok(t, "", "verify", "--data-dir", dir), "nothing is wrong")
}
