package config

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/broker/group"
)

type testCLI struct {
	Bootstrap string   `env:"STREAMHOUSE_BOOTSTRAP"`
	Serve     testCmd  `cmd:""`
	Other     struct{} `cmd:""`
}

type testCmd struct{ Flags }

// parse reads serve's settings from a file's text and arguments; the environment is the test's.
func parse(t *testing.T, yaml string, args ...string) (Flags, error) {
	t.Helper()
	var c testCLI
	opts := []kong.Option{kong.Name("test"), kong.Exit(func(int) { t.Error("exit") })}
	if yaml != "" {
		r, err := Resolver(strings.NewReader(yaml))
		if err != nil {
			return Flags{}, err
		}
		opts = append(opts, kong.Resolvers(r))
	}
	p, err := kong.New(&c, opts...)
	require.NoError(t, err)
	_, err = p.Parse(append([]string{"serve"}, args...))
	return c.Serve.Flags, err
}

func resolve(t *testing.T, yaml string, args ...string) (Config, error) {
	t.Helper()
	f, err := parse(t, yaml, args...)
	require.NoError(t, err)
	return f.resolve(noInterfaces)
}

func noInterfaces() ([]net.Addr, error) { return nil, nil }

func TestDefaults(t *testing.T) {
	c, err := resolve(t, "")
	require.NoError(t, err)
	wd, err := os.Getwd()
	require.NoError(t, err)
	data := filepath.Join(wd, "streamhouse-data")
	local := Address{Host: "127.0.0.1", Port: 9092}
	require.Equal(t, Config{
		Listeners: []Listener{{Name: "default", Bind: local, Advertised: local}},
		HTTPAddr:  "127.0.0.1:8080", DataDir: data,
		Catalog:       Location{Kind: KindSQLite, Path: filepath.Join(data, "catalog.db")},
		Store:         Location{Kind: KindFile, Path: filepath.Join(data, "objects")},
		FlushInterval: time.Millisecond, FlushBytes: 8 << 20,
		MergeInterval: time.Second, ObjectGrace: 30 * time.Second,
		AutoCreateTopics: true, NumPartitions: 1,
		Group: group.DefaultConfig(), OffsetCommitTimeout: 5 * time.Second,
		MaxConnections: 10000, MaxConnectionsPerIP: 5000, MaxRequestBytes: 100 << 20,
		MemoryLimit: 384 << 20, CacheBytes: 48 << 20, TailCacheBytes: 48 << 20, BufferBytes: 96 << 20,
		BrokerID: -1, ShutdownTimeout: 20 * time.Second, LogLevel: slog.LevelInfo, Metrics: true, MaxPartitionMetrics: 10000,
		TracingSample: 0.01,
	}, c)
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	const file = "flush-interval: 5ms\n"
	f, err := parse(t, file)
	require.NoError(t, err)
	require.Equal(t, 5*time.Millisecond, *f.FlushInterval)
	t.Setenv("STREAMHOUSE_FLUSH_INTERVAL", "7ms")
	f, err = parse(t, file)
	require.NoError(t, err)
	require.Equal(t, 7*time.Millisecond, *f.FlushInterval)
	f, err = parse(t, file, "--flush-interval=9ms")
	require.NoError(t, err)
	require.Equal(t, 9*time.Millisecond, *f.FlushInterval)
}

