package s3

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// getFaults answer the first GET; the second is passed on.
var getFaults = map[string]struct {
	reason string
	answer func(p *proxy, w http.ResponseWriter, r *http.Request)
}{
	"truncated": {ReasonTruncated, func(p *proxy, w http.ResponseWriter, r *http.Request) {
		cut(p, w, r, 1000)
		abort()
	}},
	"stalled headers": {ReasonTimeout, func(_ *proxy, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	"stalled body": {ReasonTimeout, func(p *proxy, w http.ResponseWriter, r *http.Request) {
		cut(p, w, r, 1000)
		<-r.Context().Done()
	}},
	"slow body": {ReasonTimeout, func(p *proxy, w http.ResponseWriter, r *http.Request) {
		cut(p, w, r, 0)
		tick := time.NewTicker(100 * time.Millisecond) // never stalled, never done
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				_, _ = w.Write([]byte("x"))
				w.(http.Flusher).Flush()
			}
		}
	}},
	"unavailable":    {ReasonServer, func(_ *proxy, w http.ResponseWriter, _ *http.Request) { answerXML(w, 503, "ServiceUnavailable") }},
	"HTML":           {ReasonServer, func(_ *proxy, w http.ResponseWriter, _ *http.Request) { answerText(w, 502, "<html>Bad gateway") }},
	"slow down":      {ReasonThrottled, func(_ *proxy, w http.ResponseWriter, _ *http.Request) { answerXML(w, 503, "SlowDown") }},
	"too many":       {ReasonThrottled, func(_ *proxy, w http.ResponseWriter, _ *http.Request) { answerText(w, 429, "") }},
	"expired token":  {ReasonCredentials, func(_ *proxy, w http.ResponseWriter, _ *http.Request) { answerXML(w, 400, "ExpiredToken") }},
	"range ignored":  {ReasonAnswer, func(_ *proxy, w http.ResponseWriter, _ *http.Request) { answerText(w, 200, strings.Repeat("x", 9000)) }},
	"another range":  {ReasonAnswer, rangeAnswer("bytes 11-8010/10000", 8000)},
	"garbage range":  {ReasonAnswer, rangeAnswer("bytes 8000", 8000)},
	"another length": {ReasonAnswer, rangeAnswer("bytes 10-8009/10000", 7000)},
	"endless header": {ReasonConnection, func(_ *proxy, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
	}},
}

func rangeAnswer(header string, n int) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(_ *proxy, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", header)
		answerText(w, http.StatusPartialContent, strings.Repeat("x", n))
	}
}

// cut sends the header and n bytes of the server's answer.
func cut(p *proxy, w http.ResponseWriter, r *http.Request, n int64) {
	res, err := p.forward(r)
	if err != nil {
		abort()
	}
	defer res.Body.Close()
	answerHeader(w, res)
	_, _ = io.CopyN(w, res.Body, n)
	w.(http.Flusher).Flush()
}

func TestGetFaults(t *testing.T) {
	for name, fault := range getFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, e := throughProxy(t, func(o *Options) { o.StallTimeout = 2 * time.Second },
				func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
					if kind == http.MethodGet && n == 1 {
						fault.answer(p, w, r)
						return
					}
					p.pass(w, r)
				})
			data := random(1, 10_000)
			require.NoError(t, s.Put(t.Context(), "object", objstore.NewBody(data)))
			got := make([]byte, 8000)
			require.NoError(t, s.GetRange(t.Context(), "object", 10, got))
			require.Equal(t, data[10:8010], got)
			require.Equal(t, []string{"get " + fault.reason}, e.retried())
		})
	}
}

// TestGetReset: net/http itself asks again when a connection it had used before is reset, so it takes two resets.
func TestGetReset(t *testing.T) {
	s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodGet && n <= 2 {
			abort()
		}
		p.pass(w, r)
	})
	data := random(1, 1000)
	require.NoError(t, s.Put(t.Context(), "object", objstore.NewBody(data)))
	requireStored(t, s, "object", data)
	require.Equal(t, []string{"get connection"}, e.retried())
}

// TestShorterObject: what looks like a truncated body is the object's end, and nothing to try again.
func TestShorterObject(t *testing.T) {
	s, e := throughProxy(t, nil, func(p *proxy, _ string, _ int, w http.ResponseWriter, r *http.Request) { p.pass(w, r) })
	require.NoError(t, s.Put(t.Context(), "short", objstore.NewBody(random(1, 1000))))
	err := s.GetRange(t.Context(), "short", 500, make([]byte, 501))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.False(t, objstore.Retriable(err))
	err = s.GetRange(t.Context(), "short", 1000, make([]byte, 1))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Empty(t, e.retried())
}

func TestGetDenied(t *testing.T) {
	s, e := throughProxy(t, nil, func(_ *proxy, _ string, _ int, w http.ResponseWriter, _ *http.Request) {
		answerXML(w, http.StatusForbidden, "AccessDenied")
	})
	err := s.GetRange(t.Context(), "a", 0, make([]byte, 1))
	require.ErrorIs(t, err, ErrAccessDenied)
	require.NotErrorIs(t, err, objstore.ErrReadOnly)
	require.ErrorContains(t, err, "s3:GetObject")
	_, err = s.Head(t.Context(), "a")
	require.ErrorIs(t, err, ErrAccessDenied)
	require.Empty(t, e.retried())
}

