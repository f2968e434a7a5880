package day_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// usage is what a broker holds at one moment.
type usage struct {
	files    int              // in the store
	bytes    int64            // of them
	catalog  int64            // bytes of catalog.db
	wal      int64            // bytes of its write-ahead log
	rows     map[string]int64 // by table; "retired" are the objects in retired_batches
	resident int64
	puts     int64 // log objects uploaded by this process so far
	unlisted int64 // of them, put while measuring
	at       time.Time
}

// measure looks at the store's folder, and at the catalog as any reader can: by
// a read-only connection beside the broker.
func measure(t *testing.T, b *target.Broker) usage {
	t.Helper()
	rows := map[string]int64{}
	out, err := client.Run(t.Context(), nil, "python3", filepath.Join(client.Root(), "clients", "python", "rows.py"),
		filepath.Join(b.DataDir(), "catalog.db"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &rows), "%s", out)
	before := metric(t, b, "streamhouse_flush_objects_total")
	u := measureFiles(t, b)
	u.rows, u.at = rows, time.Now()
	u.resident = metric(t, b, "process_resident_memory_bytes")
	u.puts = metric(t, b, "streamhouse_flush_objects_total")
	// Files put after the rows were counted are not in them; those deleted after
	// are in them, which errs to the safe side.
	u.unlisted = u.puts - before
	return u
}

// measureFiles is what measure can say of a broker that does not run.
func measureFiles(t *testing.T, b *target.Broker) usage {
	t.Helper()
	var u usage
	err := filepath.WalkDir(filepath.Join(b.DataDir(), "objects"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return gone(err)
		}
		info, err := d.Info()
		if err != nil {
			return gone(err)
		}
		u.files++
		u.bytes += info.Size()
		return nil
	})
	require.NoError(t, err)
	path := filepath.Join(b.DataDir(), "catalog.db")
	u.catalog, u.wal = size(t, path), size(t, path+"-wal")
	return u
}

// gone forgives what vanished between being listed and being looked at.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

// metric sums the samples of a family whose labels contain all of has.
func metric(t *testing.T, b *target.Broker, family string, has ...string) int64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.HTTP()+"/metrics", http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var sum float64
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), " ")
		if name, _, _ = strings.Cut(name, "{"); name != family {
			continue
		}
		if slices.ContainsFunc(has, func(l string) bool { return !strings.Contains(lines.Text(), l) }) {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		require.NoError(t, err)
		sum += v
	}
	require.NoError(t, lines.Err())
	return int64(sum)
}

// row is a line of the table that report prints.
func (u usage) row() string {
	var rows strings.Builder
	for _, table := range slices.Sorted(maps.Keys(u.rows)) {
		fmt.Fprintf(&rows, " %s %d", table, u.rows[table])
	}
	return fmt.Sprintf("%6d files %8.1f MB | catalog.db %6.2f MB, wal %6.2f MB | RSS %4.0f MB | rows:%s",
		u.files, mb(u.bytes), mb(u.catalog), mb(u.wal), mb(u.resident), rows.String())
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// report says a figure in the test's log and, if there is one, in the file
// DAY_REPORT.
func report(t *testing.T, text string, args ...any) {
	t.Helper()
	t.Logf(text, args...)
	path := os.Getenv("DAY_REPORT")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer f.Close()
	_, err = fmt.Fprintf(f, text+"\n", args...)
	require.NoError(t, err)
}
