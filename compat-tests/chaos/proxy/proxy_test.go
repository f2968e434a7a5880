package proxy_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/proxy"
)

const (
	// moment is long enough for a byte to arrive, were it let through.
	moment = 100 * time.Millisecond
	// patience bounds waits for what must happen.
	patience = 30 * time.Second
)

// peer listens and hands out what connects.
func peer(t *testing.T) (addr string, conns <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	out := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			out <- c
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), out
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func silent(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(moment)))
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "%v", err)
}

func reset(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err := c.Read(make([]byte, 1))
	require.True(t, errors.Is(err, syscall.ECONNRESET), "%v", err)
}

// arrived waits until something has come that is not read yet.
func arrived(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	require.NoError(t, raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return err == nil && n > 0
	}))
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	_, err := io.WriteString(c, s)
	require.NoError(t, err)
}

func TestTCP(t *testing.T) {
	addr, conns := peer(t)
	p, err := proxy.Listen(addr)
	require.NoError(t, err)
	defer p.Close()
	c := dial(t, p.Addr())
	write(t, c, "hello")
	s := <-conns
	expect(t, s, "hello")
	write(t, s, "yes?")
	expect(t, c, "yes?")
	require.Equal(t, 1, p.Open())

	p.Silence()
	write(t, c, "are you there?")
	write(t, s, "hello?")
	silent(t, s)
	silent(t, c)
	late := dial(t, p.Addr())
	write(t, late, "new")
	p.Heal()
	expect(t, s, "are you there?")
	expect(t, c, "hello?")
	s2 := <-conns
	expect(t, s2, "new")

	p.Delay(2 * moment)
	begin := time.Now()
	write(t, c, "slowly")
	expect(t, s, "slowly")
	require.GreaterOrEqual(t, time.Since(begin), 2*moment)

	p.Reset()
	reset(t, c)
	reset(t, s)
	if refused, err := net.Dial("tcp", p.Addr()); err == nil {
		reset(t, refused)
		refused.Close()
	} else {
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	p.Heal()
	c = dial(t, p.Addr())
	write(t, c, "again")
	expect(t, <-conns, "again")

	p.Break()
	reset(t, c)
	c = dial(t, p.Addr())
	write(t, c, "and again")
	s = <-conns
	expect(t, s, "and again")
	require.NoError(t, s.(*net.TCPConn).CloseWrite())
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	write(t, c, "half closed")
	expect(t, s, "half closed")
}

// message is one of Postgres' protocol; kind 0: the start-up message.
func message(kind byte, body string) string {
	var b bytes.Buffer
	if kind != 0 {
		b.WriteByte(kind)
	}
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(4+len(body))))
	b.WriteString(body)
	return b.String()
}

func TestRepoint(t *testing.T) {
	before, conns := peer(t)
	after, others := peer(t)
	p, err := proxy.Listen(before)
	require.NoError(t, err)
	defer p.Close()
	c := dial(t, p.Addr())
	write(t, c, "hello")
	s := <-conns
	expect(t, s, "hello")
	p.Repoint(after)
	reset(t, c)
	reset(t, s)
	c = dial(t, p.Addr())
	write(t, c, "hello again")
	expect(t, <-others, "hello again")
}

func TestPostgresNotifications(t *testing.T) {
	addr, conns := peer(t)
	p, err := proxy.ListenPostgres(addr, "INSERT INTO tail")
	require.NoError(t, err)
	defer p.Close()
	c := dial(t, p.Addr())
	write(t, c, message(0, "user\x00me"))
	s := <-conns
	write(t, s, message('A', "one")+message('Z', "I"))
	expect(t, c, message('A', "one")+message('Z', "I"))
	p.DropNotifications(true)
	all := message('A', "two") + message('Z', "I") + message('A', "three") + message('T', "row")
	for i := range all { // however it is cut
		write(t, s, all[i:i+1])
	}
	expect(t, c, message('Z', "I")+message('T', "row"))
	require.EqualValues(t, 2, p.Dropped())
	p.DropNotifications(false)
	write(t, s, message('A', "four"))
	expect(t, c, message('A', "four"))
}

func TestPostgresLosesCommits(t *testing.T) {
	addr, conns := peer(t)
	p, err := proxy.ListenPostgres(addr, "INSERT INTO tail")
	require.NoError(t, err)
	defer p.Close()
	c := dial(t, p.Addr())
	prepare := message(0, "user\x00me") + message('P', "s1\x00SELECT 1\x00") + message('P', "s2\x00WITH b INSERT INTO tail\x00")
	write(t, c, prepare)
	s := <-conns
	expect(t, s, prepare)
	p.LoseCommits(1, 2*moment)
	write(t, c, message('B', "\x00s1\x00")) // another statement
	expect(t, s, message('B', "\x00s1\x00"))
	require.Zero(t, p.Lost())

	commit := message('B', "\x00s2\x00") + message('E', "\x00") + message('S', "")
	begin := time.Now()
	write(t, c, commit)
	reset(t, c)
	expect(t, s, commit)
	require.GreaterOrEqual(t, time.Since(begin), 2*moment, "it was applied later")
	write(t, s, message('Z', "I"))
	require.NoError(t, s.SetReadDeadline(time.Now().Add(patience)))
	_, err = s.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the server gets it in peace")
	require.EqualValues(t, 1, p.Lost())

	c = dial(t, p.Addr())
	write(t, c, prepare+commit)
	expect(t, <-conns, prepare+commit)
	require.EqualValues(t, 1, p.Lost(), "only one was to be lost")
}