func TestTheFileSaysEverythingInTheSameWords(t *testing.T) {
	c, err := resolve(t, `
addr: 1.2.3.4:5
bootstrap: ignored:1
advertised-addr: broker.example.com
http-addr: "off"
flush-bytes: 16777216
memory-limit: 1GiB
max-request-bytes: 64MB
auto-create-topics: false
num-partitions: 12
pprof: true
log-level: debug
log-format: json
broker-id: 7
rack: a
store: file:/x?latency=280ms
serve:
  addr: 1.2.3.4:6
  catalog: "memory:"
`)
	require.NoError(t, err)
	require.Equal(t, "default=1.2.3.4:6@broker.example.com:6", c.Listeners[0].String())
	require.Empty(t, c.HTTPAddr)
	require.EqualValues(t, 16<<20, c.FlushBytes)
	require.EqualValues(t, 64_000_000, c.MaxRequestBytes)
	require.EqualValues(t, 128<<20, c.CacheBytes)
	require.False(t, c.AutoCreateTopics)
	require.EqualValues(t, 12, c.NumPartitions)
	require.True(t, c.Pprof)
	require.True(t, c.LogJSON)
	require.Equal(t, slog.LevelDebug, c.LogLevel)
	require.EqualValues(t, 7, c.BrokerID)
	require.Equal(t, "file:/x?latency=280ms", c.Store.String())
	require.Equal(t, "memory:", c.Catalog.String())
	c, err = resolve(t, "listener: [a=127.0.0.1:1, b=127.0.0.1:2@h]\n")
	require.NoError(t, err)
	require.Len(t, c.Listeners, 2)
	c, err = resolve(t, "", "--listener", "a=127.0.0.1:1", "--listener", "b=127.0.0.1:2@h:9")
	require.NoError(t, err)
	require.Len(t, c.Listeners, 2)
}

func TestEnvironmentNamesFollowFromFlagNames(t *testing.T) {
	var c testCLI
	p, err := kong.New(&c)
	require.NoError(t, err)
	n := 0
	for _, cmd := range p.Model.Children {
		for _, flag := range cmd.Flags {
			want := "STREAMHOUSE_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
			require.Equal(t, []string{want}, flag.Envs, flag.Name)
			require.NotEmpty(t, flag.Help, flag.Name)
			require.NotNil(t, flag.Group, flag.Name)
			n++
		}
	}
	require.Equal(t, reflect.TypeFor[Flags]().NumField(), n)
}

func TestEverySettingCanComeFromTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"ADDR": ":1", "ADVERTISED_ADDR": "h", "HTTP_ADDR": ":2", "MEMORY_LIMIT": "256MiB", "PPROF": "true",
		"AUTO_CREATE_TOPICS": "false", "BROKER_ID": "3", "CATALOG": "memory:", "STORE": "memory:",
	} {
		t.Setenv("STREAMHOUSE_"+name, value)
	}
	c, err := resolve(t, "")
	require.NoError(t, err)
	require.Equal(t, "default=:1@h:1", c.Listeners[0].String())
	require.Equal(t, ":2", c.HTTPAddr)
	require.EqualValues(t, 32<<20, c.TailCacheBytes)
	require.True(t, c.Pprof)
	require.False(t, c.AutoCreateTopics)
}

func TestUnknownKeysOfTheFileAreErrors(t *testing.T) {
	for yaml, want := range map[string]string{
		"adr: x\n":                   `unknown key "adr"; did you mean "addr"?`,
		"serve:\n  flush_bytes: 1\n": `unknown key "serve.flush_bytes"; did you mean "flush-bytes"?`,
		"serve:\n  bootstrap: x\n":   "",
		"zzzzzzzzzzzz: 1\n":          "keys are the names of flags",
		"other:\n  addr: x\n":        `unknown key "other.addr"`,
		"server:\n  addr: x\n":       `unknown key "server"`,
		"- a list\n":                 "parse YAML",
		"a: [\n":                     "parse YAML",
	} {
		_, err := parse(t, yaml)
		if want == "" {
			require.NoError(t, err, yaml)
			continue
		}
		require.ErrorContains(t, err, want, yaml)
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	_, err := ReadFile(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte("a: ["), 0o600))
	_, err = ReadFile(path)
	require.ErrorContains(t, err, path)
	require.NoError(t, os.WriteFile(path, make([]byte, maxFileBytes+1), 0o600))
	_, err = ReadFile(path)
	require.ErrorContains(t, err, "larger than")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = ReadFile(path)
	require.NoError(t, err, "an empty file says nothing")
}

