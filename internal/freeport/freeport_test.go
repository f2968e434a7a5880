package freeport

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPortsDifferAndAreFree(t *testing.T) {
	seen := make(map[int]bool)
	for range 200 {
		port, err := Get(t.Context())
		require.NoError(t, err)
		require.False(t, seen[port], "given twice")
		seen[port] = true
		require.True(t, port >= first && port <= last)
		require.True(t, free(t.Context(), port))
	}
}

func TestAPortInUseIsNotFree(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	require.False(t, free(t.Context(), l.Addr().(*net.TCPAddr).Port))
}
