package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/broker/group"
)

// Config is what a broker runs with: checked, complete, and without a trace of where it came from.
type Config struct {
	Listeners []Listener
	HTTPAddr  string // "" for no HTTP server
	DataDir   string // absolute

	Catalog Location
	Store   Location

	FlushInterval time.Duration
	FlushBytes    int64
	MergeInterval time.Duration
	ObjectGrace   time.Duration

	AutoCreateTopics bool
	NumPartitions    int32

	Group               group.Config
	OffsetCommitTimeout time.Duration

	MaxConnections      int
	MaxConnectionsPerIP int
	MaxRequestBytes     int64
	MemoryLimit         int64 // for debug.SetMemoryLimit
	CacheBytes          int64
	TailCacheBytes      int64
	BufferBytes         int64

	BrokerID        int32 // -1: the catalog's choice
	Rack            string
	ShutdownTimeout time.Duration

	LogLevel            slog.Level
	LogJSON             bool
	Pprof               bool
	Metrics             bool
	MaxPartitionMetrics int

	TracingEndpoint *url.URL // nil: nothing is traced
	TracingSample   float64  // share of requests
}

const (
	minMemoryLimit    = 64 * MiB
	minFlushBytes     = 64 * KiB
	maxFlushBytes     = 1 * GiB
	minRequestBytes   = 64 * KiB
	maxRequestBytes   = 1 * GiB
	minCacheBytes     = 1 * MiB
	maxStoreLatency   = time.Minute
	maxFlushInterval  = 10 * time.Second
	maxPartitionCount = 100_000

	localFlushInterval  = time.Millisecond
	remoteFlushInterval = 100 * time.Millisecond // each PUT costs money and tens of milliseconds
	localObjectGrace    = 30 * time.Second
	remoteObjectGrace   = time.Hour // also how far back the catalog may be restored
	minSharedGrace      = 30 * time.Second
)

// Resolve checks the settings and works out what was left open. It reads the addresses of the network interfaces when
// it must choose one to advertise, and touches nothing else.
func (f Flags) Resolve() (Config, error) { return f.resolve(net.InterfaceAddrs) }

func (f Flags) resolve(interfaces func() ([]net.Addr, error)) (Config, error) {
	c := Config{
		FlushBytes: int64(f.FlushBytes), MergeInterval: f.MergeInterval,
		NumPartitions:  f.NumPartitions,
		MaxConnections: f.MaxConnections, MaxConnectionsPerIP: f.MaxConnectionsPerIP,
		MaxRequestBytes: int64(f.MaxRequestBytes), MemoryLimit: int64(f.MemoryLimit),
		BrokerID: f.BrokerID, Rack: f.Rack, ShutdownTimeout: f.ShutdownTimeout,
		LogJSON: f.LogFormat == "json", Pprof: f.Pprof, Metrics: f.Metrics != "off", MaxPartitionMetrics: f.MaxPartitionMetrics,
		TracingSample: f.TracingSample,
	}
	var errs []error
	var err error
	if c.Listeners, err = f.listeners(interfaces); err != nil {
		errs = append(errs, err)
	}
	if c.HTTPAddr, err = httpAddr(f.HTTPAddr); err != nil {
		errs = append(errs, err)
	}
	if c.DataDir, err = filepath.Abs(f.DataDir); err != nil {
		errs = append(errs, fmt.Errorf("--data-dir %q: %w", f.DataDir, err))
	}
	if c.Catalog, err = parseCatalog(f.Catalog, c.DataDir); err != nil {
		errs = append(errs, err)
	}
	if c.Store, err = parseStore(f.Store, c.DataDir); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, checkTogether(c.Catalog, c.Store)...)
	}
	c.FlushInterval, c.ObjectGrace = localFlushInterval, localObjectGrace
	if c.Store.Kind == KindS3 {
		c.FlushInterval, c.ObjectGrace = remoteFlushInterval, remoteObjectGrace
	}
	if f.FlushInterval != nil {
		c.FlushInterval = *f.FlushInterval
	}
	if f.ObjectGrace != nil {
		c.ObjectGrace = *f.ObjectGrace
	}
	c.AutoCreateTopics = c.Catalog.Kind != KindPostgres
	if f.AutoCreateTopics != nil {
		c.AutoCreateTopics = *f.AutoCreateTopics
	}
	if err := c.LogLevel.UnmarshalText([]byte(f.LogLevel)); err != nil {
		errs = append(errs, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.LogLevel))
	}
	c.CacheBytes = int64(orShare(f.CacheBytes, f.MemoryLimit/8))
	c.TailCacheBytes = int64(orShare(f.TailCacheBytes, f.MemoryLimit/8))
	c.BufferBytes = int64(orShare(f.BufferBytes, f.MemoryLimit/4))
	if c.TracingEndpoint, err = tracingEndpoint(f.TracingEndpoint); err != nil {
		errs = append(errs, err)
	}
	c.Group, c.OffsetCommitTimeout = f.group(), f.OffsetsCommitTimeout
	errs = append(errs, f.checkLimits(c)...)
	errs = append(errs, f.checkGroups()...)
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return c, nil
}

