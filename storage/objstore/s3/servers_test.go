package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/freeport"
)

const (
	testUser, testPassword = "streamhouse-test", "streamhouse-test-secret"
	testBucket             = "streamhouse-test"
)

// server is an S3 server of its own process, one for all tests.
type server struct {
	name string
	url  string
}

// servers are those of scripts/minio; errServers is why they are not all there. Tests that need them fail with it: a test
// left out because of a missing server would prove nothing.
var (
	servers    []*server
	errServers error
)

func serverNamed(tb testing.TB, name string) *server {
	tb.Helper()
	require.NoError(tb, errServers)
	for _, s := range servers {
		if s.name == name {
			return s
		}
	}
	tb.Fatalf("there is no server %s", name)
	return nil
}

func TestMain(m *testing.M) {
	stop, err := startServers()
	defer stop()
	errServers = err
	m.Run()
}

// startServers starts them all. stop is to be called, also after an error.
func startServers() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, stop := range slices.Backward(stops) {
			stop()
		}
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": testUser, "AWS_SECRET_ACCESS_KEY": testPassword, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_CA_BUNDLE": "", "AWS_REGION": "",
		"AWS_PROFILE": "",
	} {
		if value == "" {
			err = os.Unsetenv(name)
		} else {
			err = os.Setenv(name, value)
		}
		if err != nil {
			return stop, err
		}
	}
	scratch, err := os.MkdirTemp("", "streamhouse-s3-")
	if err != nil {
		return stop, err
	}
	stops = append(stops, func() { _ = os.RemoveAll(scratch) })
	minio, err := start(scratch, "minio", func(address, data string) []string {
		return []string{"server", "--quiet", "--address", address, data}
	})
	if err != nil {
		return stop, err
	}
	stops = append(stops, minio)
	versitygw, err := start(scratch, "versitygw", func(address, data string) []string {
		return []string{"--quiet", "--port", address, "posix", "--sidecar", filepath.Join(scratch, "metadata"), data}
	})
	if err != nil {
		return stop, err
	}
	stops = append(stops, versitygw)
	return stop, nil
}

// program finds what scripts/minio installed.
func program(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			path := filepath.Join(dir, ".tools", "bin", name)
			if _, err := os.Stat(path); err != nil {
				return "", fmt.Errorf("%s is not installed: run scripts/minio (it takes some minutes, once): %w", name, err)
			}
			return path, nil
		}
	}
	return "", errors.New("the module's folder cannot be found")
}

// guarded runs a program until standard input ends: also when the test's process is killed.
const guarded = `exec 3<&0; "$@" </dev/null 3<&- & p=$!; { cat <&3 >/dev/null; kill -9 $p; } & wait $p`

// start runs a server until stop is called, and makes the bucket.
func start(scratch, name string, args func(address, data string) []string) (stop func(), err error) {
	path, err := program(name)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(scratch, name)
	for _, dir := range []string{data, filepath.Join(scratch, "metadata"), filepath.Join(scratch, "home")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	port, err := freeport.Get(context.Background())
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	log, err := os.Create(data + ".log")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", guarded, name, path}, args(address, data)...)...)
	cmd.Stdout, cmd.Stderr = log, log
	life, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	cmd.Env = []string{
		"HOME=" + filepath.Join(scratch, "home"), "PATH=/usr/bin:/bin",
		"MINIO_ROOT_USER=" + testUser, "MINIO_ROOT_PASSWORD=" + testPassword, "MINIO_UPDATE=off", "MINIO_BROWSER=off",
		"MINIO_CI_CD=on", "ROOT_ACCESS_KEY=" + testUser, "ROOT_SECRET_KEY=" + testPassword,
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		_ = log.Close()
		close(ended)
	}()
	stop = func() {
		_ = life.Close()
		<-ended
	}
	s := &server{name: name, url: "http://" + address}
	if err := s.makeBucket(ended); err != nil {
		stop()
		said, _ := os.ReadFile(data + ".log")
		return nil, fmt.Errorf("start %s: %w\n%s", name, err, said)
	}
	servers = append(servers, s)
	return stop, nil
}

// makeBucket tries until the server is up.
func (s *server) makeBucket(ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		_, err := plainClient(ctx, s.url).CreateBucket(ctx, &sdk.CreateBucketInput{Bucket: aws.String(testBucket)})
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// plainClient is the SDK as it comes.
func plainClient(ctx context.Context, url string) *sdk.Client {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), config.WithLogger(logging.Nop{}))
	if err != nil {
		panic(err)
	}
	return sdk.NewFromConfig(cfg, func(o *sdk.Options) {
		o.BaseEndpoint, o.UsePathStyle = aws.String(url), true
		o.Retryer = aws.NopRetryer{}
	})
}

var prefixes atomic.Int64

// options are those of a store of its own.
func (s *server) options() Options {
	return Options{
		Bucket: testBucket, Prefix: "test-" + strconv.FormatInt(prefixes.Add(1), 10), Endpoint: s.url, PathStyle: true,
	}
}

