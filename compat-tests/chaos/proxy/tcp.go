package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// TCP forwards connections to one address. Its methods are safe for concurrent
// use.
type TCP struct {
	addr     string
	serving  sync.WaitGroup
	closing  chan struct{}
	reserved int // a socket that holds the port of one that refuses; -1: it does not
	// taps makes the filters of a new connection; nil: none.
	taps func(l *link)

	mu struct {
		sync.Mutex

		listener net.Listener // closed while it refuses
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

// ListenWhile does so while there is a server at upstream, and refuses connections from when it finds none until there is one
// again, as the host of that server would.
func ListenWhile(upstream string) (*TCP, error) {
	reserved, addr, err := reserve()
	if err != nil {
		return nil, fmt.Errorf("reserve a port for clients of %s: %w", upstream, err)
	}
	p, err := listenAt(addr, upstream, nil)
	if err != nil {
		_ = syscall.Close(reserved) // nobody used it
		return nil, err
	}
	p.reserved = reserved
	return p, nil
}

func listen(upstream string, taps func(l *link)) (*TCP, error) {
	return listenAt("127.0.0.1:0", upstream, taps)
}

func listenAt(addr, upstream string, taps func(l *link)) (*TCP, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for clients of %s: %w", upstream, err)
	}
	p := &TCP{addr: l.Addr().String(), taps: taps, closing: make(chan struct{}), reserved: -1}
	p.mu.listener = l
	p.mu.upstream = upstream
	p.mu.changed = make(chan struct{})
	p.mu.links = map[*link]struct{}{}
	p.serving.Go(func() { p.accept(l) })
	return p, nil
}

// reserve binds a socket to a free port and does not listen: others may listen there, but the system gives the port to nobody who
// asks for any.
func reserve() (socket int, addr string, err error) {
	if socket, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		return -1, "", err
	}
	if err = syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(socket)
	}
	if err != nil {
		_ = syscall.Close(socket) // the first error is the one to tell
		return -1, "", err
	}
	return socket, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port), nil
}

// Addr is where clients connect, host:port.
func (p *TCP) Addr() string { return p.addr }

// Close ends it and all its connections.
func (p *TCP) Close() {
	p.mu.Lock()
	if !p.mu.closed {
		close(p.closing)
	}
	p.mu.closed = true
	_ = p.mu.listener.Close() // its only error is that it is closed
	p.mu.Unlock()
	p.set(resetting, 0)
	p.serving.Wait()
	if p.reserved >= 0 {
		_ = syscall.Close(p.reserved) // it did nothing
		p.reserved = -1
	}
}

// refuse stops listening until there is a server again.
func (p *TCP) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reserved < 0 || p.mu.closed || p.mu.listener.Close() != nil { // the last: it refuses already
		return
	}
	p.serving.Go(p.awaitServer)
}

func (p *TCP) awaitServer() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-p.closing:
			return
		}
		probe, err := net.DialTimeout("tcp", p.server(), time.Second)
		if err != nil {
			continue
		}
		_ = probe.Close() // it said nothing
		p.mu.Lock()
		if l, err := net.Listen("tcp", p.addr); err == nil && !p.mu.closed {
			p.mu.listener = l
			p.serving.Go(func() { p.accept(l) })
			p.mu.Unlock()
			return
		} else if err == nil {
			_ = l.Close() // nobody is to come any more
		}
		p.mu.Unlock()
	}
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

func (p *TCP) accept(listener net.Listener) {
	for {
		c, err := listener.Accept()
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
		p.refuse()
		p.passReset(l) // the client finds its connection reset, as by a host without that server
		return
	}
	l.setUp(p, up.(*net.TCPConn))
	var answers sync.WaitGroup
	answers.Go(func() {
		fromServer, _ := p.pump(l, l.down, l.up, l.toClient)
		if wasReset(fromServer) || p.isForgotten(l) {
			p.passReset(l)
		}
		l.done(l.down)
	})
	if _, toServer := p.pump(l, l.up, l.down, l.toServer); wasReset(toServer) {
		p.passReset(l)
	}
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

// passReset lets the client find what became of the server's side, once a cut has healed.
func (p *TCP) passReset(l *link) {
	p.pass(l)
	l.reset()
}

// wasReset says whether a side was reset: only one call is told by the system, the next ones find an end.
func wasReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

func abort(c *net.TCPConn) {
	_ = c.SetLinger(0) // it may be gone, which is what is wanted
	_ = c.Close()
}

// pump copies from one side to the other, as fast as the proxy's mode lets it, and returns what ended either.
func (p *TCP) pump(l *link, dst io.Writer, src io.Reader, tap func([]byte) []byte) (reading, writing error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !p.pass(l) {
				return nil, nil
			}
			chunk := buf[:n]
			if tap != nil {
				chunk = tap(chunk)
			}
			if _, err := dst.Write(chunk); err != nil {
				return nil, err
			}
		}
		if err != nil {
			return err, nil
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
