package proxy

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// Postgres is a TCP proxy that reads Postgres' protocol along. Connections must
// not be encrypted.
type Postgres struct {
	*TCP

	commit  []byte // what the text of a statement contains that counts as a commit
	late    atomic.Int64
	losing  atomic.Int64 // commits still to lose
	lost    atomic.Int64
	deaf    atomic.Bool
	swallow atomic.Int64
}

// ListenPostgres forwards to a server. A statement whose text contains commit is
// what LoseCommits looks for.
func ListenPostgres(upstream, commit string) (*Postgres, error) {
	p := &Postgres{commit: []byte(commit)}
	var err error
	p.TCP, err = listen(upstream, p.tap)
	return p, err
}

// DropNotifications swallows each NotificationResponse from now on, or no longer.
func (p *Postgres) DropNotifications(drop bool) { p.deaf.Store(drop) }

// Dropped is how many notifications were swallowed.
func (p *Postgres) Dropped() int64 { return p.swallow.Load() }

// LoseCommits treats the next n commits so: their client finds the connection
// reset at once, and the server gets the statement later.
func (p *Postgres) LoseCommits(n int, later time.Duration) {
	p.late.Store(int64(later))
	p.losing.Store(int64(n))
}

// Lost is how many commits were treated so.
func (p *Postgres) Lost() int64 { return p.lost.Load() }

func (p *Postgres) tap(l *link) {
	s := &session{proxy: p, link: l, commits: map[string]bool{}}
	l.toServer, l.toClient = s.fromClient, s.fromServer
}

// session is one connection's protocol state. Each direction has a goroutine of
// its own, and its own fields.
type session struct {
	proxy *Postgres
	link  *link

	request []byte // of the client: the beginning of a message
	started bool   // the start-up message, which has no type, was seen
	commits map[string]bool

	answer []byte // of the server: the beginning of a message
	gone   sync.Once
}

// fromClient remembers which prepared statements are commits, and loses those
// that are to be lost.
func (s *session) fromClient(chunk []byte) []byte {
	s.request = append(s.request, chunk...)
	lose := false
	for {
		head := 0
		if s.started {
			head = 1
		}
		if len(s.request) < head+4 {
			break
		}
		n := head + int(binary.BigEndian.Uint32(s.request[head:]))
		if len(s.request) < n {
			break
		}
		if s.started && s.runsCommit(s.request[0], s.request[5:n]) && s.proxy.losing.Load() > 0 && s.proxy.losing.Add(-1) >= 0 {
			lose = true
		}
		s.started = true
		s.request = s.request[n:]
	}
	if lose {
		s.lose()
	}
	return chunk
}

// runsCommit says whether a message runs a commit.
func (s *session) runsCommit(kind byte, body []byte) bool {
	switch kind {
	case 'P': // Parse: name, text
		name, text, ok := bytes.Cut(body, []byte{0})
		if ok {
			s.commits[string(name)] = bytes.Contains(text, s.proxy.commit)
		}
	case 'B': // Bind: portal, name, …
		_, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		return s.commits[string(name)]
	case 'Q': // a simple query
		return bytes.Contains(body, s.proxy.commit)
	}
	return false
}

// lose resets the client's side and, on the goroutine that forwards to the
// server, waits. What the server answers then is read and goes nowhere.
func (s *session) lose() {
	s.proxy.lost.Add(1)
	s.gone.Do(func() { abort(s.link.down) })
	<-time.After(time.Duration(s.proxy.late.Load()))
}

// fromServer leaves out notifications if they are to be.
func (s *session) fromServer(chunk []byte) []byte {
	s.answer = append(s.answer, chunk...)
	var out []byte
	for len(s.answer) >= 5 {
		n := 1 + int(binary.BigEndian.Uint32(s.answer[1:]))
		if len(s.answer) < n {
			break
		}
		if s.answer[0] == 'A' && s.proxy.deaf.Load() {
			s.proxy.swallow.Add(1)
		} else {
			out = append(out, s.answer[:n]...)
		}
		s.answer = s.answer[n:]
	}
	return out
}
