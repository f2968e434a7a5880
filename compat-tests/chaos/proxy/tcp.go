package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// TCP forwards connections to one address. Its methods are safe for concurrent
// use.
type TCP struct {
	listener net.Listener
	serving  sync.WaitGroup
	// taps makes the filters of a new connection; nil: none.
	taps func(l *link)

	mu struct {
		sync.Mutex

		upstream string
		mode     mode
		delay    time.Duration
		changed  chan struct{} // closed when mode or delay changes
		links    map[*link]struct{}
		closed   bool
	}
}

type mode int

const (
	passing mode = iota
	silent
	resetting
)

// link is one connection and its other half.
type link struct {
	down, up *net.TCPConn // the client's side, the server's side
	// toServer and toClient see each chunk before it is forwarded and return what
	// is; nil: all of it.
	toServer, toClient func(chunk []byte) []byte
	// forgotten: the server's side was reset, the client does not know yet. Under the proxy's lock.
	forgotten bool
	// ended is closed when either side is gone.
	ended chan struct{}
	end   sync.Once
}

// Listen forwards from a free port of 127.0.0.1 to upstream, host:port.
func Listen(upstream string) (*TCP, error) { return listen(upstream, nil) }

func listen(upstream string, taps func(l *link)) (*TCP, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for clients of %s: %w", upstream, err)
	}
	p := &TCP{listener: l, taps: taps}
	p.mu.upstream = upstream
	p.mu.changed = make(chan struct{})
	p.mu.links = map[*link]struct{}{}
	p.serving.Go(p.accept)
	return p, nil
}

// Addr is where clients connect, host:port.
func (p *TCP) Addr() string { return p.listener.Addr().String() }

// Close ends it and all its connections.
func (p *TCP) Close() {
	p.mu.Lock()
	p.mu.closed = true
	p.mu.Unlock()
	_ = p.listener.Close() // its only error is that it is closed
	p.set(resetting, 0)
	p.serving.Wait()
}

// Repoint forwards connections to another address from now on, and resets those there are, as whoever moves the address of
// a service does.
func (p *TCP) Repoint(upstream string) {
	p.mu.Lock()
	p.mu.upstream = upstream
	p.mu.Unlock()
	p.Break()
}

// Silence cuts without a sign: see the package comment.
func (p *TCP) Silence() { p.set(silent, 0) }

// Forget does what a firewall, a NAT or a proxy does that lost its state: servers find their connections reset, clients find
// nothing but silence, on new connections too. When it heals they find a reset.
func (p *TCP) Forget() {
	p.set(silent, 0)
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.mu.links {
		if l.up != nil {
			l.forgotten = true
			abort(l.up)
		}
	}
}

// Reset closes all connections with a reset, and each new one.
func (p *TCP) Reset() { p.set(resetting, 0) }

// Break resets the connections there are; new ones are served.
func (p *TCP) Break() { p.set(resetting, 0); p.set(passing, 0) }

// Delay holds back everything for d, each way.
func (p *TCP) Delay(d time.Duration) { p.set(passing, d) }

// Heal ends all of that.
func (p *TCP) Heal() { p.set(passing, 0) }

// Open is how many connections there are now.
func (p *TCP) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.links)
}

func (p *TCP) set(m mode, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.mode, p.mu.delay = m, delay
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
	if m == resetting {
		for l := range p.mu.links {
			l.reset()
		}
	}
}

func (p *TCP) state() (mode, time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.mode, p.mu.delay, p.mu.changed
}

func (p *TCP) server() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.upstream
}

func (p *TCP) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		l := &link{down: c.(*net.TCPConn), ended: make(chan struct{})}
		if p.taps != nil {
			p.taps(l)
		}
		p.serving.Go(func() { p.serve(l) })
	}
}

func (p *TCP) serve(l *link) {
	defer l.reset()
	if !p.enter(l) || !p.pass(l) {
		return
	}
	defer p.leave(l)
	up, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.server())
	if err != nil {
		return // the client finds its connection reset, as by a host without that server
	}
	l.setUp(p, up.(*net.TCPConn))
	var answers sync.WaitGroup
	answers.Go(func() {
		p.pump(l, l.down, l.up, l.toClient)
		if p.isForgotten(l) {
			p.pass(l) // until it heals
			l.reset()
		}
		l.done(l.down)
	})
	p.pump(l, l.up, l.down, l.toServer)
	l.done(l.up)
	answers.Wait()
	// A reset now would take back what the server has not read yet, such as the statement of LoseCommits.
	_ = l.up.SetReadDeadline(time.Now().Add(lingerFor))
	_, _ = io.Copy(io.Discard, l.up)
}

// lingerFor is how long a server may take to hang up once its client did.
const lingerFor = 2 * time.Second

// enter registers l, unless it is to be refused.
func (p *TCP) enter(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed || p.mu.mode == resetting {
		return false
	}
	p.mu.links[l] = struct{}{}
	return true
}

func (p *TCP) leave(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.links, l)
}

func (p *TCP) isForgotten(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.forgotten
}

// setUp is under the lock of the proxy since reset reads what it writes.
func (l *link) setUp(p *TCP, up *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.up = up
	select {
	case <-l.ended:
		_ = up.Close()
	default:
	}
}

// reset closes both sides so that each finds a reset.
func (l *link) reset() {
	l.end.Do(func() {
		close(l.ended)
		abort(l.down)
		if l.up != nil {
			abort(l.up)
		}
	})
}

// done passes on that one side has no more to say, unless both are to find a
// reset.
func (l *link) done(to *net.TCPConn) {
	select {
	case <-l.ended:
	default:
		_ = to.CloseWrite() // may be gone
	}
}

func abort(c *net.TCPConn) {
	_ = c.SetLinger(0) // it may be gone, which is what is wanted
	_ = c.Close()
}

// pump copies from one side to the other, as fast as the proxy's mode lets it.
func (p *TCP) pump(l *link, dst io.Writer, src io.Reader, tap func([]byte) []byte) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !p.pass(l) {
				return
			}
			chunk := buf[:n]
			if tap != nil {
				chunk = tap(chunk)
			}
			if _, err := dst.Write(chunk); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits until something may be forwarded, and says whether it still may.
func (p *TCP) pass(l *link) bool {
	delayed := false
	for {
		m, delay, changed := p.state()
		var after <-chan time.Time
		switch {
		case m == passing && (delay == 0 || delayed):
			return true
		case m == passing:
			after = time.After(delay)
		}
		select {
		case <-l.ended:
			return false
		case <-changed:
		case <-after:
			delayed = true
		}
	}
}
