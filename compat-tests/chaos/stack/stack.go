package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/proxy"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// Options say what to run.
type Options struct {
	Brokers int
	// Disk is the size of MinIO's file system in bytes, 0 for 1 GiB.
	Disk int64
	// Flags are further flags of every broker.
	Flags []string
	// Racks are the racks of brokers 1, 2, …, and again from the first; nil: each is in one of its own.
	Racks []string
	// Refuse has clients of a dead broker refused, as by a host without it; otherwise they can connect, and find a reset.
	Refuse bool
	// Cables puts every broker into a network namespace, with cables to the rest instead of proxies: see [Namespaces].
	Cables bool
}

// Stack is a cluster and what it stands on.
type Stack struct {
	Postgres *Postgres
	MinIO    *MinIO
	Store    *proxy.HTTP // in front of MinIO, shared by all brokers
	Brokers  []*Broker   // running or not
	// Replication leads from the standby to Postgres; nil: there was no standby.
	Replication *proxy.TCP

	dir     string
	flags   []string
	racks   []string
	cables  bool
	refuse  bool
	standby *Postgres // that follows Postgres; nil: none
	servers int       // standbys made so far
	joined  int32     // brokers made so far: an id is never used again
}

// Start runs a cluster until the test ends. Then every broker that still runs
// must stop in an orderly way, and none may have written a panic.
func Start(t *testing.T, opts Options) *Stack {
	t.Helper()
	if opts.Disk == 0 {
		opts.Disk = 1 << 30
	}
	require.FileExists(t, brokerBinary(), "build it first: make build")
	s := &Stack{dir: t.TempDir(), flags: opts.Flags, racks: opts.Racks, cables: opts.Cables, refuse: opts.Refuse}
	require.NoError(t, os.Chmod(filepath.Dir(s.dir), 0o755)) // Postgres runs as somebody else
	ctx := t.Context()
	t.Cleanup(func() { s.end(t) })
	ports := target.FreePorts(t, 2)
	var err error
	s.Postgres, err = newPostgres(ctx, s.dir, ports[0], s.cables)
	require.NoError(t, err)
	s.MinIO, err = newMinIO(ctx, s.dir, ports[1], opts.Disk, s.cables)
	require.NoError(t, err)
	s.Store, err = proxy.ListenHTTP(s.MinIO.addr)
	require.NoError(t, err)
	for range opts.Brokers {
		_, err := s.Join(t)
		require.NoError(t, err)
	}
	return s
}

// Join adds a broker and returns once it is ready.
func (s *Stack) Join(t *testing.T) (*Broker, error) {
	t.Helper()
	s.joined++
	b, err := s.newBroker(t.Context(), s.joined, target.FreePorts(t, 2))
	if err != nil {
		return nil, err
	}
	s.Brokers = append(s.Brokers, b)
	err = b.Start(t.Context())
	return b, err
}

func (s *Stack) rack(id int32) string {
	if len(s.racks) == 0 {
		return "rack-" + strconv.Itoa(int(id))
	}
	return s.racks[int(id-1)%len(s.racks)]
}

// Remove forgets a broker that was stopped.
func (s *Stack) Remove(b *Broker) error {
	b.shut()
	s.Brokers = slices.DeleteFunc(s.Brokers, func(other *Broker) bool { return other == b })
	return b.fault()
}

// Broker returns a broker by its id.
func (s *Stack) Broker(id int32) (*Broker, error) {
	for _, b := range s.Brokers {
		if b.ID == id {
			return b, nil
		}
	}
	return nil, fmt.Errorf("there is no broker %d", id)
}

// Seeds are the addresses of all brokers, for clients.
func (s *Stack) Seeds() (addrs []string) {
	for _, b := range s.Brokers {
		addrs = append(addrs, b.Addr)
	}
	return addrs
}

// Client returns a franz-go client, closed when the test ends.
func (s *Stack) Client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.Seeds()...)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

