package metrics

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
)

// asks asks for /ready so many times at once, and hands over the answers as they come.
func asks(ctx context.Context, h http.Handler, n int) <-chan *httptest.ResponseRecorder {
	answers := make(chan *httptest.ResponseRecorder, n)
	for range n {
		go func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/ready", http.NoBody))
			answers <- w
		}()
	}
	return answers
}

// A flood of readiness checks asks the catalog once, and who comes afterwards asks anew.
func TestReadinessChecksAtATimeAreOne(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const flood = 100
		var asked atomic.Int32
		results := make(chan error)
		h := (&Server{opts: ServerOptions{Ready: func(context.Context) error {
			asked.Add(1)
			return <-results
		}}}).handler()
		impatient, leave := context.WithCancel(t.Context())
		left := asks(impatient, h, 1) // it began the check, which others wait for
		synctest.Wait()
		answers := asks(t.Context(), h, flood)
		synctest.Wait()
		leave()
		require.Equal(t, 503, (<-left).Code)
		require.EqualValues(t, 1, asked.Load())
		require.Empty(t, answers)
		results <- nil
		for range flood {
			require.Equal(t, 200, (<-answers).Code)
		}

		answers = asks(t.Context(), h, flood)
		synctest.Wait()
		results <- errors.New("the catalog does not answer")
		for range flood {
			w := <-answers
			require.Equal(t, 503, w.Code)
			require.Contains(t, w.Body.String(), "the catalog does not answer")
		}
		require.EqualValues(t, 2, asked.Load(), "the first answer is not kept")
	})
}

// A check that hangs is one goroutine, however often it is asked for, and each request is answered in time.
func TestAReadinessCheckThatHangsIsOne(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		results := make(chan error)
		h := (&Server{opts: ServerOptions{Ready: func(context.Context) error { // ignores its context
			asked.Add(1)
			return <-results
		}}}).handler()
		began := time.Now()
		for range 10 {
			w := <-asks(t.Context(), h, 1)
			require.Equal(t, 503, w.Code)
			require.Contains(t, w.Body.String(), "no answer")
		}
		require.Equal(t, readyTimeout, time.Since(began), "those after the first know that it hangs")
		require.EqualValues(t, 1, asked.Load())
		results <- nil // too late for anybody
		synctest.Wait()
		answers := asks(t.Context(), h, 1)
		results <- nil
		require.Equal(t, 200, (<-answers).Code)
		require.EqualValues(t, 2, asked.Load())
	})
}
