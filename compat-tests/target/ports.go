package target

import (
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// FreePorts returns n addresses of 127.0.0.1 that are the test's until it ends: see FreeRun.
func FreePorts(t *testing.T, n int) []string {
	t.Helper()
	out := make([]string, n)
	for i := range out {
		out[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(FreeRun(t, 1)))
	}
	return out
}

// FreeRun returns the first of n successive ports on which nobody listens. They are the test's until it ends: no other test gets
// them, in whichever process, since each has a locked file of its own; nor does a connection, since they are below the ports that
// Linux gives to connections (from 32768). Between two lives of a server its port is free, and any other port might be taken.
func FreeRun(t *testing.T, n int) int {
	t.Helper()
	const lowest, end = 15000, 32768
	dir := filepath.Join(os.TempDir(), "streamhouse-ports-"+strconv.Itoa(os.Getuid())) // as internal/freeport has it
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for range 200 {
		first := lowest + rand.IntN(end-lowest-n)
		var locks []*os.File
		for p := first; p < first+n; p++ {
			lock, ok := takePort(t, dir, p)
			if !ok {
				break
			}
			locks = append(locks, lock)
		}
		release := func() {
			for _, lock := range locks {
				_ = lock.Close() // which is all that unlocks it
			}
		}
		if len(locks) == n {
			t.Cleanup(release)
			return first
		}
		release()
	}
	require.Fail(t, "found no free port")
	return 0
}

// takePort locks a port's file, if nobody has it and nobody listens on the port.
func takePort(t *testing.T, dir string, port int) (lock *os.File, ok bool) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		if l, err := net.Listen("tcp", ":"+strconv.Itoa(port)); err == nil {
			require.NoError(t, l.Close())
			return lock, true
		}
	}
	_ = lock.Close() // another one's
	return nil, false
}
