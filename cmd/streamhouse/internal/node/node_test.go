package node

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog/sqlite"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	storefaulty "github.com/streamhouse/streamhouse/storage/objstore/faulty"
	"github.com/streamhouse/streamhouse/storage/objstore/fs"
)

func TestRecordsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, settings(t, dir))
	status, body := r.get("/ready")
	require.Equal(t, http.StatusOK, status, body)
	want := values("v", 300)
	r.produce("t", want...)
	require.Equal(t, want, r.consume("t", len(want)))
	require.NoError(t, r.stop())
	require.Contains(t, r.log.String(), "msg=stopped")

	r = begin(t, settings(t, dir))
	require.Equal(t, want, r.consume("t", len(want)))
	more := values("w", 10)
	r.produce("t", more...)
	require.Equal(t, append(want, more...), r.consume("t", len(want)+len(more)))
}

// A producer that asked for no answer has nobody to wait for its records: the stop must.
func TestStopCommitsWhatWasAppended(t *testing.T) {
	dir := t.TempDir()
	cfg := settings(t, dir)
	r := begin(t, cfg)
	r.produce("t", "first")
	require.NoError(t, r.stop())

	// The store holds the record back until the stop has begun.
	h := beginHindered(t, cfg)
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	h.store.Next(storefaulty.Fault{Op: storefaulty.OpPut, Kind: storefaulty.Slow, Gate: gate})
	cl := h.client(kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	cl.Produce(t.Context(), &kgo.Record{Topic: "t", Value: []byte("second")}, nil)
	h.eventually("appended, not committed", func(s samples) bool {
		return s[`producer_pending_records{partition="0",topic="t"}`] == 1
	})
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	require.Eventually(t, func() bool { return strings.Contains(h.log.String(), "msg=stopping") }, patience, time.Millisecond)
	require.Empty(t, stopped, "it waits")
	open()
	require.NoError(t, <-stopped)
	require.NoError(t, h.store.Verify())

	r = begin(t, cfg)
	require.Equal(t, []string{"first", "second"}, r.consume("t", 2))
}

func TestADataFolderHasOneUser(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, settings(t, dir))
	r.produce("t", "before")
	_, err := Start(t.Context(), settings(t, dir), "test", slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, fs.ErrLocked)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, fmt.Sprintf("process with id %d", os.Getpid()))
	r.produce("t", "after")
	require.Equal(t, []string{"before", "after"}, r.consume("t", 2))
}

func TestTheStoreMayBeElsewhere(t *testing.T) {
	dir, objects := t.TempDir(), t.TempDir()
	elsewhere := func(f *config.Flags) { f.Store = "file:" + objects }
	r := begin(t, settings(t, dir, elsewhere))
	r.produce("t", "v")
	_, err := Start(t.Context(), settings(t, t.TempDir(), elsewhere), "test", slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, fs.ErrLocked, "another catalog, the same objects")
	require.ErrorContains(t, err, objects)
	require.NoError(t, r.stop())
	alone := t.TempDir()
	r = begin(t, settings(t, alone, func(f *config.Flags) { f.Catalog, f.Store = "memory:", "file:"+alone }))
	r.produce("t", "v")
	require.NoError(t, r.stop())
	all := t.TempDir()
	r = begin(t, settings(t, all, func(f *config.Flags) { f.Store = "file:" + all }))
	r.produce("t", "beside the catalog")
}

// What fails, fails clearly, and leaves nothing open: goleak and a start on the same folder tell.
func TestAFailedStartLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	taken := listening(t).Addr().String()
	for _, c := range []struct {
		change func(*config.Flags)
		want   string
	}{
		{func(f *config.Flags) { f.Addr = taken }, "listener default: bind " + taken},
		{func(f *config.Flags) { f.HTTPAddr = taken }, "--http-addr"},
		{func(f *config.Flags) { f.Listener = []string{"a=127.0.0.1:0", "b=" + taken} }, "listener b: bind " + taken},
	} {
		_, err := Start(t.Context(), settings(t, dir, c.change), "test", slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, "address already in use")
	}
	r := begin(t, settings(t, dir))
	r.produce("t", "v")
	require.NoError(t, r.stop())
	_, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.addr)
	require.Error(t, err, "nobody listens after the stop")
}

func TestBadFolders(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, change := range []func(*config.Flags){
		func(f *config.Flags) { f.DataDir = file },
		func(f *config.Flags) { f.DataDir = filepath.Join(file, "below") },
		func(f *config.Flags) { f.Store = "file:" + file },
	} {
		_, err := Start(t.Context(), settings(t, filepath.Join(dir, "data"), change), "test", slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, file)
		require.ErrorContains(t, err, "not a directory")
	}
	r := begin(t, settings(t, filepath.Join(dir, "data")))
	require.NoError(t, r.stop())
}

