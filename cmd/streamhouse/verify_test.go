package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/sqlite"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
	objfs "github.com/streamhouse/streamhouse/storage/objstore/fs"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// stoppedBroker makes a data folder as a broker leaves it: a topic of two partitions, some of it folded, some in the tail.
// It returns the folder and the objects' keys, oldest first.
func stoppedBroker(t *testing.T) (dir string, keys []string) {
	t.Helper()
	dir = t.TempDir()
	cat, err := sqlite.Open(t.Context(), filepath.Join(dir, "catalog.db"), sqlite.Options{})
	require.NoError(t, err)
	store, err := objfs.Open(filepath.Join(dir, "objects"), objfs.Options{})
	require.NoError(t, err)
	id := catalog.TopicID(uuid.New())
	_, err = cat.CreateTopic(t.Context(), catalog.TopicSpec{ID: id, Name: "orders", Partitions: 2, ReplicationFactor: 1})
	require.NoError(t, err)
	e, err := storage.Open(t.Context(), storage.Config{
		Catalog: cat, Store: store, Logger: slog.New(slog.DiscardHandler), Process: uuid.New(), PredecessorsDead: true,
		Registration: catalog.Registration{ID: 1, TTL: time.Minute}, MergeInterval: time.Hour,
	})
	require.NoError(t, err)
	for i := range 4 {
		b, err := recordbatch.Build(recordbatch.Spec{FirstTimestamp: 1_700_000_000_000}, []recordbatch.Record{
			{Key: []byte("k"), Value: []byte("hello"), Headers: []recordbatch.RecordHeader{{Key: "h", Value: []byte("v")}}},
			{OffsetDelta: 1, Value: []byte{0xff}},
		})
		require.NoError(t, err)
		h, err := recordbatch.ParseHeader(b)
		require.NoError(t, err)
		p, err := e.Append(t.Context(), catalog.TopicPartition{Topic: id, Partition: int32(i % 2)}, b, h, nil)
		require.NoError(t, err)
		<-p.Done()
		_, err = p.Result()
		require.NoError(t, err)
		if i == 1 {
			require.NoError(t, e.Tidy(t.Context()))
		}
	}
	require.NoError(t, e.Close(t.Context()))
	require.NoError(t, store.Close())
	require.NoError(t, cat.Close())
	root := filepath.Join(dir, "objects")
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if rel, relErr := filepath.Rel(root, path); err == nil && relErr == nil && !d.IsDir() {
			if key := filepath.ToSlash(rel); validKey(key) {
				keys = append(keys, key)
			}
		}
		return err
	}))
	require.GreaterOrEqual(t, len(keys), 3)
	return dir, keys
}

func TestVerifyOfASoundLog(t *testing.T) {
	dir, _ := stoppedBroker(t)
	out := ok(t, "", "verify", "--data-dir", dir)
	require.Contains(t, out, "nothing is wrong (took")
	require.Regexp(t, `partitions +2 +8 offsets`, out)
	require.Regexp(t, `batches +4 +8 records`, out)
	require.Contains(t, ok(t, "", "verify", "--fast", "--data-dir", dir), "as far as was looked (--fast)")

	var j struct {
		OK       bool
		Records  int64
		Problems []any
		Tail     struct{ Objects int64 }
	}
	require.NoError(t, json.Unmarshal([]byte(ok(t, "", "verify", "--json", "--data-dir", dir)), &j))
	require.True(t, j.OK)
	require.EqualValues(t, 8, j.Records)
	require.EqualValues(t, 2, j.Tail.Objects)
	require.NotNil(t, j.Problems)

	// The folder is as it was: a broker can have it.
	lock, err := objfs.Lock(dir)
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

func TestVerifyFindsDamage(t *testing.T) {
	dir, keys := stoppedBroker(t)
	require.NoError(t, os.Remove(filepath.Join(dir, "objects", filepath.FromSlash(keys[len(keys)-1]))))
	r := exec(t, "", "verify", "--data-dir", dir)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "missing "+keys[len(keys)-1]+": it is not in the store\n")
	require.NotContains(t, r.out, "nothing is wrong")
	require.Contains(t, r.stderr, "problems found: 1")

	r = exec(t, "", "verify", "--json", "--data-dir", dir)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, `"ok":false`)
}

