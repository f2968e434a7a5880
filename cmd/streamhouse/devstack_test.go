package main

import (
	"maps"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// repository is where the files are that deployments are made of.
var repository = filepath.Join("..", "..")

// known are the environment variables and flags that a command of the binary has.
func known(t *testing.T, command string) (envs, flags map[string]bool) {
	t.Helper()
	p, err := newParser(&cli{}, nil, nil)
	require.NoError(t, err)
	envs, flags = make(map[string]bool), make(map[string]bool)
	for _, leaf := range p.Model.Leaves(true) {
		if strings.TrimPrefix(leaf.FullPath(), "streamhouse ") != command {
			continue
		}
		for _, group := range leaf.AllFlags(true) {
			for _, f := range group {
				flags["--"+f.Name] = true
				for _, e := range f.Envs {
					envs[e] = true
				}
			}
		}
	}
	require.NotEmpty(t, flags, command)
	return envs, flags
}

// sourced reads an environment file as engines do, and checks that a shell reads the same.
func sourced(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	vars := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		require.True(t, ok && strings.HasPrefix(line, "export "), line)
		if quoted, ok := strings.CutPrefix(value, "'"); ok {
			value = strings.TrimSuffix(quoted, "'")
		}
		require.NotContains(t, value, "$", "engines and shells expand differently")
		vars[name] = value
	}
	cmd := osexec.CommandContext(t.Context(), "bash", "-c", `source "$0" && env -0`, path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	require.NoError(t, err)
	shell := make(map[string]string)
	for kv := range strings.SplitSeq(string(out), "\x00") {
		name, value, _ := strings.Cut(kv, "=")
		shell[name] = value
	}
	for name, value := range vars {
		require.Equal(t, value, shell[name], name)
	}
	return vars
}

type composeFile struct {
	Name     string
	Services map[string]composeService
	Volumes  map[string]any
}

type composeService struct {
	Image         string
	Build         string
	ContainerName string   `yaml:"container_name"`
	EnvFile       []string `yaml:"env_file"`
	Environment   map[string]string
	Entrypoint    []string
	Command       []string
	Ports         []string
	Profiles      []string
	Volumes       []string
	ExtraHosts    []string                              `yaml:"extra_hosts"`
	DependsOn     map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck   struct {
		Test []string
	}
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docker-compose.dev.yml"))
	require.NoError(t, err)
	var c composeFile
	require.NoError(t, yaml.Unmarshal(text, &c))
	return c
}

// TestTheDevelopmentStackIsWhatItShouldBe: names, users, ports, bucket, and one environment file for all.
func TestTheDevelopmentStackIsWhatItShouldBe(t *testing.T) {
	env := sourced(t, filepath.Join(repository, ".env.dev"))
	c := readCompose(t)
	for name, s := range c.Services {
		require.Equal(t, []string{".env.dev"}, s.EnvFile, "%s reads what the host sources", name)
		require.NotEmpty(t, s.Healthcheck.Test, name)
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(volume, ".") || strings.HasPrefix(volume, "/") {
				require.True(t, strings.HasSuffix(v, ":ro"), "%s may change %s", name, volume)
				continue
			}
			require.Contains(t, c.Volumes, volume, name)
		}
	}

	pg := c.Services["postgres"]
	require.Equal(t, "streamhouse-postgres", pg.ContainerName)
	require.Empty(t, pg.Profiles)
	require.Contains(t, pg.Ports, "5432:5432")
	require.Contains(t, strings.Join(pg.Healthcheck.Test, " "), "pg_isready -q -h 127.0.0.1 ",
		"the server that makes the database, the first time, listens on the socket alone, and ends again")
	require.Equal(t, "streamhouse", env["POSTGRES_USER"])
	require.Equal(t, "streamhouse_metadata", env["POSTGRES_DB"])
	u, err := url.Parse(env["STREAMHOUSE_CATALOG"])
	require.NoError(t, err)
	password, _ := u.User.Password()
	require.Equal(t, []string{"postgres", env["POSTGRES_USER"], env["POSTGRES_PASSWORD"], "localhost:5432", "/" + env["POSTGRES_DB"]},
		[]string{u.Scheme, u.User.Username(), password, u.Host, u.Path})

	minio := c.Services["minio"]
	require.Equal(t, "streamhouse-minio", minio.ContainerName)
	require.Empty(t, minio.Profiles)
	require.Contains(t, minio.Ports, "9000:9000")
	require.Equal(t, "minioadmin", env["MINIO_ROOT_USER"])
	require.Equal(t, "minioadmin", env["MINIO_ROOT_PASSWORD"])
	require.Equal(t, "http://minioadmin:minioadmin@localhost:9000", env["MC_HOST_myminio"], "mc's alias in the container")
	script := strings.Join(minio.Entrypoint, "\n")
	require.Contains(t, script, "mc mb --quiet --ignore-existing myminio/streamhouse-data")
	require.NotContains(t, script, "anonymous", "the bucket is private")
	require.Equal(t, []string{env["MINIO_ROOT_USER"], env["MINIO_ROOT_PASSWORD"]}, []string{env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]})
	require.True(t, strings.HasPrefix(env["STREAMHOUSE_STORE"], "s3://streamhouse-data?endpoint=http://localhost:9000&"))

	for name, port := range map[string]string{"prometheus": "9090", "alertmanager": "9093", "node-exporter": "9100", "grafana": "3000"} {
		s := c.Services[name]
		require.Equal(t, "streamhouse-"+name, s.ContainerName)
		require.Empty(t, s.Profiles, name)
		require.Equal(t, []string{port + ":" + port}, s.Ports, name)
		require.Equal(t, "http://localhost:"+port, env[strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"_URL"])
		require.Contains(t, strings.Join(s.Healthcheck.Test, " "), "http://localhost:"+port+"/", name)
	}
	require.Equal(t, "service_healthy", c.Services["grafana"].DependsOn["prometheus"].Condition)
	require.Equal(t, "service_healthy", c.Services["prometheus"].DependsOn["alertmanager"].Condition)
	require.Contains(t, c.Services["prometheus"].ExtraHosts, "host.docker.internal:host-gateway", "a broker on the host is scraped")
	require.Equal(t, []string{"admin", "admin"}, []string{env["GF_SECURITY_ADMIN_USER"], env["GF_SECURITY_ADMIN_PASSWORD"]})
	require.Equal(t, "http://prometheus:9090", c.Services["grafana"].Environment["PROMETHEUS_URL"])
	require.Equal(t, "public", env["MINIO_PROMETHEUS_AUTH_TYPE"], "Prometheus has no token")

	require.Equal(t, "0.0.0.0:9092", env["STREAMHOUSE_ADDR"])
	require.Equal(t, "localhost:9092", env["STREAMHOUSE_ADVERTISED_ADDR"])
	ports := map[string][]string{"broker-1": {"9092:9092", "8080:8080"}, "broker-2": {"19092:19092", "8081:8080"}, "broker-3": {"29092:29092", "8082:8080"}}
	brokers := slices.DeleteFunc(slices.Sorted(maps.Keys(c.Services)), func(name string) bool { return ports[name] == nil })
	require.Len(t, brokers, 3)
	require.Equal(t, []string{"tracing"}, c.Services["jaeger"].Profiles)
	require.Len(t, c.Services, 10)
	for _, name := range brokers {
		s := c.Services[name]
		require.Equal(t, []string{"brokers"}, s.Profiles, name)
		require.Equal(t, ports[name], s.Ports, name)
		require.Equal(t, ".", s.Build, name)
		require.Equal(t, "service_healthy", s.DependsOn["postgres"].Condition, name)
		require.Equal(t, "service_healthy", s.DependsOn["minio"].Condition, name)
	}
}

