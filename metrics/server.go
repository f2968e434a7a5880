package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of the HTTP server.
const (
	maxHTTPConnections = 128
	maxHeaderBytes     = 16 << 10
	maxScrapes         = 4 // at a time; more are told 503
	readTimeout        = 5 * time.Second
	writeTimeout       = 15 * time.Second
	profileTimeout     = 2 * time.Minute // of all answers when pprof is on: profiles take as long as they are asked to
	idleTimeout        = 60 * time.Second
	scrapeTimeout      = 10 * time.Second
	readyTimeout       = 2 * time.Second
)

var errReadyLate = fmt.Errorf("check readiness: no answer within %v", readyTimeout)

// ServerOptions configure [NewServer].
type ServerOptions struct {
	// Addr is where to listen, host:port; port 0 picks a free one.
	Addr string
	// Metrics is what /metrics exposes. Nil or the zero value: it answers 404.
	Metrics *Metrics
	// Ready says why the broker does not serve, or nil when it does. It is called for every /ready that comes while none is at
	// work, and for every scrape that is not refused, possibly at the same time, with a context that ends after two seconds; an answer
	// later than that is "not ready".
	// Nil means always ready.
	Ready func(ctx context.Context) error
	// Scrape is called before each scrape, to bring up to date what is not all the time, with a context that ends after two seconds.
	// Nil: nothing is.
	Scrape func(ctx context.Context)
	// Groups answers /v1/groups; nil: there is no such path.
	Groups Groups
	// Pprof serves net/http/pprof under /debug/pprof.
	Pprof bool
	// Logger hears of failures to serve. Nil discards.
	Logger *slog.Logger
}

// Server serves /health, /ready, /metrics and, when asked, /v1/groups and /debug/pprof.
type Server struct {
	opts     ServerOptions
	ready    readiness
	http     *http.Server
	listener net.Listener
	served   chan struct{} // closed when Serve has returned
	serveErr error
}

// NewServer listens on o.Addr, so that an address in use is an error at start, and does not serve yet: call
// [Server.Start].
func NewServer(ctx context.Context, o ServerOptions) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Ready == nil {
		o.Ready = func(context.Context) error { return nil }
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP on %s: %w", o.Addr, err)
	}
	s := &Server{opts: o, listener: newLimitListener(l, maxHTTPConnections), served: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	if o.Pprof {
		s.http.WriteTimeout = profileTimeout
	}
	return s, nil
}

// Addr returns the address listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Start serves in the background until [Server.Shutdown].
func (s *Server) Start() {
	go func() {
		defer close(s.served)
		if err := s.http.Serve(s.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.serveErr = fmt.Errorf("serve HTTP: %w", err)
			s.opts.Logger.Error("http server stopped", "error", err)
		}
	}()
}

// Shutdown stops listening, lets requests in progress end until ctx does, then cuts them. It returns what ended
// serving before its time, if anything did. Call it once, after [Server.Start].
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("shut down HTTP server: %w", errors.Join(err, s.http.Close()))
	}
	<-s.served
	return errors.Join(s.serveErr, err)
}

// check asks for a scrape whether the broker serves, and bounds how long the answer may take even when the function ignores its
// context. Scrapes do not share a check with /ready: it also brings up to date what they show, and there are few at a time.
func (s *Server) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.opts.Ready(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errReadyLate
	}
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "streamhouse: /health /ready /metrics /v1/groups\n")
	})
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if err := s.ready.ask(r.Context(), s.opts.Ready); err != nil {
			writeText(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
			return
		}
		writeText(w, http.StatusOK, "ready\n")
	})
	if reg := s.opts.Metrics.Registry(); reg != nil {
		mux.Handle("GET /metrics", s.scrapes(promhttp.HandlerFor(reg, promhttp.HandlerOpts{
			ErrorLog:          scrapeLog{s.opts.Logger},
			EnableOpenMetrics: true, // for who asks: exemplars are in no other format
		})))
	} else {
		mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
			writeText(w, http.StatusNotFound, "nothing is measured: this broker was started with --metrics=off\n")
		})
	}
	if s.opts.Groups != nil {
		s.handleGroups(mux)
	}
	if s.opts.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return http.MaxBytesHandler(mux, 0) // none of these reads a body
}

// scrapes bounds how many scrapes there are at a time and how long one takes, with all the work that is done before one: a flood of
// them must not become a flood of pings of the catalog. (promhttp's own bounds would hold for its own part only.) One that is answered
// since its time is over keeps its place until its work has ended.
func (s *Server) scrapes(answer http.Handler) http.Handler {
	places := make(chan struct{}, maxScrapes)
	return http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			writeText(w, http.StatusServiceUnavailable, fmt.Sprintf("%d scrapes are at work: try again later\n", maxScrapes))
			return
		}
		s.opts.Metrics.Agent.Ready(s.check(r.Context()) == nil)
		if s.opts.Scrape != nil {
			ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
			s.opts.Scrape(ctx)
			cancel()
		}
		answer.ServeHTTP(w, r)
	}), scrapeTimeout, fmt.Sprintf("the scrape took longer than %v\n", scrapeTimeout))
}

func writeText(w http.ResponseWriter, status int, body string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a client that went away is not our failure
}

// scrapeLog hands what goes wrong while gathering to slog.
type scrapeLog struct{ log *slog.Logger }

func (l scrapeLog) Println(v ...any) {
	l.log.Warn("scrape failed", "error", fmt.Sprint(v...))
}

// limitListener accepts no more than so many connections at a time; others wait in the kernel's queue.
type limitListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimitListener(l net.Listener, n int) *limitListener {
	return &limitListener{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitConn struct {
	net.Conn
	release func()
}

func (c *limitConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
