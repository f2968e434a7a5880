package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func startServer(t *testing.T, o ServerOptions) string {
	t.Helper()
	o.Addr = "127.0.0.1:0"
	s, err := NewServer(t.Context(), o)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, s.Shutdown(ctx))
	})
	return "http://" + s.Addr().String()
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}

func TestServerAnswers(t *testing.T) {
	m := New(Options{})
	var reason atomic.Pointer[error]
	url := startServer(t, ServerOptions{Metrics: m, Ready: func(context.Context) error {
		if e := reason.Load(); e != nil {
			return *e
		}
		return nil
	}})
	status, body := get(t, url+"/health")
	require.Equal(t, 200, status)
	require.Equal(t, "ok\n", body)
	status, _ = get(t, url+"/ready")
	require.Equal(t, 200, status)
	status, body = get(t, url+"/metrics")
	require.Equal(t, 200, status)
	require.Contains(t, body, "streamhouse_agent_ready 1")

	err := errors.New("the catalog does not answer")
	reason.Store(&err)
	status, body = get(t, url+"/ready")
	require.Equal(t, 503, status)
	require.Contains(t, body, "the catalog does not answer")
	_, body = get(t, url+"/metrics")
	require.Contains(t, body, "streamhouse_agent_ready 0")
	status, _ = get(t, url+"/health")
	require.Equal(t, 200, status)

	for _, path := range []string{"/nothing", "/debug/pprof/", "/debug/pprof/cmdline"} {
		status, _ = get(t, url+path)
		require.Equal(t, 404, status, path)
	}
	res, err2 := http.Post(url+"/metrics", "text/plain", http.NoBody)
	require.NoError(t, err2)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 405, res.StatusCode)
}

// samplesOf are the names of samples in an answer, and its content type.
func samplesOf(t *testing.T, url, accept string) (names map[string]bool, contentType, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/metrics", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	names = map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "#") {
			name, _, _ := strings.Cut(line, " ")
			name, _, _ = strings.Cut(name, "{")
			names[name] = true
		}
	}
	return names, res.Header.Get("Content-Type"), string(b)
}

func TestOpenMetricsIsForThoseWhoAskAndNamesTheSameSamples(t *testing.T) {
	m := New(Options{})
	touchAll(m, "orders")
	const id = "0123456789abcdef0123456789abcdef"
	m.Producer.Topic("orders").SendDuration(3*time.Millisecond, id)
	m.Consumer.Topic("orders").PollDuration(3*time.Millisecond, id)
	url := startServer(t, ServerOptions{Metrics: m})
	text, kind, body := samplesOf(t, url, "")
	require.True(t, strings.HasPrefix(kind, "text/plain;"), kind)
	require.NotContains(t, body, id)
	open, kind, body := samplesOf(t, url, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
	require.True(t, strings.HasPrefix(kind, "application/openmetrics-text;"), kind)
	require.Equal(t, text, open)
	require.NotContains(t, body, "_total_total")
	require.True(t, strings.HasSuffix(body, "# EOF\n"))
	for _, family := range []string{"producer_send_duration_seconds", "consumer_poll_duration_seconds"} {
		require.Regexp(t, `streamhouse_`+family+`_bucket\{topic="orders",le="0\.004"\} 2 # \{trace_id="`+id+`"\} 0\.003 \d+\.`, body)
	}
}

func TestServerServesProfilesWhenAsked(t *testing.T) {
	url := startServer(t, ServerOptions{Pprof: true})
	status, body := get(t, url+"/debug/pprof/goroutine?debug=1")
	require.Equal(t, 200, status)
	require.Contains(t, body, "goroutine profile")
	status, _ = get(t, url+"/metrics")
	require.Equal(t, 404, status, "without Metrics there is nothing to scrape")
}

func TestAReadinessCheckThatHangsIsNotReady(t *testing.T) {
	release := make(chan struct{})
	url := startServer(t, ServerOptions{Ready: func(context.Context) error {
		<-release // ignores its context
		return nil
	}})
	status, body := get(t, url+"/ready")
	close(release)
	require.Equal(t, 503, status)
	require.Contains(t, body, "no answer")
}

// A flood of scrapes asks for no more work than so many at a time: neither the catalog, nor what brings numbers up to date.
func TestWorkBeforeAScrapeIsBehindItsLimit(t *testing.T) {
	release := make(chan struct{})
	var asked, updated atomic.Int32
	url := startServer(t, ServerOptions{
		Metrics: New(Options{}),
		Ready: func(context.Context) error {
			asked.Add(1)
			return nil
		},
		Scrape: func(context.Context) {
			updated.Add(1)
			<-release
		},
	})
	const flood = 20
	statuses := make(chan int, flood)
	for range flood {
		go func() {
			res, err := http.Get(url + "/metrics")
			if err != nil {
				statuses <- 0
				return
			}
			_ = res.Body.Close()
			statuses <- res.StatusCode
		}()
	}
	letGo := sync.OnceFunc(func() { close(release) })
	defer letGo()
	for range flood - maxScrapes {
		select {
		case status := <-statuses:
			require.Equal(t, 503, status)
		case <-time.After(scrapeTimeout / 2):
			require.Fail(t, "more scrapes are at work than may be", "%d asked, %d bring up to date", asked.Load(), updated.Load())
		}
	}
	require.Eventually(t, func() bool { return updated.Load() == maxScrapes }, scrapeTimeout/2, time.Millisecond)
	require.EqualValues(t, maxScrapes, asked.Load())
	letGo()
	for range maxScrapes {
		require.Equal(t, 200, <-statuses)
	}
	status, body := get(t, url+"/metrics")
	require.Equal(t, 200, status)
	require.Contains(t, body, "streamhouse_agent_ready 1")
}

func TestAnAddressInUseIsAnErrorAtStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, err = NewServer(t.Context(), ServerOptions{Addr: l.Addr().String()})
	require.ErrorContains(t, err, "listen for HTTP on "+l.Addr().String())
}

func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := newLimitListener(inner, 1)
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
	}
	first, err := l.Accept()
	require.NoError(t, err)
	second := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			second <- c
		}
		close(second)
	}()
	select {
	case <-second:
		require.Fail(t, "accepted above the limit")
	default:
	}
	require.NoError(t, first.Close())
	c, ok := <-second
	require.True(t, ok)
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.Close(), net.ErrClosed, "a second Close must not free a second place")
	require.NoError(t, l.Close())
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}
