package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// server is the set of listeners and connections of a Broker.
type server struct {
	mu struct {
		sync.Mutex
		draining  bool
		listeners map[net.Listener]struct{}
		conns     map[*conn]struct{}
		perIP     map[string]int
	}
	wg sync.WaitGroup // connections
}

// Serve accepts connections until ctx ends, ln is closed or Shutdown is called, and returns nil in all three cases.
// Connections already accepted live on until Shutdown. name is the listener's name in Config.Listeners.
func (b *Broker) Serve(ctx context.Context, ln net.Listener, name string) error {
	if _, ok := b.cfg.Listeners[name]; !ok {
		return fmt.Errorf("serve: listener %q has no advertised address", name)
	}
	s := &b.server
	s.mu.Lock()
	if s.mu.draining {
		s.mu.Unlock()
		return ln.Close()
	}
	s.mu.listeners[ln] = struct{}{}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer func() {
		s.mu.Lock()
		delete(s.mu.listeners, ln)
		s.mu.Unlock()
		_ = ln.Close()
	}()

	backoff := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			backoff = 0
			b.accept(nc, name)
			continue
		case errors.Is(err, net.ErrClosed), ctx.Err() != nil, b.isDraining():
			return nil
		}
		// Out of file descriptors and the like: wait, or the loop would burn a core.
		backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
		b.limited.warn("accept failed", "listener", name, "retry_in", backoff, "error", err)
		t := time.NewTimer(backoff)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-b.draining:
			t.Stop()
			return nil
		}
	}
}

// accept admits a connection within the limits and starts serving it.
func (b *Broker) accept(nc net.Conn, listener string) {
	ip := hostOf(nc.RemoteAddr())
	s := &b.server
	s.mu.Lock()
	var why string
	switch {
	case s.mu.draining:
		why = "shutting down"
	case len(s.mu.conns) >= b.cfg.Limits.MaxConnections:
		why = "too many connections"
	case s.mu.perIP[ip] >= b.cfg.Limits.MaxConnectionsPerIP:
		why = "too many connections from one address"
	}
	if why != "" {
		s.mu.Unlock()
		_ = nc.Close()
		b.limited.warn("connection refused", "reason", why, "client", ip, "listener", listener)
		return
	}
	c := newConn(b, nc, listener, ip)
	s.mu.conns[c] = struct{}{}
	s.mu.perIP[ip]++
	if b.obs.Connections != nil {
		b.obs.Connections(len(s.mu.conns)) // under the lock, so that two changes are told in their order
	}
	s.wg.Add(1)
	s.mu.Unlock()
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetNoDelay(true)
	}
	c.start()
}

// gone forgets a connection that has ended.
func (b *Broker) gone(c *conn) {
	s := &b.server
	s.mu.Lock()
	delete(s.mu.conns, c)
	if s.mu.perIP[c.ip]--; s.mu.perIP[c.ip] <= 0 {
		delete(s.mu.perIP, c.ip)
	}
	if b.obs.Connections != nil {
		b.obs.Connections(len(s.mu.conns))
	}
	s.mu.Unlock()
	s.wg.Done()
}

// Shutdown stops accepting and reading, ends long polls, finishes the answers of what was read and closes all
// connections. When ctx ends first it closes what is left at once and returns ctx's error. The Log must still work.
func (b *Broker) Shutdown(ctx context.Context) error {
	s := &b.server
	s.mu.Lock()
	if !s.mu.draining {
		s.mu.draining = true
		close(b.draining)
	}
	for ln := range s.mu.listeners {
		_ = ln.Close()
	}
	for c := range s.mu.conns {
		c.stopReading()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("shut down: %w", ctx.Err())
		s.mu.Lock()
		for c := range s.mu.conns {
			c.abort()
		}
		s.mu.Unlock()
		<-done
	}
	b.sessions.close()
	return err
}

func (b *Broker) isDraining() bool {
	select {
	case <-b.draining:
		return true
	default:
		return false
	}
}

func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// limitedLog writes at most one line a second per message, and tells how many it left out.
type limitedLog struct {
	log *slog.Logger
	mu  struct {
		sync.Mutex
		last map[string]*limitedLine
	}
}

type limitedLine struct {
	at      time.Time
	skipped int
}

// warn logs msg, which must be a constant: it is the key of the limit.
func (l *limitedLog) warn(msg string, args ...any) {
	now := time.Now()
	l.mu.Lock()
	line := l.mu.last[msg]
	if line == nil {
		line = &limitedLine{}
		l.mu.last[msg] = line
	}
	if now.Sub(line.at) < time.Second {
		line.skipped++
		l.mu.Unlock()
		return
	}
	skipped := line.skipped
	line.at, line.skipped = now, 0
	l.mu.Unlock()
	if skipped > 0 {
		args = append(args, "similar_lines_left_out", skipped)
	}
	l.log.Warn(msg, args...) //nolint:sloglint // callers pass constants
}