// TestTheDevelopmentStackIsUnderstood: every variable is one that serve knows, and what they come to is a broker.
func TestTheDevelopmentStackIsUnderstood(t *testing.T) {
	env := sourced(t, filepath.Join(repository, ".env.dev"))
	envs, _ := known(t, "serve")
	check := func(what string, all ...map[string]string) string {
		t.Helper()
		out := ""
		t.Run(what, func(t *testing.T) {
			for _, vars := range all {
				for name, value := range vars {
					if strings.HasPrefix(name, "STREAMHOUSE_") {
						require.True(t, envs[name], "serve knows no %s", name)
						t.Setenv(name, value)
					}
				}
			}
			out = ok(t, "", "serve", "--check")
		})
		return out
	}
	out := check("host", env)
	require.Contains(t, out, "listener: default=0.0.0.0:9092@localhost:9092\n")
	require.Contains(t, out, "http-addr: 0.0.0.0:8080\n")
	require.Contains(t, out, "flush-interval: 5ms\n")
	require.Contains(t, out, "auto-create-topics: true\n")
	require.NotContains(t, out, "streamhouse:streamhouse@", "passwords are not shown")

	ids := make(map[string]bool)
	_, flags := known(t, "topic list")
	for name, s := range readCompose(t).Services {
		if !strings.HasPrefix(name, "broker-") {
			continue
		}
		out := check(name, env, s.Environment)
		_, port, _ := strings.Cut(s.Ports[0], ":")
		require.Contains(t, out, "listener: outside=0.0.0.0:"+port+"@localhost:"+port+"\n")
		require.Contains(t, out, "listener: inside=0.0.0.0:9094@"+name+":9094\n")
		require.Contains(t, out, "@postgres:5432/streamhouse_metadata")
		require.Contains(t, out, "endpoint=http://minio:9000")
		ids[s.Environment["STREAMHOUSE_BROKER_ID"]+s.Environment["STREAMHOUSE_RACK"]] = true
		for _, arg := range s.Healthcheck.Test {
			if flag, _, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(flag, "--") {
				require.True(t, flags[flag], flag)
			}
		}
	}
	require.Equal(t, map[string]bool{"1a": true, "2b": true, "3c": true}, ids)
}

