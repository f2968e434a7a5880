package examples_test

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// build builds the examples and returns where they are.
func build(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "./examples/...")
	cmd.Dir = filepath.Join(client.Root(), "..")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

// run runs an example and returns its exit code and what it printed.
func run(t *testing.T, bin, name string, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	if _, failed := errors.AsType[*exec.ExitError](err); !failed {
		require.NoError(t, err)
	}
	require.NoError(t, ctx.Err(), b.String())
	return cmd.ProcessState.ExitCode(), b.String()
}

func TestExamplesSucceed(t *testing.T) {
	bin, b := build(t), target.Start(t)
	http := "http://" + b.HTTP()
	for _, tc := range []struct {
		name, says string
		args       []string
	}{
		{"e2e_producer_consumer", "each once, all as they were sent", []string{"--records", "5000"}},
		{"e2e_offset_tracking", "the rest read and committed", []string{"--http", http}},
		{"complete_demo", "every acknowledged record was read, no lag is left", []string{"--duration", "12s", "--rate", "1000"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for range 2 { // what an earlier run left does not matter
				code, out := run(t, bin, tc.name, append([]string{"--bootstrap", b.Bootstrap}, tc.args...)...)
				require.Zero(t, code, out)
				require.Contains(t, out, tc.says)
				if tc.name == "complete_demo" {
					return // it takes long
				}
			}
		})
	}
}

// TestExamplesFail: nobody answers, acknowledged records are lost, or a lag is told nowhere.
func TestExamplesFail(t *testing.T) {
	bin := build(t)
	for _, name := range []string{"e2e_producer_consumer", "e2e_offset_tracking"} {
		code, out := run(t, bin, name, "--bootstrap", "127.0.0.1:1", "--timeout", "2s")
		require.Equal(t, 1, code, out)
		require.Contains(t, out, name+": ")
	}
	lossy, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	defer lossy.Close()
	lossy.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		lossy.KeepControl()
		produce := req.(*kmsg.ProduceRequest)
		resp := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range produce.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition = p.Partition
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	code, out := run(t, bin, "e2e_producer_consumer", "--bootstrap", lossy.ListenAddrs()[0], "--records", "100", "--timeout", "5s")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "100 of 100 records did not come")

	b, other := target.Start(t), target.Start(t)
	code, out = run(t, bin, "e2e_offset_tracking", "--bootstrap", b.Bootstrap, "--http", "http://"+other.HTTP(), "--timeout", "20s")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "JSON -1, metrics -1")
}
