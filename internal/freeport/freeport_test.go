//go:build unix

package freeport_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/freeport"
)

// other makes this program another process that takes ports: it prints them, and keeps them until its input ends.
const other = "FREEPORT_OTHER"

const each = 200 // ports of a process: that four of them have none in common by luck is not to be expected (1 in 10^8)

func TestMain(m *testing.M) {
	if os.Getenv(other) == "" {
		m.Run()
		return
	}
	for range each {
		port, err := freeport.Take(context.Background())
		fmt.Fprintln(os.Stdout, port, err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestNobodyElseGetsAPort(t *testing.T) {
	taken := make(map[string]bool)
	take := func(port string) {
		t.Helper()
		require.NotContains(t, taken, port)
		taken[port] = true
	}
	var outputs []*bufio.Scanner
	for range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), other+"=1")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = in.Close()
			_ = cmd.Wait()
		})
		outputs = append(outputs, bufio.NewScanner(out))
	}
	for range each {
		port, err := freeport.Take(t.Context())
		require.NoError(t, err)
		take(fmt.Sprint(port, " <nil>"))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	for _, out := range outputs {
		for range each {
			require.True(t, out.Scan())
			require.Contains(t, out.Text(), " <nil>")
			take(out.Text())
		}
	}
}
