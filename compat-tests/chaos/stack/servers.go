package stack

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// Servers runs Postgres and MinIO until the test ends, and tells the flags and sets the environment of a broker that uses
// them without any proxy: for figures.
func Servers(t *testing.T) (flags []string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // Postgres runs as somebody else
	ports := target.FreePorts(t, 2)
	p, err := newPostgres(t.Context(), dir, ports[0], false)
	require.NoError(t, err)
	t.Cleanup(p.close)
	m, err := newMinIO(t.Context(), dir, ports[1], 1<<30, false)
	require.NoError(t, err)
	t.Cleanup(m.shut)
	t.Setenv("AWS_ACCESS_KEY_ID", s3User)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3Secret)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return []string{
		"--catalog", p.url("streamhouse", p.addr, database),
		"--store", "s3://" + bucket + "?endpoint=http://" + m.addr + "&region=us-east-1&path_style=true", "--flush-interval", "5ms",
	}
}
