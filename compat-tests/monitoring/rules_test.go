package monitoring

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

// repository joins the path of a file of the repository.
func repository(path ...string) string {
	return filepath.Join(append([]string{client.Root(), ".."}, path...)...)
}

// tool is the path of a program that scripts/prometheus fetches.
func tool(t *testing.T, name string) string {
	t.Helper()
	path := repository(".tools", "bin", name)
	require.FileExists(t, path, "fetch it first: scripts/prometheus")
	return path
}

// run runs a tool, which must succeed, and returns what it said.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool(t, name), args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

type rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

type ruleGroup struct {
	Name, Interval string
	Rules          []rule
}

func ruleGroups(t *testing.T) []ruleGroup {
	t.Helper()
	var file struct{ Groups []ruleGroup }
	read(t, repository("prometheus", "alerts.yml"), &file)
	return file.Groups
}

func alerts(t *testing.T) (all []rule) {
	t.Helper()
	for _, g := range ruleGroups(t) {
		all = append(all, g.Rules...)
	}
	return all
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}

func TestPrometheusAndAlertmanagerAcceptTheirFiles(t *testing.T) {
	run(t, "promtool", "check", "config", repository("prometheus", "prometheus.yml"))
	run(t, "promtool", "check", "rules", "--lint=all", "--lint-fatal", repository("prometheus", "alerts.yml"))
	run(t, "amtool", "check-config", repository("prometheus", "alertmanager.yml"))
}

// TestTheAlertsAreThoseThatPeopleKnow: names, groups, severities and times are a contract; dashboards, silences and routes of
// users name them.
func TestTheAlertsAreThoseThatPeopleKnow(t *testing.T) {
	want := `consumer HighConsumerLag 5m warning
consumer CriticalConsumerLag 5m critical
consumer ConsumerLagGrowing 10m warning
consumer ConsumerStalled 10m warning
producer HighProducerErrorRate 5m warning
producer CriticalProducerErrorRate 2m critical
producer HighProducerLatency 5m warning
producer VeryHighProducerLatency 2m critical
producer ProducerThroughputDrop 10m warning
agent AgentDown 1m critical
agent AgentNotReady 5m warning
agent NoActivePartitions 5m warning
agent HighAgentKafkaErrors 5m warning
agent HighAgentWriteLatency 5m warning
system HighCPUUsage 10m warning
system HighMemoryUsage 5m warning
system DiskSpaceLow 5m critical
`
	var got strings.Builder
	for _, g := range ruleGroups(t) {
		require.Equal(t, "30s", g.Interval, g.Name)
		for _, r := range g.Rules {
			require.Equal(t, g.Name, r.Labels["component"], r.Alert)
			fmt.Fprintln(&got, g.Name, r.Alert, r.For, r.Labels["severity"])
		}
	}
	require.Equal(t, want, got.String())
}

func TestAnnotationsSayWhereAndWhatToDo(t *testing.T) {
	const pages = "https://github.com/streamhouse/streamhouse/blob/main/docs/runbooks/"
	documented := make(map[string]bool)
	for _, r := range alerts(t) {
		for _, name := range []string{"summary", "description"} {
			require.Contains(t, r.Annotations[name], "{{ $labels.", "%s of %s names nothing", name, r.Alert)
		}
		page, ok := strings.CutPrefix(r.Annotations["runbook_url"], pages)
		require.True(t, ok, r.Alert)
		require.Equal(t, r.Alert+".md", page)
		text, err := os.ReadFile(repository("docs", "runbooks", page))
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), "# "+r.Alert+"\n"), page)
		documented[page] = true
	}
	files, err := filepath.Glob(repository("docs", "runbooks", "*.md"))
	require.NoError(t, err)
	for _, f := range files {
		require.True(t, documented[filepath.Base(f)], "no alert leads to %s", f)
	}
}

var metricName = regexp.MustCompile(`\b(?:streamhouse|node)_[a-zA-Z_]+|\bup\b`)

// TestRulesAskForWhatIsExported: a misspelt metric is an alert that never fires.
func TestRulesAskForWhatIsExported(t *testing.T) {
	golden, err := os.ReadFile(repository("metrics", "testdata", "families.golden"))
	require.NoError(t, err)
	known := make(map[string]string) // name to type and labels
	for line := range strings.Lines(string(golden)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok, line)
		known[name] = rest
	}
	for _, r := range alerts(t) {
		names := metricName.FindAllString(r.Expr, -1)
		require.NotEmpty(t, names, r.Alert)
		for _, name := range names {
			if !strings.HasPrefix(name, "streamhouse_") {
				continue
			}
			base, bucket := strings.CutSuffix(name, "_bucket")
			require.Contains(t, known, base, r.Alert)
			require.Equal(t, bucket, strings.HasPrefix(known[base], "histogram"), "%s: %s", r.Alert, name)
		}
	}
}

