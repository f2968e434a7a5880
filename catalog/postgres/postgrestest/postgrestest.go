package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog/postgres"
)

// TB is what is needed of a testing.TB.
type TB interface {
	Helper()
	Cleanup(f func())
	Fatalf(format string, args ...any)
}

var shared struct {
	sync.Mutex

	server *Server
	err    error
}

var databases atomic.Int64

// Runner runs tests: a *testing.M, and what goleak.VerifyTestMain wants.
type Runner interface{ Run() int }

// Main returns a runner that ends the shared server after m's tests. For TestMain.
func Main(m Runner) Runner { return runner{m} }

type runner struct{ tests Runner }

// Run implements [Runner].
func (r runner) Run() int {
	code := r.tests.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n") // nowhere else to say it
			code = max(code, 1)
		}
	}
	return code
}

// Shared returns the server that the tests of this process share. It is started by the first caller and ended by [Main].
func Shared(tb TB) *Server {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = Start(Options{})
	}
	if shared.err != nil {
		tb.Fatalf("%s", shared.err)
	}
	return shared.server
}

// New makes an empty, migrated catalog in the shared server and returns its URL. It is dropped after the test.
func New(tb TB) string {
	tb.Helper()
	return Shared(tb).NewDatabase(tb)
}

const template = "streamhouse_template"

// NewDatabase makes an empty, migrated catalog and returns its URL. It is dropped after the test, if the server is up.
func (s *Server) NewDatabase(tb TB) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	name, err := s.clone(ctx)
	if err != nil {
		tb.Fatalf("make a database: %s", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if s.cmd != nil {
			_ = s.do(ctx, "DROP DATABASE "+name+" WITH (FORCE)") // it goes with the server at the latest
		}
	})
	return s.URL(name)
}

// Empty makes a database without a catalog and returns its URL.
func (s *Server) Empty(tb TB) string {
	tb.Helper()
	name := fmt.Sprintf("empty_%d", databases.Add(1))
	if err := s.do(context.Background(), "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("make a database: %s", err)
	}
	return s.URL(name)
}

func (s *Server) clone(ctx context.Context) (string, error) {
	shared.Lock() // one migrates the template
	defer shared.Unlock()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1 AND datistemplate)", template).Scan(&there); err != nil {
		return "", fmt.Errorf("look for the template: %w", err)
	}
	if !there {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+template); err != nil {
			return "", fmt.Errorf("make the template: %w", err)
		}
		if _, err := postgres.Migrate(ctx, postgres.Options{URL: s.URL(template)}); err != nil {
			return "", fmt.Errorf("make the template: %w", err)
		}
		if _, err := conn.Exec(ctx, "ALTER DATABASE "+template+" WITH IS_TEMPLATE true ALLOW_CONNECTIONS false"); err != nil {
			return "", fmt.Errorf("make the template: %w", err)
		}
	}
	name := fmt.Sprintf("catalog_%d", databases.Add(1))
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template)
	return name, err
}

func (s *Server) do(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}
