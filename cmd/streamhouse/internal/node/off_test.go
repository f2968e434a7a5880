package node

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
)

// With --metrics=off the broker serves, and tells its health, and measures nothing.
func TestMetricsOff(t *testing.T) {
	r := begin(t, settings(t, t.TempDir(), func(f *config.Flags) { f.Metrics = "off" }))
	r.produce("t", values("v", 10)...)
	require.Len(t, r.consume("t", 10), 10)
	for path, want := range map[string]int{"/health": http.StatusOK, "/ready": http.StatusOK, "/metrics": http.StatusNotFound} {
		status, body := r.get(path)
		require.Equal(t, want, status, path)
		if want == http.StatusNotFound {
			require.Contains(t, body, "--metrics=off")
		}
	}
	require.Nil(t, r.Node.metrics.Registry())
	require.Same(t, r.source, r.Node.catalog, "nothing is between the broker and its catalog")
	require.Nil(t, r.watch.engineHooks().Batch)
	require.Nil(t, r.watch.brokerObserver().Request)
	require.Nil(t, r.watch.brokerObserver().Fetched, "nobody finds out for whom is fetched, nor asks the catalog")
	require.True(t, r.watch.traffic.Load(), "the broker still knows when to rest")
}
