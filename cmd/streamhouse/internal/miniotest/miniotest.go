// Package miniotest runs a private MinIO for tests. Nothing is skipped when it is not installed: the test fails and says
// what to run.
package miniotest

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/internal/freeport"
)

// Bucket is the one there is.
const Bucket = "fleet"

// TB is what is needed of a testing.TB.
type TB interface {
	Helper()
	Cleanup(f func())
	Context() context.Context
	Failed() bool
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Setenv(key, value string)
	TempDir() string
}

// Start runs the server that scripts/minio installs, for one test, which gets the credentials in its environment. It
// returns the server's host and port once the server answers.
func Start(t TB) (address string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("start MinIO: %v", err)
		}
	}
	const user, password = "streamhouse-test", "streamhouse-test-secret"
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": password, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	data := t.TempDir()
	check(os.Mkdir(filepath.Join(data, Bucket), 0o700)) // a folder there is a bucket
	port, err := freeport.Get(t.Context())
	check(err)
	address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program(t), "server", "--quiet", "--address", address, data) //nolint:gosec // its own installation
	cmd.Env = []string{
		"HOME=" + t.TempDir(), "MINIO_ROOT_USER=" + user, "MINIO_ROOT_PASSWORD=" + password,
		"MINIO_UPDATE=off", "MINIO_BROWSER=off", "MINIO_CI_CD=on",
	}
	var said output
	cmd.Stdout, cmd.Stderr = &said, &said
	check(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("MinIO said:\n%s", said.String())
		}
	})
	wait(t, address)
	return address
}

// program finds what scripts/minio installed.
func program(t TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			path := filepath.Join(dir, ".tools", "bin", "minio")
			if _, err := os.Stat(path); err != nil {
				t.Fatalf("MinIO is not installed: run scripts/minio (it takes some minutes, once): %v", err)
			}
			return path
		}
	}
	t.Fatalf("the module's folder cannot be found: %v", err)
	return ""
}

// wait returns when the server answers.
func wait(t TB, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/minio/health/ready", http.NoBody)
		if err != nil {
			t.Fatalf("ask MinIO: %v", err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("MinIO at %s is not ready: %v", address, ctx.Err())
		}
	}
}

type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
