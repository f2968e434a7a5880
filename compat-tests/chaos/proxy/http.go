package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// HTTP forwards requests to an object store and spoils some of them. Its methods
// are safe for concurrent use.
type HTTP struct {
	listener net.Listener
	server   *http.Server
	proxy    *httputil.ReverseProxy
	client   *http.Client
	upstream string
	serving  sync.WaitGroup
	late     sync.WaitGroup
	spoil    atomic.Pointer[spoil]
	spoiled  atomic.Int64
}

// spoil is what is done to requests.
type spoil struct {
	share  float64 // of the requests it is meant for
	refuse bool
	cut    bool
	pace   int // bytes/s; 0: no limit
	later  []time.Duration
}

// ListenHTTP forwards from a free port of 127.0.0.1 to upstream, host:port. The
// Host header stays what the client sent, since it is signed.
func ListenHTTP(upstream string) (*HTTP, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for clients of %s: %w", upstream, err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true, ExpectContinueTimeout: time.Second}
	target := &url.URL{Scheme: "http", Host: upstream}
	h := &HTTP{listener: l, client: &http.Client{Transport: transport}, upstream: upstream}
	h.spoil.Store(&spoil{})
	h.proxy = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		ModifyResponse: h.answer,
		ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // it is told of what is done here on purpose
		// A server that is not there resets connections; it does not answer 502.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: h.proxy.ErrorLog}
	h.serving.Go(func() { _ = h.server.Serve(l) }) // ends when closed
	return h, nil
}

// Addr is where clients connect, host:port.
func (h *HTTP) Addr() string { return h.listener.Addr().String() }

// Close ends it and all its connections.
func (h *HTTP) Close() {
	_ = h.server.Close() // nobody is interested in what is cut off
	h.serving.Wait()
	h.late.Wait()
	h.client.CloseIdleConnections()
}

// Refuse answers a share (0 to 1) of all requests with 503 SlowDown.
func (h *HTTP) Refuse(share float64) { h.spoil.Store(&spoil{share: share, refuse: true}) }

// Truncate ends a share of all answers with a body after half of it.
func (h *HTTP) Truncate(share float64) { h.spoil.Store(&spoil{share: share, cut: true}) }

// Slow lets bodies pass at so many bytes a second, each way.
func (h *HTTP) Slow(bytesPerSecond int) { h.spoil.Store(&spoil{share: 1, pace: bytesPerSecond}) }

// LatePuts hangs up on a share of all PUTs once they were sent, and stores what
// they sent after one of these times.
func (h *HTTP) LatePuts(share float64, later ...time.Duration) {
	h.spoil.Store(&spoil{share: share, later: later})
}

// Heal ends all of that.
func (h *HTTP) Heal() { h.spoil.Store(&spoil{}) }

// Spoiled is how many requests were spoiled.
func (h *HTTP) Spoiled() int64 { return h.spoiled.Load() }

// ServeHTTP implements http.Handler.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := h.spoil.Load()
	if s.share == 0 || s.share < 1 && rand.Float64() >= s.share {
		h.proxy.ServeHTTP(w, r)
		return
	}
	switch {
	case s.refuse:
		h.spoiled.Add(1)
		refuse(w, r)
	case len(s.later) > 0 && r.Method == http.MethodPut:
		h.spoiled.Add(1)
		h.putLater(r, s.later[rand.IntN(len(s.later))])
	default:
		if s.pace > 0 && r.ContentLength > 0 {
			h.spoiled.Add(1)
			r.Body = &paced{ReadCloser: r.Body, pace: s.pace}
		}
		h.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), spoilKey{}, s)))
	}
}

type spoilKey struct{}

// answer spoils the body of an answer.
func (h *HTTP) answer(resp *http.Response) error {
	s, _ := resp.Request.Context().Value(spoilKey{}).(*spoil)
	if s == nil || resp.Request.Method == http.MethodHead || resp.ContentLength <= 1 {
		return nil
	}
	switch {
	case s.cut:
		h.spoiled.Add(1)
		resp.Body = &truncated{ReadCloser: resp.Body, left: resp.ContentLength / 2}
	case s.pace > 0:
		h.spoiled.Add(1)
		resp.Body = &paced{ReadCloser: resp.Body, pace: s.pace}
	}
	return nil
}

// refuse answers as S3 does when it is asked too much.
func refuse(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a client that is still sending would see a reset instead
	const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusServiceUnavailable)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, body) // it may have gone
	}
}

// putLater hangs up on the client and sends what it sent afterwards.
func (h *HTTP) putLater(r *http.Request, later time.Duration) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, "http://"+h.upstream+r.URL.RequestURI(), bytes.NewReader(body))
		if err == nil {
			out.Header, out.Host = r.Header.Clone(), r.Host
			out.Header.Del("Expect")
			h.late.Go(func() {
				<-time.After(later)
				if resp, err := h.client.Do(out); err == nil { // whether it is stored is the server's affair
					_ = resp.Body.Close()
				}
			})
		}
	}
	panic(http.ErrAbortHandler)
}

// truncated is a body that ends early; the connection is closed for it.
type truncated struct {
	io.ReadCloser

	left int64
}

func (t *truncated) Read(p []byte) (int, error) {
	if t.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := t.ReadCloser.Read(p[:min(int64(len(p)), t.left)])
	t.left -= int64(n)
	return n, err
}

// paced is a body that takes its time.
type paced struct {
	io.ReadCloser

	pace int // bytes/s
}

func (s *paced) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p[:min(len(p), max(s.pace/20, 1))])
	<-time.After(time.Duration(n) * time.Second / time.Duration(s.pace))
	return n, err
}