func TestBadSettings(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--addr=x", `--addr: address "x": want HOST:PORT`},
		{"--addr=127.0.0.1:99999", "port"},
		{"--addr=127.0.0.1:kafka", "port"},
		{"--addr=ho st:1", "not a host name"},
		{"--addr=" + strings.Repeat("a", 300) + ":1", "too long"},
		{"--advertised-addr=0.0.0.0:9092", "cannot be unspecified"},
		{"--advertised-addr=::", "cannot be unspecified"},
		{"--advertised-addr=a:b", "port"},
		{"--http-addr=8080", "--http-addr"},
		{"--catalog=postgres://u:secret@h", "want postgres://USER"},
		{"--catalog=postgres:u:secret@h/db", "want postgres://USER"},
		{"--catalog=postgresql://u:secret@h:port/db", "want postgres://USER"},
		{"--catalog=mysql:x", "want sqlite:PATH"},
		{"--catalog=sqlite:", "the path is missing"},
		{"--catalog=sqlite://host/x", "without //"},
		{"--store=s3://", "want s3://BUCKET"},
		{"--store=s3://key:secret@bucket", "credentials do not belong"},
		{"--store=/tmp", "want file:PATH"},
		{"--store=file:x?latency=fast", "want a duration"},
		{"--store=file:x?latency=1h", "want a duration"},
		{"--store=file:x?speed=1", `unknown option "speed"`},
		{"--store=file:x?%zz", "does not parse"},
		{"--flush-interval=-1ms", "--flush-interval"},
		{"--flush-interval=1h", "--flush-interval"},
		{"--flush-bytes=1", "--flush-bytes"},
		{"--flush-bytes=2GiB", "--flush-bytes"},
		{"--merge-interval=0s", "--merge-interval"},
		{"--object-grace=-1s", "--object-grace"},
		{"--num-partitions=0", "--num-partitions"},
		{"--max-connections=0", "--max-connections"},
		{"--max-connections-per-ip=0", "--max-connections-per-ip"},
		{"--max-request-bytes=1", "--max-request-bytes"},
		{"--memory-limit=1MiB", "--memory-limit"},
		{"--cache-bytes=1GiB", "raise the limit or lower them"},
		{"--broker-id=-2", "--broker-id"},
		{"--shutdown-timeout=0s", "--shutdown-timeout"},
		{"--max-partition-metrics=0", "--max-partition-metrics"},
		{"--tracing-endpoint=127.0.0.1:4318", "--tracing-endpoint"},
		{"--tracing-endpoint=grpc://user:secret@x:4317", "want http://HOST:PORT"},
		{"--tracing-endpoint=http://user:secret@x:1/%zz", "does not parse"},
		{"--tracing-endpoint=http://x:1?y=secret", "query"},
		{"--tracing-sample=1.1", "--tracing-sample"},
		{"--tracing-sample=-0.1", "--tracing-sample"},
		{"--tracing-sample=NaN", "--tracing-sample"},
		{"--listener=x", "want NAME=BIND@ADVERTISED"},
		{"--listener=a b=127.0.0.1:1", "letters, digits"},
		{"--listener==127.0.0.1:1", "the name must have"},
		{"--listener=a=1", "want HOST:PORT"},
		{"--listener=a=127.0.0.1:1@0.0.0.0:1", "cannot be unspecified"},
		{"--listener=a=127.0.0.1:1@x y", "not a host name"},
	} {
		f, err := parse(t, "", c.args)
		require.NoError(t, err, c.args)
		_, err = f.resolve(noInterfaces)
		require.ErrorContains(t, err, c.want, c.args)
		require.NotContains(t, err.Error(), "secret", "a password is not repeated")
	}
	for _, arg := range []string{"--flush-bytes=8MX", "--flush-bytes=-1", "--log-level=loud", "--flush-interval=5"} {
		_, err := parse(t, "", arg)
		require.Error(t, err, arg)
	}
	_, err := parse(t, "flush-bytes: 1.5\n")
	require.ErrorContains(t, err, "whole number")
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	f, err := parse(t, "", "--addr=x", "--catalog=y", "--flush-bytes=1")
	require.NoError(t, err)
	_, err = f.resolve(noInterfaces)
	require.ErrorContains(t, err, "--addr")
	require.ErrorContains(t, err, "--catalog")
	require.ErrorContains(t, err, "--flush-bytes")
}

