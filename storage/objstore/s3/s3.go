package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/hedge"
)

// Store is a bucket, or the part of one under a prefix.
type Store struct {
	opts   Options
	prefix string // empty, or ending with a slash

	calls calls
	http  *httpClient

	pacer  pacer
	budget budget
	hedge  hedge.Meter   // of GETs
	slots  chan struct{} // one per request under way
	opened atomic.Bool

	life  context.Context // ends with Close
	close context.CancelCauseFunc
}

var _ objstore.Store = (*Store)(nil)

// Open loads credentials and asks the server for what the store needs of it; unless opts.ReadOnly, it puts one small
// object named .streamhouse-probe under the prefix, which List does not show. It fails at once where waiting does not help
// (no bucket, no permission, no conditional PUT: [ErrNoBucket], [ErrAccessDenied], [ErrNoConditionalPut]), and tries again
// for opts.RetryFor where it may.
func Open(ctx context.Context, opts Options) (*Store, error) {
	s, err := newStore(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if err := s.probe(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open object store %s: %w", opts, err)
	}
	s.opened.Store(true)
	return s, nil
}

func newStore(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	httpClient, err := newHTTPClient(opts)
	if err != nil {
		return nil, err
	}
	load := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	if opts.Region != "" {
		load = append(load, config.WithRegion(opts.Region))
	}
	if opts.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(opts.Profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("no region: set the parameter region, or AWS_REGION")
	}
	opts.Region = cfg.Region
	opts.Hooks = opts.Hooks.withDefaults()

	s := &Store{opts: opts, http: httpClient, slots: make(chan struct{}, opts.MaxConnections)}
	if opts.Prefix != "" {
		s.prefix = opts.Prefix + "/"
	}
	s.life, s.close = context.WithCancelCause(context.Background())
	configure := func(o *sdk.Options) {
		o.HTTPClient = httpClient
		o.UsePathStyle = opts.PathStyle
		if opts.Endpoint != "" {
			o.BaseEndpoint = aws.String(opts.Endpoint)
		}
		o.Retryer = aws.NopRetryer{}
		// Only what a request needs is checksummed by the SDK: bodies of puts come with theirs, ranges have none.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.ContinueHeaderThresholdBytes = -1 // "Expect: 100-continue" costs a round trip per put
		o.APIOptions = append(o.APIOptions, middleware.AddUserAgentKeyValue("streamhouse", opts.Version))
	}
	client := sdk.NewFromConfig(cfg, configure)
	put := client
	if !opts.SignedPayload {
		put = sdk.NewFromConfig(cfg, configure, func(o *sdk.Options) {
			o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
		})
	}
	s.calls = calls{
		put: put.PutObject, get: client.GetObject, head: client.HeadObject, list: client.ListObjectsV2, remove: client.DeleteObjects,
	}
	return s, nil
}

// calls are the SDK's methods that the store uses. As values they let the linker drop the hundred others, which a
// client in a field would keep in the binary: 12 MB of it.
type calls struct {
	put    call[sdk.PutObjectInput, sdk.PutObjectOutput] // its payload is not signed, unless asked for
	get    call[sdk.GetObjectInput, sdk.GetObjectOutput]
	head   call[sdk.HeadObjectInput, sdk.HeadObjectOutput]
	list   call[sdk.ListObjectsV2Input, sdk.ListObjectsV2Output]
	remove call[sdk.DeleteObjectsInput, sdk.DeleteObjectsOutput]
}

type call[In, Out any] = func(context.Context, *In, ...func(*sdk.Options)) (*Out, error)

// Close implements [objstore.Store]. Calls under way end with ErrClosed.
func (s *Store) Close() error {
	s.close(objstore.ErrClosed)
	s.http.transport.CloseIdleConnections()
	return nil
}

// ended returns the error of a call that must not begin or go on: the caller's context or Close.
func (s *Store) ended(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s object: %w", op, err)
	}
	if s.life.Err() != nil {
		return fmt.Errorf("%s object: %w", op, objstore.ErrClosed)
	}
	return nil
}

const firstBackoff, longestBackoff = 50 * time.Millisecond, 3 * time.Second

// run makes attempts that move size bytes each until one succeeds, fails for good, or the time or the budget is used up.
// key is for errors. failed, if not nil, is told of every failure. The error is an *Error, ErrClosed or ctx's.
func (s *Store) run(ctx context.Context, op, key string, size int64, failed func(*failure), try func(*attempt) error) error {
	if err := s.ended(ctx, op); err != nil {
		return err
	}
	caller := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errDone)
	defer context.AfterFunc(s.life, func() { cancel(objstore.ErrClosed) })() //nolint:contextcheck // Close ends calls whose contexts are their callers'

	start, backoff := time.Now(), firstBackoff
	for n := 1; ; n++ {
		f := s.once(ctx, op, key, size, try)
		if err := s.ended(caller, op); err != nil && f != nil {
			return err
		}
		if f == nil {
			return nil
		}
		if failed != nil {
			failed(f)
		}
		if !f.again {
			return f.err
		}
		wait := rand.N(backoff)
		backoff = min(2*backoff, longestBackoff)
		if f.throttled {
			closed := s.pacer.throttled(time.Now(), f.retryAfter)
			s.opts.Hooks.Throttled(closed)
		}
		planned := max(wait, s.pacer.remaining(time.Now())) // the gate is waited for in once: it may open early
		if time.Since(start)+planned > s.opts.RetryFor || !s.budget.takeAt(time.Now()) {
			return fmt.Errorf("gave up after %d attempts in %s: %w", n, time.Since(start).Round(time.Millisecond), f.err)
		}
		s.opts.Hooks.Retried(op, f.reason, planned)
		if !sleep(ctx, wait) {
			return s.ended(caller, op)
		}
	}
}

// once makes one attempt, when the gate and a slot allow it.
func (s *Store) once(ctx context.Context, op, key string, size int64, try func(*attempt) error) *failure {
	s.pacer.pass(ctx)
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return &failure{err: &Error{Op: op, Key: key}}
	}
	defer func() { <-s.slots }()
	sent := time.Now()
	a := s.begin(ctx, op, size)
	f := s.classify(a, key, try(a))
	a.end()
	s.report(a, f)
	if f == nil {
		s.pacer.succeeded(sent, time.Now())
		s.budget.succeeded()
	}
	return f
}

// report tells the hook how an attempt went.
func (s *Store) report(a *attempt, f *failure) {
	r := Request{
		Op: a.op, Hedge: a.hedge, Status: a.status,
		Sent: a.sent.Load(), Received: a.received.Load(), Duration: time.Since(a.started),
	}
	switch {
	case a.timedOut() == nil && !errors.Is(context.Cause(a.ctx), errDone):
		r.Reason = ReasonCancelled
	case f != nil:
		r.Reason = f.reason
	}
	s.opts.Hooks.Request(r)
}

// sleep waits, and tells whether ctx did not end meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
