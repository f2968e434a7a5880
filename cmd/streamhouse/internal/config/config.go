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
	MaxPartitionMetrics int
}

// Kind says which implementation a [Location] names.
type Kind string

// The kinds of this version.
const (
	KindSQLite Kind = "sqlite" // of catalogs
	KindFile   Kind = "file"   // of stores
	KindMemory Kind = "memory" // of both; gone when the process ends
)

// Location is where a catalog or a store is.
type Location struct {
	Kind    Kind
	Path    string        // absolute; "" for memory
	Latency time.Duration // added to each call of a store, for measurements
}

// String writes it as it is given.
func (l Location) String() string {
	s := string(l.Kind) + ":" + l.Path
	if l.Latency > 0 {
		s += "?latency=" + l.Latency.String()
	}
	return s
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
)

// Resolve checks the settings and works out what was left open. It reads the addresses of the network interfaces when
// it must choose one to advertise, and touches nothing else.
func (f Flags) Resolve() (Config, error) { return f.resolve(net.InterfaceAddrs) }

func (f Flags) resolve(interfaces func() ([]net.Addr, error)) (Config, error) {
	c := Config{
		FlushInterval: f.FlushInterval, FlushBytes: int64(f.FlushBytes),
		MergeInterval: f.MergeInterval, ObjectGrace: f.ObjectGrace,
		NumPartitions:  f.NumPartitions,
		MaxConnections: f.MaxConnections, MaxConnectionsPerIP: f.MaxConnectionsPerIP,
		MaxRequestBytes: int64(f.MaxRequestBytes), MemoryLimit: int64(f.MemoryLimit),
		BrokerID: f.BrokerID, Rack: f.Rack, ShutdownTimeout: f.ShutdownTimeout,
		LogJSON: f.LogFormat == "json", Pprof: f.Pprof, MaxPartitionMetrics: f.MaxPartitionMetrics,
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
	c.AutoCreateTopics = true // every catalog of this version is embedded
	if f.AutoCreateTopics != nil {
		c.AutoCreateTopics = *f.AutoCreateTopics
	}
	if err := c.LogLevel.UnmarshalText([]byte(f.LogLevel)); err != nil {
		errs = append(errs, fmt.Errorf("--log-level %q: want debug, info, warn or error", f.LogLevel))
	}
	c.CacheBytes = int64(orShare(f.CacheBytes, f.MemoryLimit/8))
	c.TailCacheBytes = int64(orShare(f.TailCacheBytes, f.MemoryLimit/8))
	c.BufferBytes = int64(orShare(f.BufferBytes, f.MemoryLimit/4))
	errs = append(errs, f.checkLimits(c)...)
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
	bad(f.FlushInterval >= 0 && f.FlushInterval <= maxFlushInterval,
		"--flush-interval %v: want 0 to %v", f.FlushInterval, maxFlushInterval)
	bad(f.FlushBytes >= minFlushBytes && f.FlushBytes <= maxFlushBytes,
		"--flush-bytes %v: want %v to %v", f.FlushBytes, minFlushBytes, maxFlushBytes)
	bad(f.MergeInterval > 0, "--merge-interval %v: must be above 0", f.MergeInterval)
	bad(f.ObjectGrace >= 0, "--object-grace %v: cannot be negative", f.ObjectGrace)
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

func parseCatalog(s, dataDir string) (Location, error) {
	if s == "" {
		return Location{Kind: KindSQLite, Path: filepath.Join(dataDir, "catalog.db")}, nil
	}
	scheme, rest, ok := strings.Cut(s, ":")
	switch {
	case ok && scheme == "sqlite":
		path, err := absolute(rest)
		if err != nil {
			return Location{}, fmt.Errorf("--catalog %q: %w, for example sqlite:./catalog.db", s, err)
		}
		return Location{Kind: KindSQLite, Path: path}, nil
	case s == "memory:" || s == "memory":
		return Location{Kind: KindMemory}, nil
	case ok && (scheme == "postgres" || scheme == "postgresql"):
		// The URL may carry a password: it is not repeated.
		return Location{}, errors.New("--catalog postgres://…: not in this version; use sqlite:PATH (or memory: for tests)")
	}
	return Location{}, fmt.Errorf("--catalog %q: want sqlite:PATH (or memory: for tests)", s)
}

func parseStore(s, dataDir string) (Location, error) {
	if s == "" {
		return Location{Kind: KindFile, Path: filepath.Join(dataDir, "objects")}, nil
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if ok && scheme == "s3" {
		return Location{}, errors.New("--store s3://…: not in this version; use file:PATH (or memory: for tests)")
	}
	rest, query, _ := strings.Cut(rest, "?")
	latency, err := parseLatency(query)
	if err != nil {
		return Location{}, fmt.Errorf("--store %q: %w", s, err)
	}
	switch {
	case ok && scheme == "file":
		if rest == "" {
			rest = filepath.Join(dataDir, "objects")
		}
		path, err := absolute(rest)
		if err != nil {
			return Location{}, fmt.Errorf("--store %q: %w, for example file:./objects", s, err)
		}
		return Location{Kind: KindFile, Path: path, Latency: latency}, nil
	case scheme == "memory" && rest == "":
		return Location{Kind: KindMemory, Latency: latency}, nil
	}
	return Location{}, fmt.Errorf("--store %q: want file:PATH (or memory: for tests)", s)
}

func parseLatency(query string) (time.Duration, error) {
	if query == "" {
		return 0, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, fmt.Errorf("what follows the question mark does not parse: %w", err)
	}
	for key := range values {
		if key != "latency" {
			return 0, fmt.Errorf("unknown option %q; there is latency=DURATION", key)
		}
	}
	d, err := time.ParseDuration(values.Get("latency"))
	if err != nil || d < 0 || d > maxStoreLatency {
		return 0, fmt.Errorf("latency=%s: want a duration from 0 to %v, such as 280ms", values.Get("latency"), maxStoreLatency)
	}
	return d, nil
}

// absolute understands PATH and, as URLs are often written, //PATH with a host left empty (file:///var/lib).
func absolute(path string) (string, error) {
	if after, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(after, "/") {
			return "", errors.New("write a path after the colon, without //")
		}
		path = after
	}
	if path == "" {
		return "", errors.New("the path is missing")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("make the path absolute: %w", err)
	}
	return abs, nil
}