func TestLocations(t *testing.T) {
	c, err := resolve(t, "", "--catalog=sqlite:///var/lib/c.db", "--store=file:")
	require.NoError(t, err)
	require.Equal(t, "/var/lib/c.db", c.Catalog.Path)
	require.Equal(t, filepath.Join(c.DataDir, "objects"), c.Store.Path)
	c, err = resolve(t, "", "--catalog=sqlite:c.db", "--store=memory:?latency=5ms", "--data-dir=/data")
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(c.Catalog.Path))
	require.Equal(t, Location{Kind: KindMemory, Latency: 5 * time.Millisecond}, c.Store)
	require.Equal(t, "/data", c.DataDir)
}

func TestSharedLocations(t *testing.T) {
	const cat, store = "postgres://u:secret@h:5432/d?sslmode=disable", "s3://bucket/some/prefix?endpoint=http://127.0.0.1:9000"
	c, err := resolve(t, "", "--catalog="+cat, "--store="+store)
	require.NoError(t, err)
	require.Equal(t, Location{Kind: KindPostgres, URL: cat}, c.Catalog)
	require.Equal(t, Location{Kind: KindS3, URL: store}, c.Store)
	require.NotContains(t, c.Catalog.String(), "secret")
	require.Contains(t, c.Catalog.String(), "postgres://u:")
	require.Equal(t, store, c.Store.String())
	require.Equal(t, 100*time.Millisecond, c.FlushInterval)
	require.Equal(t, time.Hour, c.ObjectGrace)
	require.False(t, c.AutoCreateTopics)
	c, err = resolve(t, "", "--catalog="+cat, "--store="+store, "--flush-interval=5ms", "--object-grace=1m", "--auto-create-topics")
	require.NoError(t, err)
	require.Equal(t, 5*time.Millisecond, c.FlushInterval)
	require.Equal(t, time.Minute, c.ObjectGrace)
	require.True(t, c.AutoCreateTopics)
}

func ipNet(s string) *net.IPNet {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	n.IP = ip
	return n
}

func TestAListenerNeverAdvertisesTheUnspecifiedAddress(t *testing.T) {
	all := func(addrs ...net.Addr) func() ([]net.Addr, error) {
		return func() ([]net.Addr, error) { return addrs, nil }
	}
	lo, link := ipNet("127.0.0.1/8"), ipNet("169.254.3.4/16")
	v4, v6 := ipNet("10.1.2.3/24"), ipNet("2001:db8::5/64")
	for _, c := range []struct {
		bind       string
		interfaces func() ([]net.Addr, error)
		want       string
	}{
		{"0.0.0.0:9092", all(lo, link, v6, v4), "10.1.2.3:9092"},
		{":9092", all(lo, v4), "10.1.2.3:9092"},
		{"[::]:9092", all(lo, link, v6), "[2001:db8::5]:9092"},
		{"[::ffff:0.0.0.0]:9092", all(v4), "10.1.2.3:9092"},
		{"0.0.0.0:9092", all(lo, link, &net.UnixAddr{}), ""},
		{"0.0.0.0:9092", func() ([]net.Addr, error) { return nil, errors.New("no netlink") }, ""},
		{"127.0.0.1:9092", all(), "127.0.0.1:9092"},
	} {
		f, err := parse(t, "", "--addr", c.bind)
		require.NoError(t, err)
		got, err := f.resolve(c.interfaces)
		if c.want == "" {
			require.ErrorContains(t, err, "give --advertised-addr HOST:PORT", c.bind)
			continue
		}
		require.NoError(t, err, c.bind)
		require.Equal(t, c.want, got.Listeners[0].Advertised.String(), c.bind)
		require.Equal(t, c.bind != "127.0.0.1:9092", got.Listeners[0].Guessed)
		require.False(t, got.Listeners[0].Advertised.Unspecified())
	}
}

