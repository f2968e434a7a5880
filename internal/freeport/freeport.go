//go:build unix

// Package freeport finds ports for the servers that tests start. A port that the system chose, was closed and is told to a
// server may be gone until that listens: to another test's server, or to a connection that some process opened meanwhile. CI
// has seen both.
package freeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Ports are given from lowest on and below end: from 32768 on Linux gives them to connections.
const lowest, end = 15000, 32768

// locks are held until the process ends.
var locks struct {
	sync.Mutex
	files []*os.File
}

// Take returns a TCP port on which nobody listens, and which no other caller on this machine gets while this process runs.
func Take(ctx context.Context) (int, error) {
	dir := filepath.Join(os.TempDir(), "streamhouse-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	files, err := os.OpenRoot(dir)
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = files.Close() }() // what it opened stays open
	for range 200 {
		port := lowest + rand.IntN(end-lowest)
		file, err := files.OpenFile(strconv.Itoa(port), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && free(ctx, port) {
			keep(file)
			return port, nil
		}
		_ = file.Close() // another one's
	}
	return 0, errors.New("find a free port: 200 of them are taken")
}

// keep holds a lock: a file that nobody has is closed.
func keep(lock *os.File) {
	locks.Lock()
	defer locks.Unlock()
	locks.files = append(locks.files, lock)
}

func free(ctx context.Context, port int) bool {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	return err == nil && l.Close() == nil
}
