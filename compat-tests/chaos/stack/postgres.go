package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a server with fsync. Brokers connect as role streamhouse, who owns
// the database streamhouse and is no superuser: slots reserved for superusers
// are not theirs.
type Postgres struct {
	process

	bin, addr string
	Data      string
}

const database = "streamhouse"

// maxConnections is small, so that it can be used up.
const maxConnections = 90

// newPostgres runs a server with an empty database. It listens to 127.0.0.1 only, or everywhere, to brokers behind cables.
func newPostgres(ctx context.Context, dir, addr string, everywhere bool) (*Postgres, error) {
	p, err := preparePostgres(dir, "postgres", addr)
	if err != nil {
		return nil, err
	}
	if out, err := p.run("", "initdb", "-D", p.Data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"); err != nil {
		return nil, fmt.Errorf("run initdb: %w: %s", err, out)
	}
	if everywhere {
		p.args = append(p.args, "-c", "listen_addresses=*")
		if err := appendLine(filepath.Join(p.Data, "pg_hba.conf"), "host all all "+cablesNet+" trust"); err != nil {
			return nil, err
		}
	}
	if err := p.Up(ctx); err != nil {
		return nil, err
	}
	for _, sql := range []string{"CREATE ROLE streamhouse LOGIN", "CREATE DATABASE " + database + " OWNER streamhouse"} {
		if err := p.exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("make the database: %w", err)
		}
	}
	return p, nil
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("add a line to %s: %w", path, err)
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

// preparePostgres makes a home in dir for a server that has no data yet.
func preparePostgres(dir, name, addr string) (*Postgres, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, name)
	p := &Postgres{bin: bin, addr: addr, Data: filepath.Join(home, "data")}
	_, port, ok := strings.Cut(addr, ":")
	if err := os.MkdirAll(home, 0o700); err != nil || !ok {
		return nil, fmt.Errorf("make a folder for Postgres at %s: %w", addr, err)
	}
	cred, err := somebody()
	if err != nil {
		return nil, err
	}
	if cred != nil {
		// The way to its folder must be open to it, too.
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(home, int(cred.Uid), int(cred.Gid))); err != nil {
			return nil, fmt.Errorf("give Postgres its folder: %w", err)
		}
	}
	p.process = process{
		name: name, path: filepath.Join(bin, "postgres"), dir: home, cred: cred, log: filepath.Join(dir, name+".log"),
		env: append(os.Environ(), "LC_ALL=C.UTF-8"),
		args: []string{
			"-D", p.Data, "-p", port,
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + home, "-c", "shared_buffers=64MB",
			"-c", "max_connections=" + strconv.Itoa(maxConnections), "-c", "deadlock_timeout=200ms",
			"-c", "log_min_messages=warning", "-c", "log_line_prefix=%m [%p] ",
		},
	}
	return p, nil
}

// exec runs one statement as a superuser, in the database postgres.
func (p *Postgres) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.url("postgres", p.addr, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", p.name, err)
	}
	defer conn.Close(ctx) // it answered
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s in %s: %w", sql, p.name, err)
	}
	return nil
}

// postgresPrograms finds the folder of Postgres' programs, the newest where
// there are several.
func postgresPrograms() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("these tests need Postgres 14 or newer: install it (apt-get install postgresql) or put its programs into PATH")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}

// somebody is the user Postgres runs as when the tests run as root: it refuses
// to be root.
func somebody() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
	}
	return nil, errors.New("there is neither a user postgres nor a user nobody to run Postgres as: add one")
}

// run runs one of Postgres' programs to its end.
func (p *Postgres) run(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir, cmd.Env, cmd.Stdin = p.dir, p.env, strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (*Postgres) url(role, addr, db string) string {
	return "postgres://" + role + "@" + addr + "/" + db + "?sslmode=disable"
}

// Up runs it and returns once it takes connections. It also works after Kill.
func (p *Postgres) Up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if err := p.start(); err != nil {
			return err
		}
		err := p.until(ctx, func(ctx context.Context) error {
			conn, err := pgx.Connect(ctx, p.url("postgres", p.addr, "postgres"))
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		})
		if err == nil || p.running() || ctx.Err() != nil {
			return err
		}
		<-time.After(50 * time.Millisecond) // processes of a killed server may still hold its memory
	}
}

// Connect returns a connection that leads through no proxy.
func (p *Postgres) Connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, p.url("postgres", p.addr, database))
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

// ConnectPlain does it as the brokers' role, and takes one of their slots; its
// application_name is chaos.
func (p *Postgres) ConnectPlain(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, p.url("streamhouse", p.addr, database)+"&application_name=chaos")
}

// Kill ends its main process with SIGKILL; the others find out by themselves.
func (p *Postgres) Kill() error { return p.kill() }

// Crash ends all of its processes at once, as a machine does that dies. After Kill those that are left may show for a moment what
// the standby has not: a commit that waits for a synchronous one waits no longer when the main process is gone.
func (p *Postgres) Crash() error {
	if err := p.Freeze(); err != nil {
		return err
	}
	if err := p.signalAll(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.ended
	p.cmd = nil
	return nil
}

// Stop throws out the clients and ends it in an orderly way.
func (p *Postgres) Stop() error {
	_, err := p.end(syscall.SIGINT, time.Minute)
	return err
}

// Freeze and Thaw stop all of its processes and let them go on.
func (p *Postgres) Freeze() error { return p.signalAll(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (p *Postgres) Thaw() error { return p.signalAll(syscall.SIGCONT) }

func (p *Postgres) signalAll(sig syscall.Signal) error {
	pid := p.cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return fmt.Errorf("list the processes of Postgres: %w", err)
	}
	pids := []int{pid}
	for field := range strings.FieldsSeq(string(children)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("list the processes of Postgres: %w", err)
		}
		pids = append(pids, child)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal a process of Postgres: %w", err)
		}
	}
	return nil
}

// Offline runs SQL, one statement a line, while the server is down.
func (p *Postgres) Offline(sql string) error {
	out, err := p.run(sql, "postgres", "--single", "-D", p.Data, database)
	if err != nil || strings.Contains(out, "ERROR") {
		return fmt.Errorf("run SQL in a server that is down: %w: %s", err, out)
	}
	return nil
}

// Save copies the files of a server that is down to a folder beside them;
// Restore puts them back.
func (p *Postgres) Save() error { return p.copyFiles(p.Data, p.Data+".saved") }

// Restore undoes what happened since Save.
func (p *Postgres) Restore() error { return p.copyFiles(p.Data+".saved", p.Data) }

func (p *Postgres) copyFiles(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("make room for the files of Postgres: %w", err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the files of Postgres: %w: %s", err, out)
	}
	return nil
}