// TestScriptsCountTheirStepsEverywhere: also where date knows no nanoseconds and bash no clock, as on a Mac, where no step was counted
// and all was said to be well.
func TestScriptsCountTheirStepsEverywhere(t *testing.T) {
	shim := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(shim, "date"), []byte("#!/bin/sh\necho 1764000000N | cut -c1-$((10 + $(echo \"$1\" | grep -c N)))\n"), 0o700))
	run := func(steps string) (string, int) {
		cmd := osexec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail\nsource scripts/lib/pipeline.sh\nwork=$0\n"+steps+"\nend", t.TempDir())
		cmd.Dir = repository
		cmd.Env = []string{"PATH=" + shim + ":" + os.Getenv("PATH"), "STREAMHOUSE_ADVERTISED_ADDR=localhost:1", "STREAMHOUSE_HTTP_ADDR=localhost:1"}
		out, _ := cmd.CombinedOutput() // how it ended is looked at
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, clock := range []string{"", "unset EPOCHREALTIME\n"} {
		out, code := run(clock + "step good true\nstep bad false")
		require.Regexp(t, `(?m)^  ok    good \(0\.\d{3} s\)$`, out)
		require.Regexp(t, `(?m)^  FAIL  bad \(0\.\d{3} s\)$`, out)
		require.Contains(t, out, "\n1 passed, 1 failed (")
		require.Equal(t, 1, code)
		out, code = run(clock + "step good true")
		require.Contains(t, out, "\n1 passed, 0 failed (")
		require.Zero(t, code)
	}
	out, code := run("")
	require.Contains(t, out, "0 passed, 0 failed")
	require.Equal(t, 2, code, "nothing was tried")
}
