// Package freeport finds ports for servers that tests start as processes: they are told where to listen, and take a moment to do so.
package freeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports are below those (32768 and up) that Linux gives to whoever connects, or listens on port 0. Tests that run beside this one
// do that by the hundred, and each may take a port of that range before the server does.
const first, last = 20_000, 32_767

// tries is how often a port may be in use: few are.
const tries = 1000

var given struct {
	sync.Mutex

	ports map[int]bool
}

// Get returns a port of 127.0.0.1 on which nobody listens, and that it did not give to this process before.
func Get(ctx context.Context) (int, error) {
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = make(map[int]bool)
	}
	for range tries {
		port := first + rand.IntN(last-first+1)
		if !given.ports[port] && free(ctx, port) {
			given.ports[port] = true
			return port, nil
		}
	}
	return 0, errors.New("found no free port")
}

func free(ctx context.Context, port int) bool {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	return err == nil && l.Close() == nil
}