func TestHTTP(t *testing.T) {
	const late = time.Second // long enough to look, meanwhile, that nothing is stored
	var puts atomic.Int64
	stored := make(chan string, 16)
	body := strings.Repeat("x", 64<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			b, err := io.ReadAll(r.Body)
			if err == nil {
				stored <- r.Host + r.URL.Path + string(b)
			}
			puts.Add(1)
			return
		}
		w.Header().Set("Content-Length", "65536")
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	h, err := proxy.ListenHTTP(server.Listener.Addr().String())
	require.NoError(t, err)
	defer h.Close()
	url := "http://" + h.Addr() + "/bucket/key"
	put := func() (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader("content"))
		require.NoError(t, err)
		return http.DefaultClient.Do(req)
	}
	get := func() (string, error) {
		resp, err := http.Get(url)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}

	got, err := get()
	require.NoError(t, err)
	require.Equal(t, body, got)
	resp, err := put()
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, h.Addr()+"/bucket/keycontent", <-stored, "the Host header is signed: it stays")
	require.Zero(t, h.Spoiled())

	h.Refuse(1)
	resp, err = put()
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.EqualValues(t, 1, h.Spoiled())

	h.Truncate(1)
	got, err = get()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotEmpty(t, got)
	require.LessOrEqual(t, len(got), len(body)/2, "what was not sent yet when the connection is closed may be lost, too")
	require.EqualValues(t, 2, h.Spoiled())

	h.Slow(len(body) * 5)
	begin := time.Now()
	got, err = get()
	require.NoError(t, err)
	require.Equal(t, body, got)
	require.GreaterOrEqual(t, time.Since(begin), moment)

	h.LatePuts(1, late)
	before := puts.Load()
	begin = time.Now()
	resp, err = put()
	if err == nil {
		resp.Body.Close()
	}
	require.Error(t, err)
	require.Equal(t, before, puts.Load())
	require.Equal(t, h.Addr()+"/bucket/keycontent", <-stored)
	require.GreaterOrEqual(t, time.Since(begin), late, "stored after the client was told that it failed")

	h.Heal()
	resp, err = put()
	require.NoError(t, err)
	resp.Body.Close()
	<-stored
}

func TestTCPForgets(t *testing.T) {
	addr, conns := peer(t)
	p, err := proxy.Listen(addr)
	require.NoError(t, err)
	defer p.Close()
	c := dial(t, p.Addr())
	write(t, c, "hello")
	server := <-conns
	expect(t, server, "hello")
	p.Forget()
	reset(t, server)
	silent(t, c)
	write(t, c, "is anybody there")
	silent(t, c)
	late := dial(t, p.Addr())
	write(t, late, "and here")
	silent(t, late)
	p.Heal()
	reset(t, c)
	server = <-conns
	expect(t, server, "and here")
	write(t, server, "yes")
	expect(t, late, "yes")
}

// A process that is killed resets the connections on which something had come that it did not read, and those it had not accepted
// yet. A client takes that for what it is; an end in good order, before its first answer, it may take for a server that wants TLS.
func TestTCPPassesResetsOn(t *testing.T) {
	addr, conns := peer(t)
	p, err := proxy.Listen(addr)
	require.NoError(t, err)
	defer p.Close()

	c := dial(t, p.Addr())
	write(t, c, "who are you?")
	server := <-conns
	arrived(t, server)
	require.NoError(t, server.Close())
	reset(t, c)

	c = dial(t, p.Addr())
	server = <-conns
	p.Silence()
	require.NoError(t, server.(*net.TCPConn).SetLinger(0))
	require.NoError(t, server.Close())
	silent(t, c)
	p.Heal()
	reset(t, c)
}

// greeted accepts connections until one says what is wanted: others are of who looked whether anybody is there.
func greeted(t *testing.T, l net.Listener, want string) net.Conn {
	t.Helper()
	require.NoError(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	for {
		c, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err == nil {
			require.Equal(t, want, string(got))
			return c
		}
		c.Close()
	}
}

func TestTCPRefusesWhereThereIsNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p, err := proxy.ListenWhile(l.Addr().String())
	require.NoError(t, err)
	defer p.Close()
	for range 3 {
		c := dial(t, p.Addr())
		write(t, c, "hello")
		require.NoError(t, greeted(t, l, "hello").Close())
		require.NoError(t, l.Close())

		refused := func() bool {
			c, err := net.Dial("tcp", p.Addr())
			if err == nil {
				c.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		}
		require.Eventually(t, refused, patience, time.Millisecond) // the first one to come finds it out
		for range 100 {
			require.True(t, refused())
		}

		l, err = net.Listen("tcp", l.Addr().String())
		require.NoError(t, err)
		require.Eventually(t, func() bool { return !refused() }, patience, 10*time.Millisecond)
	}
}
