package corpora_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// startKafka starts Apache Kafka, one KRaft node, from the jars its tools are
// run from. It advertises another address than it listens on, which is
// returned. It ends with the test.
func startKafka(t *testing.T, advertised string) (addr string) {
	t.Helper()
	ports := target.FreePorts(t, 2)
	dir := t.TempDir()
	properties := filepath.Join(dir, "server.properties")
	text := strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.bootstrap.servers=" + ports[1],
		"listeners=PLAINTEXT://" + ports[0] + ",CONTROLLER://" + ports[1],
		"advertised.listeners=PLAINTEXT://" + advertised + ",CONTROLLER://" + ports[1],
		"controller.listener.names=CONTROLLER",
		"log.dirs=" + filepath.Join(dir, "data"),
		"offsets.topic.replication.factor=1",
		"offsets.topic.num.partitions=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"transaction.state.log.num.partitions=1",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		"share.coordinator.state.topic.num.partitions=1",
		"group.initial.rebalance.delay.ms=0",
	}, "\n")
	require.NoError(t, os.WriteFile(properties, []byte(text), 0o600))
	java := func(args ...string) []string {
		return append([]string{"-Xmx512m", "-cp", filepath.Join(client.Installed(), "java", "libs", "*")}, args...)
	}
	out, err := exec.CommandContext(t.Context(), "java", java("kafka.tools.StorageTool", "format", "--standalone",
		"-t", "c3RyZWFtaG91c2UtcGVlcg", "-c", properties)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	log, err := os.Create(filepath.Join(dir, "kafka.log"))
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command("java", java("kafka.Kafka", properties)...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL) // nothing of it is kept
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", ports[0])
		if err == nil {
			require.NoError(t, c.Close())
			return ports[0]
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(log.Name())
			require.Fail(t, "Apache Kafka did not start", "%s", fmt.Sprintf("%.4000s", text))
		case <-tick.C:
		}
	}
}
