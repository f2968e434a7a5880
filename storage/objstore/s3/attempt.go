package s3

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// The names of operations, as package metered has them.
const (
	opPut    = "put"
	opGet    = "get"
	opHead   = "head"
	opList   = "list"
	opDelete = "delete"
)

var (
	errStalled = errors.New("no byte moved in time")
	errTooSlow = errors.New("it is slower than the least speed allowed")
	errHedged  = errors.New("the other of two requests was faster")
	errDone    = errors.New("the attempt has ended")
)

// attempt is one HTTP exchange. Its fields without comment belong to the goroutine that makes it.
type attempt struct {
	parent  context.Context // the call's
	ctx     context.Context // its own; carries the attempt to httpClient.Do
	cancel  context.CancelCauseFunc
	op      string
	hedge   bool
	started time.Time

	// Guarded by nothing but the timer's own lock: any goroutine of the transport reports progress.
	timer *time.Timer
	stall time.Duration
	until time.Time

	body         *reader // what a put sends
	reached      bool    // the transport was asked
	status       int
	header       http.Header
	transportErr error

	sent, received atomic.Int64
}

type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// begin starts the clocks of an attempt that moves size bytes.
func (s *Store) begin(ctx context.Context, op string, size int64) *attempt {
	a := &attempt{parent: ctx, op: op, started: time.Now(), stall: s.opts.StallTimeout}
	a.until = a.started.Add(a.stall + time.Duration(float64(size)/float64(s.opts.MinRate)*float64(time.Second)))
	ctx, a.cancel = context.WithCancelCause(ctx)
	a.ctx = context.WithValue(ctx, attemptKey{}, a)
	a.timer = time.AfterFunc(a.stall, a.expire)
	return a
}

func (a *attempt) expire() {
	if time.Now().Before(a.until) {
		a.cancel(errStalled)
		return
	}
	a.cancel(errTooSlow)
}

// progress says that bytes moved, or that an answer began.
func (a *attempt) progress(int) { a.timer.Reset(min(a.stall, time.Until(a.until))) }

// send makes body the attempt's.
func (a *attempt) send(slices [][]byte, size int64) *reader {
	a.body = newReader(slices, size, func(n int) {
		a.sent.Add(int64(n))
		a.progress(n)
	})
	return a.body
}

// end frees what the attempt holds: its timer, its connection if that is still busy, its body.
func (a *attempt) end() {
	a.timer.Stop()
	a.cancel(errDone)
	if a.body != nil {
		a.body.release()
	}
}

// timedOut returns why the attempt's own clocks ended it, or nil.
func (a *attempt) timedOut() error {
	if cause := context.Cause(a.ctx); errors.Is(cause, errStalled) || errors.Is(cause, errTooSlow) {
		return cause
	}
	return nil
}