func TestADamagedOrNewerCatalogIsRefused(t *testing.T) {
	const userVersion = 60 // where SQLite keeps it
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		want   string
	}{
		"not a database": {func([]byte) []byte { return []byte("this is not a database, although it is longer than its header is") }, "not a database"},
		"header":         {func(b []byte) []byte { return append(make([]byte, 100), b[100:]...) }, "not a database"},
		"newer schema": {func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[userVersion:], 999)
			return b
		}, "use a newer program"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := begin(t, settings(t, dir))
			r.produce("t", "v")
			require.NoError(t, r.stop())
			good, err := os.ReadFile(catalogPath(dir))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(catalogPath(dir), c.damage(append([]byte(nil), good...)), 0o600))

			_, err = Start(t.Context(), settings(t, dir), "test", slog.New(slog.DiscardHandler))
			require.ErrorContains(t, err, "open the catalog")
			require.ErrorContains(t, err, catalogPath(dir))
			require.ErrorContains(t, err, c.want)

			require.NoError(t, os.WriteFile(catalogPath(dir), good, 0o600))
			r = begin(t, settings(t, dir))
			require.Equal(t, []string{"v"}, r.consume("t", 1), "the refusal changed nothing")
		})
	}
}

// Broken deeper than a glance at the header shows: an error at the start or at the first use, never a crash, never wrong
// records.
func TestADamagedCatalogPage(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, settings(t, dir))
	r.produce("t", "v")
	require.NoError(t, r.stop())
	b, err := os.ReadFile(catalogPath(dir))
	require.NoError(t, err)
	for i := 4096; i < len(b); i++ { // every page but the first
		b[i] ^= 0x55
	}
	require.NoError(t, os.WriteFile(catalogPath(dir), b, 0o600))
	_, err = Start(t.Context(), settings(t, dir), "test", slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "malformed")
}

func TestReadyTellsThePhase(t *testing.T) {
	cfg := settings(t, t.TempDir())
	n, err := Start(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, n.ready(t.Context()))
	n.phase.Store(&starting)
	require.ErrorContains(t, n.ready(t.Context()), "starting")
	n.phase.Store(&serving)
	n.abort(t.Context())
	require.Error(t, n.ready(t.Context()), "even then it says so, and does not crash")

	cat, err := sqlite.Open(t.Context(), cfg.Catalog.Path, sqlite.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err, "nobody has it open")
	require.NoError(t, cat.Close())
}

// A client that neither reads nor goes away costs the stop its patience, not its commits, and not its exit code.
func TestAStubbornClientDoesNotSpoilTheStop(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, settings(t, dir, func(f *config.Flags) { f.ShutdownTimeout = 2 * time.Second }))
	big := make([]byte, 512<<10)
	cl := r.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 16 {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: big}).FirstErr())
	}
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.addr)
	require.NoError(t, err)
	defer func() { _ = nc.Close() }()
	for range 16 { // 128 MiB of answers: more than sockets hold
		_, err := nc.Write(fetchFrame("t"))
		require.NoError(t, err)
	}
	require.Equal(t, 16, len(r.consume("t", 16)), "others are served")
	r.eventually("the fetches are under way", func(s samples) bool {
		return s[`consumer_bytes_consumed_total{group_id="",topic="t"}`] > 16*512<<10
	})
	require.Positive(t, r.scrape()[`agent_answer_memory_bytes`])
	require.NoError(t, r.stop())
	require.Contains(t, r.log.String(), "clients were cut off")
	r = begin(t, settings(t, dir))
	require.Equal(t, 16, len(r.consume("t", 16)))
}

// fetchFrame is a Fetch of partition 0 from its start, with its length.
func fetchFrame(topic string) []byte {
	p := kmsg.NewFetchRequestTopicPartition()
	p.PartitionMaxBytes = 50 << 20
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.Partitions = topic, []kmsg.FetchRequestTopicPartition{p}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MaxWaitMillis, req.SessionEpoch = 12, 50<<20, 1000, -1
	req.Topics = []kmsg.FetchRequestTopic{ft}
	return kmsg.NewRequestFormatter().AppendRequest(nil, req, 1)
}

// An idle broker asks its store whether it is there, and is not ready without it.
func TestReadyKnowsOfAnIdleStore(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	notes, _, err := r.Node.store.List(t.Context(), "cluster/", "", 10)
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.NoError(t, r.Node.store.Delete(t.Context(), []string{notes[0].Key}))
	require.Eventually(t, func() bool {
		status, body := r.get("/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "the object store has lost "+notes[0].Key)
	}, patience, 50*time.Millisecond)
	require.Zero(t, r.scrape()[`agent_ready`])
}