// TestCallerEnds: the caller's end is told as such, and at once, while the server says nothing.
func TestCallerEnds(t *testing.T) {
	started := make(chan struct{}, 1)
	s, e := throughProxy(t, func(o *Options) { o.StallTimeout = time.Minute },
		func(_ *proxy, _ string, _ int, _ http.ResponseWriter, r *http.Request) {
			started <- struct{}{}
			<-r.Context().Done()
		})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	err := s.GetRange(ctx, "a", 0, make([]byte, 1))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, []string{"get 0 cancelled"}, e.requests())

	go func() {
		<-started
		require.NoError(t, s.Close())
	}()
	err = s.GetRange(t.Context(), "a", 0, make([]byte, 1))
	require.ErrorIs(t, err, objstore.ErrClosed)
}

// TestHedge: one GET hangs; a second one on another connection answers.
func TestHedge(t *testing.T) {
	var hang atomic.Bool
	s, e := throughProxy(t, func(o *Options) { o.StallTimeout = time.Minute },
		func(p *proxy, kind string, _ int, w http.ResponseWriter, r *http.Request) {
			if kind == http.MethodGet && hang.CompareAndSwap(true, false) {
				cut(p, w, r, 100) // also a body that begins
				<-r.Context().Done()
				return
			}
			p.pass(w, r)
		})
	data := random(1, 100_000)
	require.NoError(t, s.Put(t.Context(), "hedged", objstore.NewBody(data)))
	got := make([]byte, len(data))
	for range 64 {
		require.NoError(t, s.GetRange(t.Context(), "hedged", 0, got))
	}
	e.reset()
	hang.Store(true)
	clear(got)
	start := time.Now()
	require.NoError(t, s.GetRange(t.Context(), "hedged", 0, got))
	require.Less(t, time.Since(start), 10*time.Second)
	require.Equal(t, data, got)
	require.Equal(t, []bool{true}, e.hedged())
	require.ElementsMatch(t, []string{"get 206", "get 206 cancelled"}, e.requests())
	require.Empty(t, e.retried())
}

// TestNoHedgeOnceThrottled: the server asks to slow down while a GET takes long. A second one would go through the closed gate.
func TestNoHedgeOnceThrottled(t *testing.T) {
	const slow = 500 * time.Millisecond // what GETs take before a second one is sent
	var s *Store
	var slowly atomic.Bool
	var gets atomic.Int32
	s, _ = throughProxy(t, nil, func(p *proxy, kind string, _ int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodGet && slowly.Load() {
			gets.Add(1)
			s.pacer.throttled(time.Now(), 0) // as an answer to another call does
			<-time.After(2 * slow)
		}
		p.pass(w, r)
	})
	data := random(1, 1000)
	require.NoError(t, s.Put(t.Context(), "throttled", objstore.NewBody(data)))
	for range 128 {
		s.hedge.Took(int64(len(data)), slow)
	}
	slowly.Store(true)
	require.NoError(t, s.GetRange(t.Context(), "throttled", 0, make([]byte, len(data))))
	require.EqualValues(t, 1, gets.Load())
}

// TestHeadComputes: a server that keeps no checksums.
func TestHeadComputes(t *testing.T) {
	s, e := throughProxy(t, nil, func(p *proxy, _ string, _ int, w http.ResponseWriter, r *http.Request) {
		p.pass(&stripping{w}, r)
	})
	data := random(1, computeBytes+1000)
	require.NoError(t, s.Put(t.Context(), "computed", objstore.NewBody(data)))
	e.reset()
	info, err := s.Head(t.Context(), "computed")
	require.NoError(t, err)
	require.True(t, info.HasChecksum)
	require.Equal(t, objstore.Checksum(data), info.Checksum)
	require.Equal(t, []string{"head 200", "get 206", "get 206"}, e.requests())
}

// stripping leaves the checksums out of answers.
type stripping struct{ http.ResponseWriter }

func (s *stripping) WriteHeader(status int) {
	for name := range s.Header() {
		if strings.HasPrefix(name, "X-Amz-Checksum") {
			s.Header().Del(name)
		}
	}
	s.ResponseWriter.WriteHeader(status)
}

func TestParseContentRange(t *testing.T) {
	for _, s := range []string{"", "bytes", "bytes 1-2", "1-2/3", "bytes 2-1/3", "bytes -1-2/3", "bytes 1-2/2", "bytes x-2/3", "bytes 1-2/x"} {
		_, _, _, ok := parseContentRange(s)
		require.False(t, ok, s)
	}
	first, last, total, ok := parseContentRange("bytes 1-2/3")
	require.True(t, ok)
	require.Equal(t, []int64{1, 2, 3}, []int64{first, last, total})
	_, _, total, ok = parseContentRange("bytes 1-2/*")
	require.True(t, ok)
	require.EqualValues(t, -1, total)
}