func TestListenersMustDiffer(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"a=127.0.0.1:1", "a=127.0.0.1:2"}, "the name is used twice"},
		{[]string{"a=127.0.0.1:1", "b=127.0.0.1:1"}, "is bound by listener a already"},
		{[]string{"a=127.0.0.1:0", "b=127.0.0.1:0"}, ""},
	} {
		var args []string
		for _, a := range c.args {
			args = append(args, "--listener="+a)
		}
		_, err := resolve(t, "", args...)
		if c.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, c.want)
	}
	var many []string
	for range maxListeners + 1 {
		many = append(many, "--listener=a=127.0.0.1:0")
	}
	_, err := resolve(t, "", many...)
	require.ErrorContains(t, err, "at most")
}

func TestPortZeroTakesTheBoundPort(t *testing.T) {
	l, err := ParseListener("a=127.0.0.1:0@example.com")
	require.NoError(t, err)
	out, err := resolveListeners([]Listener{l}, noInterfaces)
	require.NoError(t, err)
	require.Equal(t, "a=127.0.0.1:41000@example.com:41000", out[0].WithBoundPort(41000).String())
	l, err = ParseListener("a=127.0.0.1:0@example.com:9")
	require.NoError(t, err)
	require.Equal(t, "a=127.0.0.1:41000@example.com:9", l.WithBoundPort(41000).String())
	l, err = ParseListener("a=[::1]:1@[2001:db8::1]")
	require.NoError(t, err)
	require.Equal(t, "a=[::1]:1@[2001:db8::1]:1", l.WithBoundPort(1).String())
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]Size{
		"0": 0, "1": 1, "1024": 1024, "8MiB": 8 * MiB, "64MB": 64_000_000, "1.5GiB": 1536 * MiB, "512k": 512_000,
		"2Ki": 2048, "3 KiB": 3072, "10B": 10,
	} {
		got, err := ParseSize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "-1", "x", "1XB", "1q", "9999999999999TiB", "0x10", "NaN", "9223372036854775808"} {
		_, err := ParseSize(in)
		require.Error(t, err, in)
	}
	for _, s := range []Size{0, 1, 1000, KiB, 3 * MiB, 5 * GiB, 1025} {
		text, err := s.MarshalText()
		require.NoError(t, err)
		back, err := ParseSize(string(text))
		require.NoError(t, err)
		require.Equal(t, s, back)
	}
}

func FuzzParseListener(f *testing.F) {
	f.Add("a=0.0.0.0:1@h:2")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseListener(s)
		if err != nil {
			return
		}
		out, err := resolveListeners([]Listener{l}, func() ([]net.Addr, error) {
			return []net.Addr{ipNet("10.1.2.3/24")}, nil
		})
		if err == nil && out[0].Advertised.Unspecified() {
			t.Fatalf("%q advertises %v", s, out[0].Advertised)
		}
	})
}

func FuzzParseSize(f *testing.F) {
	f.Add("8MiB")
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil && n < 0 {
			t.Fatalf("%q is %d", s, n)
		}
	})
}

func TestWithGroupDefaultsIsWhatKongSets(t *testing.T) {
	f, err := parse(t, "")
	require.NoError(t, err)
	require.Equal(t, f, f.WithGroupDefaults())
}
