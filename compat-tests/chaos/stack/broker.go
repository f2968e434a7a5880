package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/proxy"
	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// Broker is one `streamhouse serve` with its proxies. Its methods are for one
// goroutine.
type Broker struct {
	process

	ID   int32
	Addr string // where clients connect: the proxy
	HTTP string // of /ready and /metrics, without proxy

	// Its proxies, or its cables instead; the others are nil.
	Clients  *proxy.TCP
	Postgres *proxy.Postgres
	Store    *proxy.TCP
	Cables   *Cables

	stopped bool // by SIGSTOP
}

// commitText is what only the statement that commits log objects contains.
const commitText = "INSERT INTO catalog_tail"

func (s *Stack) newBroker(ctx context.Context, id int32, ports []string) (b *Broker, err error) {
	b = &Broker{ID: id, HTTP: ports[1]}
	bind, catalog, store := ports[0], s.Postgres.addr, s.Store.Addr()
	if s.cables {
		if b.Cables, err = newCables(ctx, s.dir, id); err != nil {
			return nil, err
		}
		bind, b.HTTP = at(b.Cables.Clients.broker, bind), at(b.Cables.watch.broker, b.HTTP)
		b.Addr, catalog, store = bind, at(b.Cables.Catalog.host, catalog), at(b.Cables.Store.host, s.MinIO.addr)
	} else {
		listen := proxy.Listen
		if s.refuse {
			listen = proxy.ListenWhile
		}
		if b.Clients, err = listen(bind); err != nil {
			return nil, err
		}
		if b.Postgres, err = proxy.ListenPostgres(catalog, commitText); err != nil {
			return nil, err
		}
		if b.Store, err = proxy.Listen(store); err != nil {
			return nil, err
		}
		b.Addr, catalog, store = b.Clients.Addr(), b.Postgres.Addr(), b.Store.Addr()
	}
	name := "broker-" + strconv.Itoa(int(id))
	b.process = process{
		name: name, path: brokerBinary(), dir: s.dir, log: filepath.Join(s.dir, name+".log"),
		args: append([]string{
			"serve", "--broker-id", strconv.Itoa(int(id)), "--http-addr", b.HTTP,
			"--listener", "clients=" + bind + "@" + b.Addr, "--data-dir", filepath.Join(s.dir, name),
			"--catalog", s.Postgres.url("streamhouse", catalog, database),
			"--store", "s3://" + bucket + "?endpoint=http://" + store + "&region=us-east-1&path_style=true",
			"--flush-interval", "5ms", "--rack", s.rack(id),
		}, s.flags...),
		env: append(os.Environ(), "AWS_ACCESS_KEY_ID="+s3User, "AWS_SECRET_ACCESS_KEY="+s3Secret, "AWS_EC2_METADATA_DISABLED=true",
			"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull),
	}
	if b.Cables != nil {
		return b, b.Cables.enter(&b.process)
	}
	return b, nil
}

// at is the port of an address, at another one.
func at(e end, addr string) string { return e.ip + addr[strings.LastIndexByte(addr, ':'):] }

func brokerBinary() string {
	if path := os.Getenv("COMPAT_BINARY"); path != "" {
		return path
	}
	return filepath.Join(client.Root(), "..", "bin", "streamhouse")
}

// readyWithin bounds a start. One after a kill waits for the dead one's session
// where nothing tells that it is dead.
const readyWithin = 60 * time.Second

// Start runs it and returns once it is ready.
func (b *Broker) Start(ctx context.Context) error {
	if err := b.Launch(); err != nil {
		return err
	}
	return b.AwaitReady(ctx, readyWithin)
}

// Launch runs it.
func (b *Broker) Launch() error {
	b.stopped = false
	return b.start()
}

// AwaitReady waits until /ready says so.
func (b *Broker) AwaitReady(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return b.until(ctx, func(ctx context.Context) error { return get(ctx, "http://"+b.HTTP+"/ready") })
}

// Running says whether it was started and not ended.
func (b *Broker) Running() bool { return b.running() }

// Kill ends it with SIGKILL.
func (b *Broker) Kill() error { return b.kill() }

// stopWithin is longer than --shutdown-timeout.
const stopWithin = 40 * time.Second

// Stop ends it with SIGTERM; it must exit with 0. It returns how long that took.
func (b *Broker) Stop() (time.Duration, error) {
	begin := time.Now()
	state, err := b.end(syscall.SIGTERM, stopWithin)
	if err == nil && !state.Success() {
		err = fmt.Errorf("%s ended badly after SIGTERM: %s: %s", b.name, state, b.tail())
	}
	return time.Since(begin), err
}

// Freeze stops it with SIGSTOP, Thaw lets it go on.
func (b *Broker) Freeze() error {
	b.stopped = true
	return b.signal(syscall.SIGSTOP)
}

// Thaw undoes Freeze.
func (b *Broker) Thaw() error {
	b.stopped = false
	return b.signal(syscall.SIGCONT)
}

// AwaitEnd waits until it ends by itself, and returns its exit code.
func (b *Broker) AwaitEnd(within time.Duration) (int, error) {
	state, err := b.wait(within)
	if err != nil {
		return 0, err
	}
	return state.ExitCode(), nil
}

// LogSize is where its log ends now; LogFrom is what it wrote since.
func (b *Broker) LogSize() int64 { return b.logSize() }

// LogFrom is what it wrote after LogSize was at.
func (b *Broker) LogFrom(at int64) string { return b.logFrom(at) }

// Heal ends all that was done to its connections, and thaws it.
func (b *Broker) Heal() error {
	if b.Cables != nil {
		if err := b.Cables.Heal(); err != nil {
			return err
		}
	} else {
		b.Clients.Heal()
		b.Store.Heal()
		b.Postgres.Heal()
		b.Postgres.DropNotifications(false)
		b.Postgres.LoseCommits(0, 0)
	}
	if b.stopped {
		return b.Thaw()
	}
	return nil
}

// Memory is what of its memory is resident, in bytes.
func (b *Broker) Memory() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", b.name, err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", b.name, err)
	}
	return kib << 10, nil
}

func (b *Broker) shut() {
	if b.stopped && b.running() {
		_ = b.Thaw() // it is killed next
	}
	b.close()
	if b.Cables != nil {
		b.Cables.close()
		return
	}
	for _, closing := range []func(){b.Clients.Close, b.Postgres.Close, b.Store.Close} {
		closing()
	}
}
