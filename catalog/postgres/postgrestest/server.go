package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/internal/freeport"
)

// Options say how a server runs.
type Options struct {
	// Durable runs it with fsync, as in production.
	Durable bool
	// Settings are further settings, by name.
	Settings map[string]string
}

// Server is a Postgres of one's own. Its methods are not safe for concurrent use.
type Server struct {
	dir, bin string
	port     int
	args     []string
	cred     *syscall.Credential
	cmd      *exec.Cmd
	ended    chan struct{} // closed when the process of cmd is gone
}

// startTimeout bounds starting: recovery after a kill and a busy machine take their time.
const startTimeout = time.Minute

// Start makes a cluster in a temporary folder and runs a server on it.
func Start(opts Options) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.dir, err = os.MkdirTemp("", "streamhouse-postgres-"); err != nil {
		return nil, fmt.Errorf("make a folder for Postgres: %w", err)
	}
	if err = s.init(opts); err == nil {
		err = s.Up()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// binaries finds the folder of Postgres' programs, the newest where there are several.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/usr/local/pgsql/bin/initdb",
		"/opt/homebrew/opt/postgresql@*/bin/initdb", "/usr/local/opt/postgresql@*/bin/initdb",
	} {
		paths, err := filepath.Glob(pattern)
		if err == nil {
			found = append(found, paths...)
		}
	}
	if len(found) == 0 {
		return "", errors.New("these tests need Postgres 14 or newer: install it (Debian and Ubuntu: apt-get install postgresql, " +
			"Alpine: apk add postgresql, macOS: brew install postgresql@17) or put its initdb and postgres into PATH")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

func (s *Server) init(opts Options) error {
	if os.Getuid() == 0 {
		if err := s.becomeSomebody(); err != nil {
			return err
		}
	}
	initdb := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb: %w: %s", err, out)
	}
	settings := map[string]string{
		"listen_addresses": "127.0.0.1", "unix_socket_directories": s.dir, "max_connections": "300", "shared_buffers": "64MB",
		"fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0", "deadlock_timeout": "200ms",
		"log_min_messages": "warning",
	}
	if opts.Durable {
		settings["fsync"], settings["full_page_writes"] = "on", "on"
	}
	maps.Copy(settings, opts.Settings)
	for name, value := range settings {
		s.args = append(s.args, "-c", name+"="+value)
	}
	var err error
	s.port, err = freeport.Get(context.Background())
	return err
}

// becomeSomebody picks the user that the server runs as: root may not.
func (s *Server) becomeSomebody() error {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, int(uid), int(gid)); err != nil {
			return fmt.Errorf("give Postgres its folder: %w", err)
		}
		return nil
	}
	return errors.New("Postgres does not run as root, and there is neither a user postgres nor a user nobody: add one") //nolint:staticcheck // a name
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// LogFile is where the server logs.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "log") }

// Addr is host:port.
func (s *Server) Addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// URL names a database of the server for its superuser.
func (s *Server) URL(database string) string {
	return "postgres://postgres@" + s.Addr() + "/" + database + "?sslmode=disable"
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(s.bin, name), args...) //nolint:gosec // Postgres' own programs
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}

// Up runs the server, and returns once it takes writes. It also works after Kill.
func (s *Server) Up() error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := s.run(deadline)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(s.LogFile()) // what there is of it
			return fmt.Errorf("start Postgres: %w\n%s", err, log)
		}
		<-time.After(50 * time.Millisecond) // processes of a killed server may still hold its memory
	}
}

func (s *Server) run(deadline time.Time) error {
	log, err := os.OpenFile(s.LogFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = log.Close() }() // the process has its own copy
	cmd := s.command("postgres", append([]string{"-D", s.data(), "-p", strconv.Itoa(s.port)}, s.args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The kernel signals the child when the *thread* that started it ends: this one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is for whoever ended it
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("run postgres: %w", err)
	}
	s.cmd, s.ended = cmd, ended
	for {
		select {
		case <-ended:
			return errors.New("the server ended")
		case <-time.After(20 * time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			_ = conn.Close(ctx) // it answered
		}
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			s.signal(syscall.SIGKILL)
			return fmt.Errorf("wait for the server: %w", err)
		}
	}
}

func (s *Server) signal(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig) // it may be gone already
	<-s.ended
	s.cmd = nil
}

// Stop ends the server in an orderly way: clients are thrown out, all is written.
func (s *Server) Stop() { s.signal(syscall.SIGINT) }

// Kill ends it with SIGKILL. Its other processes find out by themselves, soon.
func (s *Server) Kill() { s.signal(syscall.SIGKILL) }

// Freeze and Thaw stop all of its processes and let them go on, as a server does that hangs.
func (s *Server) Freeze() error { return s.signalAll(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (s *Server) Thaw() error { return s.signalAll(syscall.SIGCONT) }

func (s *Server) signalAll(sig syscall.Signal) error {
	pids := []int{s.cmd.Process.Pid}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pids[0], pids[0]))
	if err != nil {
		return fmt.Errorf("list the server's processes: %w", err)
	}
	for field := range strings.FieldsSeq(string(children)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("list the server's processes: %w", err)
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// Close ends the server and removes its files.
func (s *Server) Close() error {
	s.signal(syscall.SIGQUIT)
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the files of Postgres: %w", err)
	}
	return nil
}