func orShare(given, share Size) Size {
	if given > 0 {
		return given
	}
	return max(share, minCacheBytes)
}

func (f Flags) checkLimits(c Config) (errs []error) {
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.FlushInterval >= 0 && c.FlushInterval <= maxFlushInterval,
		"--flush-interval %v: want 0 to %v", c.FlushInterval, maxFlushInterval)
	bad(f.FlushBytes >= minFlushBytes && f.FlushBytes <= maxFlushBytes,
		"--flush-bytes %v: want %v to %v", f.FlushBytes, minFlushBytes, maxFlushBytes)
	bad(f.MergeInterval > 0, "--merge-interval %v: must be above 0", f.MergeInterval)
	bad(c.ObjectGrace >= 0, "--object-grace %v: cannot be negative", c.ObjectGrace)
	bad(c.Catalog.Kind != KindPostgres || c.ObjectGrace >= minSharedGrace,
		"--object-grace %v: want %v or more where brokers share the catalog, since others may still read what one replaced", c.ObjectGrace, minSharedGrace)
	bad(f.NumPartitions >= 1 && f.NumPartitions <= maxPartitionCount,
		"--num-partitions %d: want 1 to %d", f.NumPartitions, maxPartitionCount)
	bad(f.MaxConnections >= 1, "--max-connections %d: want 1 or more", f.MaxConnections)
	bad(f.MaxConnectionsPerIP >= 1, "--max-connections-per-ip %d: want 1 or more", f.MaxConnectionsPerIP)
	bad(f.MaxRequestBytes >= minRequestBytes && f.MaxRequestBytes <= maxRequestBytes,
		"--max-request-bytes %v: want %v to %v", f.MaxRequestBytes, minRequestBytes, maxRequestBytes)
	bad(f.MemoryLimit >= minMemoryLimit, "--memory-limit %v: want %v or more", f.MemoryLimit, minMemoryLimit)
	bad(c.CacheBytes+c.TailCacheBytes+c.BufferBytes <= c.MemoryLimit,
		"--cache-bytes, --tail-cache-bytes and --buffer-bytes take %v together, more than --memory-limit %v: "+
			"raise the limit or lower them",
		Size(c.CacheBytes+c.TailCacheBytes+c.BufferBytes), f.MemoryLimit)
	bad(f.BrokerID >= -1, "--broker-id %d: want 0 or more, or -1 for the catalog's choice", f.BrokerID)
	bad(f.ShutdownTimeout > 0, "--shutdown-timeout %v: must be above 0", f.ShutdownTimeout)
	bad(f.MaxPartitionMetrics >= 1, "--max-partition-metrics %d: want 1 or more", f.MaxPartitionMetrics)
	bad(f.TracingSample >= 0 && f.TracingSample <= 1, "--tracing-sample %v: want 0 to 1", f.TracingSample) // nor NaN
	return errs
}

func (f Flags) listeners(interfaces func() ([]net.Addr, error)) ([]Listener, error) {
	if len(f.Listener) > 0 {
		var in []Listener
		for _, s := range f.Listener {
			l, err := ParseListener(strings.TrimSpace(s))
			if err != nil {
				return nil, fmt.Errorf("--listener: %w", err)
			}
			in = append(in, l)
		}
		out, err := resolveListeners(in, interfaces)
		if err != nil {
			return nil, fmt.Errorf("--listener: %w", err)
		}
		return out, nil
	}
	bind, err := ParseAddress(f.Addr)
	if err != nil {
		return nil, fmt.Errorf("--addr: %w", err)
	}
	l := Listener{Name: DefaultListenerName, Bind: bind}
	if f.AdvertisedAddr != "" {
		if l.Advertised, err = parseAdvertised(f.AdvertisedAddr); err != nil {
			return nil, fmt.Errorf("--advertised-addr: %w", err)
		}
		if l.Advertised.Unspecified() {
			return nil, fmt.Errorf("--advertised-addr %s: %w", f.AdvertisedAddr, errUnspecified)
		}
	}
	out, err := resolveListeners([]Listener{l}, interfaces)
	if err != nil {
		return nil, fmt.Errorf("--addr: %w", err)
	}
	return out, nil
}

func httpAddr(s string) (string, error) {
	if s == "" || s == "off" {
		return "", nil
	}
	a, err := ParseAddress(s)
	if err != nil {
		return "", fmt.Errorf("--http-addr: %w", err)
	}
	return a.String(), nil
}

// tracingEndpoint reads where traces go; nil for nowhere. Its errors do not repeat what was given: it may hold a password.
func tracingEndpoint(s string) (*url.URL, error) {
	if s == "" || s == "off" {
		return nil, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("--tracing-endpoint: the URL does not parse")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, errors.New("--tracing-endpoint: want http://HOST:PORT or https://HOST:PORT")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("--tracing-endpoint: the URL must not have a query or fragment")
	}
	return u, nil
}