// Topic makes a topic whose records do not expire.
func (s *Stack) Topic(t *testing.T, prefix string, partitions int32) string {
	t.Helper()
	name := target.Name(prefix)
	made, err := kadm.NewClient(s.Client(t)).CreateTopic(t.Context(), partitions, 1, map[string]*string{"retention.ms": new("-1")}, name)
	require.NoError(t, err)
	require.NoError(t, made.Err)
	return name
}

// Heal ends every fault: all is connected, thawed, and runs.
func (s *Stack) Heal(ctx context.Context) error {
	s.Store.Heal()
	var errs []error
	for _, b := range s.Brokers {
		errs = append(errs, b.Heal())
	}
	if !s.Postgres.running() {
		errs = append(errs, s.Postgres.Up(ctx))
	}
	if !s.MinIO.running() {
		errs = append(errs, s.MinIO.Up(ctx))
	}
	for _, b := range s.Brokers {
		if !b.Running() {
			errs = append(errs, b.Launch())
		}
	}
	for _, b := range s.Brokers {
		if b.Running() {
			errs = append(errs, b.AwaitReady(ctx, readyWithin))
		}
	}
	return errors.Join(errs...)
}

// Ended tells of brokers that ended without being told to.
func (s *Stack) Ended() error {
	var errs []error
	for _, b := range s.Brokers {
		if !b.Running() {
			continue
		}
		select {
		case <-b.ended:
			errs = append(errs, fmt.Errorf("%s ended by itself: %s", b.name, b.cmd.ProcessState))
		default:
		}
	}
	return errors.Join(errs...)
}

// fault is what no broker may ever write.
func (b *Broker) fault() error {
	if said := b.wrote("panic: ", "panic recovered", "DATA RACE", "fatal error: "); said != "" {
		return errors.New(said)
	}
	return nil
}

// Faults are the panics of all brokers, and those that ended by themselves.
func (s *Stack) Faults() error {
	errs := []error{s.Ended()}
	for _, b := range s.Brokers {
		errs = append(errs, b.fault())
	}
	return errors.Join(errs...)
}

// Logs are the ends of all logs.
func (s *Stack) Logs() string {
	var out strings.Builder
	for _, b := range s.Brokers {
		fmt.Fprintf(&out, "--- %s\n%s\n", b.name, b.tail())
	}
	if s.Postgres != nil {
		fmt.Fprintf(&out, "--- Postgres\n%s\n", s.Postgres.tail())
	}
	return out.String()
}

func (s *Stack) end(t *testing.T) {
	t.Helper()
	for _, b := range s.Brokers {
		if b.Running() && !b.stopped && !t.Failed() {
			if _, err := b.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := s.Faults(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Log(s.Logs())
		s.keep(t)
	}
	for _, b := range s.Brokers {
		b.shut()
	}
	if s.Store != nil {
		s.Store.Close()
	}
	if s.Replication != nil {
		s.Replication.Close()
	}
	if s.MinIO != nil {
		s.MinIO.shut()
	}
	for _, p := range []*Postgres{s.Postgres, s.standby} {
		if p != nil {
			p.close()
		}
	}
}

// keep copies the logs of a failed test to where they outlive it.
func (s *Stack) keep(t *testing.T) {
	t.Helper()
	to := os.Getenv("CHAOS_LOGS")
	if to == "" {
		return
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, from := range logs {
		b, err := os.ReadFile(from)
		if err == nil {
			err = errors.Join(os.MkdirAll(to, 0o755), os.WriteFile(filepath.Join(to, t.Name()+"-"+filepath.Base(from)), b, 0o600))
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("logs are kept in %s", to)
}

// Operate runs a command of the binary that changes or reads the catalog, such as move, and returns what it wrote.
func (s *Stack) Operate(ctx context.Context, args ...string) (string, error) {
	args = append(args, "--catalog", s.Postgres.url("streamhouse", s.Postgres.addr, database))
	out, err := exec.CommandContext(ctx, brokerBinary(), args...).CombinedOutput()
	return string(out), err
}
