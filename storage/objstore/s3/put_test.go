package s3

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// random returns n bytes that depend on seed alone.
func random(seed byte, n int) []byte {
	src := rand.NewChaCha8([32]byte{seed})
	p := make([]byte, n)
	_, _ = src.Read(p) // never fails
	return p
}

func requireStored(t *testing.T, s *Store, key string, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	require.NoError(t, s.GetRange(t.Context(), key, 0, got))
	require.True(t, bytes.Equal(want, got))
}

// abort resets the connection.
func abort() { panic(http.ErrAbortHandler) }

// TestLostAnswerIsSettled: the server stored the object and the answer was lost. The next attempt is told 412.
func TestLostAnswerIsSettled(t *testing.T) {
	s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodPut && n == 1 {
			res, err := p.forward(r)
			if err == nil {
				res.Body.Close()
			}
			abort()
		}
		p.pass(w, r)
	})
	data := random(1, 1<<20)
	require.NoError(t, s.Put(t.Context(), "lost/answer", objstore.NewBody(data)))
	require.Equal(t, []string{"put 0 connection", "put 412", "head 200"}, e.requests())
	require.Equal(t, []bool{true}, e.settled())
	requireStored(t, s, "lost/answer", data)
	require.ErrorIs(t, s.Put(t.Context(), "lost/answer", objstore.NewBody(data)), objstore.ErrExists, "a second call is not settled")
}

// TestForeignAfterDoubt: the first attempt was lost before the server saw it, and somebody else took the key.
func TestForeignAfterDoubt(t *testing.T) {
	other := random(2, 100)
	var direct *Store
	s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodPut && n == 1 {
			if err := direct.Put(r.Context(), "taken", objstore.NewBody(other)); err != nil {
				t.Error(err)
			}
			abort()
		}
		p.pass(w, r)
	})
	o := s.opts
	o.Endpoint, o.Hooks = serverNamed(t, "minio").url, Hooks{}
	direct = open(t, o)
	err := s.Put(t.Context(), "taken", objstore.NewBody(random(1, 100)))
	require.ErrorIs(t, err, objstore.ErrExists)
	require.False(t, objstore.InDoubt(err))
	require.Equal(t, []bool{false}, e.settled())
	requireStored(t, s, "taken", other)
}

func TestConflict(t *testing.T) {
	s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodPut && n <= 2 {
			answerXML(w, http.StatusConflict, "ConditionalRequestConflict")
			return
		}
		p.pass(w, r)
	})
	require.NoError(t, s.Put(t.Context(), "conflict", objstore.NewBody(random(1, 1000))))
	require.Equal(t, []string{"put conflict", "put conflict"}, e.retried())
	require.Empty(t, e.settled())
}

// TestConflictWithOneself: the first attempt arrives late, and all others are told that it is under way.
func TestConflictWithOneself(t *testing.T) {
	s, e := throughProxy(t, func(o *Options) { o.RetryFor = 300 * time.Millisecond },
		func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
			if kind == http.MethodPut {
				if n > 1 {
					answerXML(w, http.StatusConflict, "ConditionalRequestConflict")
					return
				}
				if res, err := p.forward(r); err == nil {
					res.Body.Close()
				}
				abort()
			}
			p.pass(w, r)
		})
	require.NoError(t, s.Put(t.Context(), "myself", objstore.NewBody(random(1, 1000))))
	require.Equal(t, []bool{true}, e.settled())
}

// TestOutcomeUnknown: an attempt in doubt, then a refusal that says nothing about it.
func TestOutcomeUnknown(t *testing.T) {
	s, _ := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		switch {
		case kind != http.MethodPut:
			p.pass(w, r)
		case n == 1:
			answerXML(w, http.StatusInternalServerError, "InternalError")
		default:
			answerXML(w, http.StatusForbidden, "AccessDenied")
		}
	})
	err := s.Put(t.Context(), "unknown", objstore.NewBody([]byte("x")))
	require.ErrorIs(t, err, objstore.ErrInDoubt)
	require.True(t, objstore.InDoubt(err))
	require.ErrorIs(t, err, ErrAccessDenied)
}