type ruleTests struct {
	Tests []struct {
		Name          string
		InputSeries   []struct{ Series string } `yaml:"input_series"`
		AlertRuleTest []struct {
			Alertname string
			ExpAlerts []struct {
				Labels map[string]string `yaml:"exp_labels"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

// TestEachAlertFiresAndDoesNot: a case in which it fires, and one with samples of the same metrics in which it must not.
func TestEachAlertFiresAndDoesNot(t *testing.T) {
	files := testFiles(t)
	run(t, "promtool", append([]string{"test", "rules"}, files...)...)
	fires, silent := make(map[string]bool), make(map[string]bool)
	names := make(map[string]bool)
	exprs := make(map[string]string)
	for _, r := range alerts(t) {
		names[r.Alert], exprs[r.Alert] = true, r.Expr
	}
	for _, f := range files {
		var tests ruleTests
		read(t, f, &tests)
		for _, c := range tests.Tests {
			fired := false
			for _, a := range c.AlertRuleTest {
				require.True(t, names[a.Alertname], "%s: no alert %s: promtool would say that it does not fire", c.Name, a.Alertname)
				require.True(t, strings.HasPrefix(c.Name, a.Alertname+" "), c.Name)
				fired = fired || len(a.ExpAlerts) > 0
			}
			alert := c.AlertRuleTest[0].Alertname
			if fired {
				fires[alert] = true
				continue
			}
			silent[alert] = true
			for _, s := range c.InputSeries {
				metric, _, _ := strings.Cut(s.Series, "{")
				if metric == "node_memory_MemFree_bytes" { // there to be ignored
					continue
				}
				require.Contains(t, exprs[alert], metric, "%s: not what the rule looks at", c.Name)
			}
		}
	}
	require.Equal(t, names, fires, "alerts with a case in which they fire")
	require.Equal(t, names, silent, "alerts with a case in which they must not")
}

func testFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(repository("prometheus", "tests", "*.yml"))
	require.NoError(t, err)
	require.Len(t, files, len(ruleGroups(t)), "a file per group")
	return files
}

// TestTheCasesNotice breaks each rule in turn: promtool must fail for a rule that never fires, one without its wait, and one
// whose first threshold does not matter.
func TestTheCasesNotice(t *testing.T) {
	threshold := regexp.MustCompile(`(?s)^(.*?)(?:[<>]|==) ([0-9.]+)(.*)$`)
	for _, g := range ruleGroups(t) {
		for i, r := range g.Rules {
			t.Run(r.Alert, func(t *testing.T) {
				t.Parallel()
				broken := map[string]rule{}
				never, hasty, careless := r, r, r
				never.Expr = "(" + r.Expr + ") and on () vector(1) == 2"
				hasty.For = "0s"
				broken["never fires"], broken["does not wait"] = never, hasty
				m := threshold.FindStringSubmatch(r.Expr)
				require.NotNil(t, m, r.Expr)
				careless.Expr = m[1] + ">= 0" + m[3]
				broken["fires for anything"] = careless
				for what, rule := range broken {
					dir := t.TempDir()
					require.NoError(t, os.Mkdir(filepath.Join(dir, "tests"), 0o700))
					changed := g
					changed.Rules = slices.Clone(g.Rules)
					changed.Rules[i] = rule
					write(t, filepath.Join(dir, "alerts.yml"), map[string]any{"groups": []any{map[string]any{
						"name": changed.Name, "interval": changed.Interval, "rules": lower(changed.Rules),
					}}})
					cases, err := os.ReadFile(repository("prometheus", "tests", g.Name+".yml"))
					require.NoError(t, err)
					file := filepath.Join(dir, "tests", g.Name+".yml")
					require.NoError(t, os.WriteFile(file, cases, 0o600))
					out, err := exec.Command(tool(t, "promtool"), "test", "rules", file).CombinedOutput()
					require.Error(t, err, "no case notices that %s %s", r.Alert, what)
					require.Contains(t, string(out), r.Alert, what)
					require.NotContains(t, string(out), "could not parse", what)
				}
			})
		}
	}
}

// lower has the keys that Prometheus wants.
func lower(rules []rule) (all []any) {
	for _, r := range rules {
		all = append(all, map[string]any{"alert": r.Alert, "expr": r.Expr, "for": r.For, "labels": r.Labels, "annotations": r.Annotations})
	}
	return all
}

func write(t *testing.T, path string, what any) {
	t.Helper()
	text, err := yaml.Marshal(what)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o600))
}

// TestAlertsGoToWhoKnowsThem: by severity and by component.
func TestAlertsGoToWhoKnowsThem(t *testing.T) {
	for _, r := range alerts(t) {
		want := r.Labels["component"]
		if r.Labels["severity"] == "critical" {
			want = "on-call," + want
		}
		run(t, "amtool", "config", "routes", "test", "--config.file="+repository("prometheus", "alertmanager.yml"),
			"--verify.receivers="+want, "alertname="+r.Alert, "severity="+r.Labels["severity"], "component="+r.Labels["component"])
	}
	run(t, "amtool", "config", "routes", "test", "--config.file="+repository("prometheus", "alertmanager.yml"),
		"--verify.receivers=default", "alertname=SomebodyElses")
}