func open(tb testing.TB, o Options) *Store {
	tb.Helper()
	s, err := Open(context.Background(), o)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s
}

func forEachServer(t *testing.T, test func(t *testing.T, s *server)) {
	t.Helper()
	require.NoError(t, errServers)
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) { test(t, s) })
	}
}

// proxy stands between a store and a server. Its handler decides per request.
type proxy struct {
	*http.Server

	url    string
	target string
	client *http.Client
}

// newProxy serves handle on a port of its own.
func newProxy(tb testing.TB, target *server, handle func(p *proxy, w http.ResponseWriter, r *http.Request)) *proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &proxy{url: "http://" + listener.Addr().String(), target: strings.TrimPrefix(target.url, "http://")}
	p.client = &http.Client{Transport: &http.Transport{}}
	p.Server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(p, w, r) })}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.Serve(listener)
	}()
	tb.Cleanup(func() {
		_ = p.Server.Close()
		<-ended
		p.client.CloseIdleConnections()
	})
	return p
}

// forward asks the server, with the host the request was signed for.
func (p *proxy) forward(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.target, ""
	return p.client.Do(out)
}

// pass is forward, answered.
func (p *proxy) pass(w http.ResponseWriter, r *http.Request) {
	res, err := p.forward(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer res.Body.Close()
	answerHeader(w, res)
	if _, err := io.Copy(w, res.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func answerHeader(w http.ResponseWriter, res *http.Response) {
	maps.Copy(w.Header(), res.Header)
	if res.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
	w.WriteHeader(res.StatusCode)
}

// numbered tells the handler the number of each request among those of its kind, from 1. The kind is the method, or
// LIST or DELETE for what they are. The probe of Open is passed on uncounted.
func numbered(handle func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request)) func(*proxy, http.ResponseWriter, *http.Request) {
	var mu sync.Mutex
	counts := map[string]int{}
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, probeName) {
			p.pass(w, r)
			return
		}
		kind := r.Method
		switch {
		case r.URL.Query().Has("list-type"):
			kind = "LIST"
		case r.URL.Query().Has("delete"):
			kind = "DELETE"
		}
		mu.Lock()
		counts[kind]++
		n := counts[kind]
		mu.Unlock()
		handle(p, kind, n, w, r)
	}
}

// answerXML answers with an S3 error.
func answerXML(w http.ResponseWriter, status int, code string) {
	answerText(w, status, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+code+`</Code><Message>as planned</Message></Error>`)
}

func answerText(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// throughProxy opens a store on MinIO through a proxy. Its timeouts are short.
func throughProxy(t *testing.T, change func(*Options), handle func(p *proxy, kind string, n int, w http.ResponseWriter, r *http.Request)) (*Store, *events) {
	t.Helper()
	target := serverNamed(t, "minio")
	p := newProxy(t, target, numbered(handle))
	o := target.options()
	e := &events{}
	o.Endpoint, o.Hooks = p.url, e.hooks()
	o.StallTimeout, o.RetryFor = 2*time.Second, 15*time.Second
	if change != nil {
		change(&o)
	}
	s := open(t, o)
	e.reset()
	return s, e
}

// events are what hooks told.
type events struct {
	mu struct {
		sync.Mutex
		requests  []Request
		retried   []string
		hedged    []bool
		throttled []time.Duration
		settled   []bool
	}
}

func (e *events) hooks() Hooks {
	return Hooks{
		Request: func(r Request) { e.locked(func() { e.mu.requests = append(e.mu.requests, r) }) },
		Retried: func(op, reason string, _ time.Duration) {
			e.locked(func() { e.mu.retried = append(e.mu.retried, op+" "+reason) })
		},
		Hedged:    func(won bool) { e.locked(func() { e.mu.hedged = append(e.mu.hedged, won) }) },
		Throttled: func(d time.Duration) { e.locked(func() { e.mu.throttled = append(e.mu.throttled, d) }) },
		Settled:   func(ours bool) { e.locked(func() { e.mu.settled = append(e.mu.settled, ours) }) },
	}
}

func (e *events) locked(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *events) reset() {
	e.locked(func() {
		e.mu.requests, e.mu.retried, e.mu.hedged, e.mu.throttled, e.mu.settled = nil, nil, nil, nil, nil
	})
}

func (e *events) retried() (all []string) {
	e.locked(func() { all = slices.Clone(e.mu.retried) })
	return all
}

func (e *events) requests() (all []string) {
	e.locked(func() {
		for _, r := range e.mu.requests {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %d %s", r.Op, r.Status, r.Reason)))
		}
	})
	return all
}

func (e *events) settled() (all []bool) {
	e.locked(func() { all = slices.Clone(e.mu.settled) })
	return all
}

func (e *events) hedged() (all []bool) {
	e.locked(func() { all = slices.Clone(e.mu.hedged) })
	return all
}

func (e *events) throttled() (all []time.Duration) {
	e.locked(func() { all = slices.Clone(e.mu.throttled) })
	return all
}