func TestPutRefused(t *testing.T) {
	for _, test := range []struct {
		status  int
		code    string
		is      error
		says    string
		inDoubt bool
	}{
		{http.StatusForbidden, "AccessDenied", objstore.ErrReadOnly, "allow s3:PutObject on arn:aws:s3:::" + testBucket, false},
		{http.StatusForbidden, "SignatureDoesNotMatch", nil, "the credentials are wrong", true},
		{http.StatusInsufficientStorage, "XMinioStorageFull", objstore.ErrNoSpace, "", false},
		{http.StatusBadRequest, "KeyTooLongError", objstore.ErrInvalidKey, "", false},
		{http.StatusNotFound, "NoSuchBucket", ErrNoBucket, "create bucket", true},
		{http.StatusMovedPermanently, "PermanentRedirect", nil, "is us-east-1 the bucket's region?", true},
	} {
		t.Run(test.code, func(t *testing.T) {
			var puts atomic.Int32
			s, _ := throughProxy(t, nil, func(_ *proxy, _ string, _ int, w http.ResponseWriter, r *http.Request) {
				puts.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				answerXML(w, test.status, test.code)
			})
			err := s.Put(t.Context(), "refused", objstore.NewBody([]byte("x")))
			require.Error(t, err)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			require.ErrorContains(t, err, test.code)
			require.ErrorContains(t, err, test.says)
			require.EqualValues(t, 1, puts.Load(), "it was tried again")
			require.Equal(t, test.inDoubt, objstore.InDoubt(err))
		})
	}
}

// TestBytesChangedOnTheWay: the server's checksum finds it, and the caller may try again.
func TestBytesChangedOnTheWay(t *testing.T) {
	s, _ := throughProxy(t, nil, func(p *proxy, kind string, _ int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodPut {
			body, _ := io.ReadAll(r.Body)
			body[len(body)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		p.pass(w, r)
	})
	err := s.Put(t.Context(), "changed", objstore.NewBody(random(1, 100_000)))
	require.ErrorIs(t, err, objstore.ErrUnavailable)
	require.True(t, objstore.Retriable(err))
	_, err = s.Head(t.Context(), "changed")
	require.ErrorIs(t, err, objstore.ErrNotFound)
}

// TestPutAnsweredEarly: the server refuses without reading the body, and closes.
func TestPutAnsweredEarly(t *testing.T) {
	s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodPut && n <= 2 {
			w.Header().Set("Connection", "close")
			answerXML(w, http.StatusServiceUnavailable, "ServiceUnavailable")
			return
		}
		p.pass(w, r)
	})
	data := random(1, 8<<20)
	require.NoError(t, s.Put(t.Context(), "early", objstore.NewBody(data)))
	require.Len(t, e.retried(), 2)
	requireStored(t, s, "early", data)
}

// TestPutReleasesItsSlices: when Put returns, whatever the way, nobody reads the slices. The race detector sees if not.
func TestPutReleasesItsSlices(t *testing.T) {
	s, _ := throughProxy(t, func(o *Options) { o.RetryFor = 10 * time.Millisecond; o.StallTimeout = 500 * time.Millisecond },
		func(_ *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, int64(n)*100_000)
			switch n % 3 {
			case 0:
				<-r.Context().Done()
			case 1:
				abort()
			}
			answerXML(w, http.StatusServiceUnavailable, "ServiceUnavailable "+kind)
		})
	for i := range 9 {
		data := random(1, 6<<20)
		ctx, cancel := context.WithCancel(t.Context())
		if i%2 == 0 {
			time.AfterFunc(time.Duration(i)*10*time.Millisecond, cancel)
		}
		require.Error(t, s.Put(ctx, "released", objstore.NewBody(data[:1<<20], data[1<<20:])))
		cancel()
		clear(data)
	}
}

func TestPutStalls(t *testing.T) {
	s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodPut && n == 1 {
			_, _ = io.CopyN(io.Discard, r.Body, 1000) // and no more
			<-r.Context().Done()
			return
		}
		p.pass(w, r)
	})
	data := random(1, 20<<20) // more than sockets hold
	start := time.Now()
	require.NoError(t, s.Put(t.Context(), "stalled", objstore.NewBody(data)))
	require.Less(t, time.Since(start), 15*time.Second)
	require.Equal(t, []string{"put timeout"}, e.retried())
}

func TestPutGivesUp(t *testing.T) {
	s, _ := throughProxy(t, func(o *Options) { o.RetryFor = 200 * time.Millisecond },
		func(_ *proxy, _ string, _ int, w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			answerXML(w, http.StatusInternalServerError, "InternalError")
		})
	err := s.Put(t.Context(), "given/up", objstore.NewBody([]byte("x")))
	require.ErrorIs(t, err, objstore.ErrUnavailable)
	require.True(t, objstore.InDoubt(err))
	require.True(t, objstore.Retriable(err))
	require.ErrorContains(t, err, "gave up after")
}

// TestBudget: when the server fails for long, calls are not multiplied.
func TestBudget(t *testing.T) {
	var requests atomic.Int32
	s, _ := throughProxy(t, func(o *Options) { o.RetryFor = time.Hour },
		func(_ *proxy, _ string, _ int, w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			answerXML(w, http.StatusInternalServerError, "InternalError")
		})
	s.budget.mu.spent, s.budget.mu.at = fullBudget-2, time.Now().Add(time.Hour) // no refund by time
	for range 20 {
		require.ErrorIs(t, s.GetRange(t.Context(), "x", 0, make([]byte, 1)), objstore.ErrUnavailable)
	}
	require.EqualValues(t, 22, requests.Load())
}