func TestVerifyNeedsAStoppedBrokerAndAFolder(t *testing.T) {
	dir, keys := stoppedBroker(t)
	lock, err := objfs.Lock(dir)
	require.NoError(t, err)
	for _, command := range []string{"verify", "inspect"} {
		r := exec(t, "", command, "--data-dir", dir)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.stderr, "only while no broker runs")
		require.Contains(t, r.stderr, dir)
	}
	out := ok(t, "", "inspect", "--data-dir", dir, keys[0]) // an object can be looked at all the same
	require.Contains(t, out, "not known: a log can be looked at only while no broker runs")
	require.NoError(t, lock.Close())

	none := filepath.Join(t.TempDir(), "none")
	r := exec(t, "", "verify", "--data-dir", none)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "is --data-dir right?")
	require.NoDirExists(t, none, "looking makes nothing")

	for _, args := range [][]string{
		{"verify", "--catalog", "memory:", "--data-dir", dir},
		{"verify", "--store", "memory:", "--data-dir", dir},
		{"verify", "--store", "ftp:x"},
		{"verify", "--parallel", "-1"},
		{"inspect", "--catalog", "postgres://x", "log/x"},
	} {
		require.Equal(t, exitUsage, exec(t, "", args...).code, "%v", args)
	}
}

func TestVerifyShowsABar(t *testing.T) {
	var w bytes.Buffer
	bar := &verifyBar{w: &w}
	bar.show("objects", 0, 10)
	bar.show("objects", 10, 10)
	bar.show("orphans", 1, 0)
	bar.finish()
	require.Contains(t, w.String(), "verify objects")
	require.Contains(t, w.String(), "verify orphans")
}

func TestInspectSummary(t *testing.T) {
	dir, keys := stoppedBroker(t)
	out := ok(t, "", "inspect", "--data-dir", dir)
	require.Regexp(t, `topics +1`, out)
	require.Regexp(t, `  generation \d +[1-9]\d* `, out)
	var s struct {
		Stored struct{ Objects int }
	}
	require.NoError(t, json.Unmarshal([]byte(ok(t, "", "inspect", "--json", "--data-dir", dir)), &s))
	require.GreaterOrEqual(t, s.Stored.Objects, len(keys))
}

func TestInspectObjects(t *testing.T) {
	dir, keys := stoppedBroker(t)
	last := keys[len(keys)-1]
	for _, k := range keys { // the last log object is in the tail
		if strings.HasPrefix(k, "log/") {
			last = k
		}
	}
	path := filepath.Join(dir, "objects", filepath.FromSlash(last))
	byKey := ok(t, "", "inspect", "--data-dir", dir, "--records", last)
	for _, want := range []string{
		"kind ", "in the tail, object ", "sound: 1 blocks, 1 batches, 2 records", "orders  1 ", `"k"  "hello"  "h"="v"`, `null  "\xff"`,
	} {
		require.Contains(t, byKey, want)
	}
	require.NotContains(t, byKey, "DIFFERS")
	byFile := ok(t, "", "inspect", "--data-dir", dir, "--records", path)
	require.Equal(t, strings.ReplaceAll(byKey, last, "X"), strings.ReplaceAll(byFile, path, "X"))

	// A copy elsewhere, with no data folder near.
	copied := filepath.Join(t.TempDir(), "object")
	body, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(copied, body, 0o600))
	require.Contains(t, ok(t, "", "inspect", "--data-dir", t.TempDir(), copied), "sound: ")

	// JSON lines.
	var types []string
	for line := range strings.Lines(ok(t, "", "inspect", "--data-dir", dir, "--json", "--records", last)) {
		var j map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &j))
		types = append(types, j["type"].(string))
		switch j["type"] {
		case "object":
			require.Equal(t, "tail", j["manifest"].(map[string]any)["role"])
			require.Equal(t, "orders", j["extents"].([]any)[0].(map[string]any)["topic"])
		case "batch":
			require.Equal(t, true, j["checksum_ok"])
		}
	}
	require.Equal(t, []string{"object", "batch", "record", "record"}, types)

	// Damage is shown, and fails.
	body[60] ^= 1
	require.NoError(t, os.WriteFile(path, body, 0o600))
	r := exec(t, "", "inspect", "--data-dir", dir, "--batches", last)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "DAMAGED")
	require.Contains(t, r.out, "DIFFERS")
	require.Contains(t, r.out, "CHECKSUM WRONG")
	require.Contains(t, r.stderr, segment.ErrCorrupt.Error())

	require.Contains(t, exec(t, "", "inspect", "--data-dir", dir, "log/none").stderr, "object not found")
	require.Contains(t, exec(t, "", "inspect", "--data-dir", dir, "no file!").stderr, "neither the file of an object nor a key")
}