func TestThrottled(t *testing.T) {
	release := make(chan struct{})
	var gate atomic.Int64 // when the gate closed
	var early atomic.Int32
	s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodPut && n == 1 {
			w.Header().Set("Retry-After", "1")
			gate.Store(time.Now().UnixNano())
			answerXML(w, http.StatusServiceUnavailable, "SlowDown")
			close(release)
			return
		}
		if time.Since(time.Unix(0, gate.Load())) < time.Second {
			early.Add(1)
		}
		p.pass(w, r)
	})
	done := make(chan error, 1)
	go func() { done <- s.Put(t.Context(), "throttled", objstore.NewBody([]byte("x"))) }()
	<-release
	require.Eventually(t, func() bool { return len(e.throttled()) == 1 }, 10*time.Second, time.Millisecond)
	_, err := s.Head(t.Context(), "other") // another user of the bucket waits as well
	require.ErrorIs(t, err, objstore.ErrNotFound)
	require.NoError(t, <-done)
	require.Equal(t, []time.Duration{time.Second}, e.throttled())
	require.Zero(t, early.Load(), "requests came through the closed gate")
	require.False(t, objstore.Calm(s), "who hedges is told, also when the gate is open again")
}

// TestServerNotReady: MinIO asks for a minute with every 503, also in the moment after its start when it does not know its
// objects yet.
func TestServerNotReady(t *testing.T) {
	s, e := throughProxy(t, nil, func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request) {
		if kind == http.MethodPut && n <= 3 {
			w.Header().Set("Retry-After", "60")
			answerXML(w, http.StatusServiceUnavailable, "XMinioServerNotInitialized")
			return
		}
		p.pass(w, r)
	})
	start := time.Now()
	require.NoError(t, s.Put(t.Context(), "soon", objstore.NewBody([]byte("x"))))
	require.Less(t, time.Since(start), 10*time.Second)
	require.Empty(t, e.throttled())
	require.Len(t, e.retried(), 3)
}

func TestPacerDoubles(t *testing.T) {
	var p pacer
	now := time.Now()
	require.Zero(t, p.remaining(now))
	want := firstGate
	for range 10 {
		require.Equal(t, want, p.throttled(now, 0))
		require.Equal(t, want, p.remaining(now))
		require.Equal(t, want/2, p.throttled(now.Add(want/2), 0), "an answer to an older request")
		now = now.Add(want)
		want = min(2*want, longestGate)
	}
	require.False(t, p.calm(now))
	now = now.Add(time.Minute)
	require.True(t, p.calm(now))
	require.Equal(t, firstGate, p.throttled(now, 0))
	require.Equal(t, 5*time.Second, p.throttled(now, time.Hour), "a server that asks for an hour is asked again before")
}

func TestReadOnly(t *testing.T) {
	o := serverNamed(t, "minio").options()
	o.ReadOnly = true
	s := open(t, o)
	require.ErrorIs(t, s.Put(t.Context(), "a", objstore.NewBody(nil)), objstore.ErrReadOnly)
	require.ErrorIs(t, s.Delete(t.Context(), []string{"a"}), objstore.ErrReadOnly)
}

func TestSignedPayload(t *testing.T) {
	forEachServer(t, func(t *testing.T, server *server) {
		t.Helper()
		o := server.options()
		o.SignedPayload = true
		s := open(t, o)
		data := random(1, 3<<20)
		require.NoError(t, s.Put(t.Context(), "signed", objstore.NewBody(data[:1000], data[1000:])))
		requireStored(t, s, "signed", data)
	})
}

// TestPutRequest: a put is one request with the checksum in a header and no payload in its signature.
func TestPutRequest(t *testing.T) {
	headers := make(chan http.Header, 1)
	s, _ := throughProxy(t, func(o *Options) { o.Version = "1.2.3" },
		func(p *proxy, _ string, _ int, w http.ResponseWriter, r *http.Request) {
			headers <- r.Header.Clone()
			p.pass(w, r)
		})
	require.NoError(t, s.Put(t.Context(), "request", objstore.NewBody([]byte("123456789"))))
	h := <-headers
	require.Contains(t, h.Get("User-Agent"), "streamhouse/1.2.3")
	require.Equal(t, "4waSgw==", h.Get("X-Amz-Checksum-Crc32c"))
	require.Equal(t, "UNSIGNED-PAYLOAD", h.Get("X-Amz-Content-Sha256"))
	require.Equal(t, "*", h.Get("If-None-Match"))
	require.Empty(t, h.Get("X-Amz-Trailer"))
	require.Empty(t, h.Get("Expect"))
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Checksum-") {
			require.Equal(t, "X-Amz-Checksum-Crc32c", name)
		}
	}
}
