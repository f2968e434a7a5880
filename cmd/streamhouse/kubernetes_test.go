package main

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// manifest is what the tests look at of any Kubernetes object. Unknown fields are somebody else's business.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name        string
		Annotations map[string]string
	}
	Resources  []string          // of a Kustomization
	Data       map[string]string // of a ConfigMap
	StringData map[string]string `yaml:"stringData"`
	Spec       struct {
		ServiceName              string    `yaml:"serviceName"`
		Selector                 yaml.Node // a map of labels, or one below matchLabels
		ClusterIP                string    `yaml:"clusterIP"`
		PublishNotReadyAddresses bool      `yaml:"publishNotReadyAddresses"`
		MaxUnavailable           int       `yaml:"maxUnavailable"`
		Ports                    []kubePort
		Template                 struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				ServiceAccountName            string `yaml:"serviceAccountName"`
				TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
				TopologySpreadConstraints     []struct {
					TopologyKey string `yaml:"topologyKey"`
				} `yaml:"topologySpreadConstraints"`
				Containers []kubeContainer
			}
		}
	}
}

type kubePort struct {
	Name          string
	Port          int
	TargetPort    string `yaml:"targetPort"`
	ContainerPort int    `yaml:"containerPort"`
}

type kubeContainer struct {
	Args    []string
	Env     []kubeEnv
	EnvFrom []struct {
		ConfigMapRef struct{ Name string } `yaml:"configMapRef"`
		SecretRef    struct{ Name string } `yaml:"secretRef"`
	} `yaml:"envFrom"`
	Ports          []kubePort
	ReadinessProbe kubeProbe `yaml:"readinessProbe"`
	LivenessProbe  kubeProbe `yaml:"livenessProbe"`
	Lifecycle      struct {
		PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
	}
	Resources struct{ Limits map[string]string }
}

type kubeEnv struct {
	Name      string
	Value     string
	ValueFrom struct {
		FieldRef struct {
			FieldPath string `yaml:"fieldPath"`
		} `yaml:"fieldRef"`
	} `yaml:"valueFrom"`
}

type kubeProbe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

const kubernetes = "../../deploy/kubernetes"

// manifests reads all files of the folder, by file name. Each holds one object.
func manifests(t *testing.T) map[string]manifest {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(kubernetes, "*.yaml"))
	require.NoError(t, err)
	all := make(map[string]manifest)
	for _, path := range paths {
		f, err := os.Open(path)
		require.NoError(t, err)
		dec := yaml.NewDecoder(f)
		var m manifest
		require.NoError(t, dec.Decode(&m), path)
		require.ErrorIs(t, dec.Decode(&manifest{}), io.EOF, path)
		require.NoError(t, f.Close())
		require.NotEmpty(t, m.Kind, path)
		require.NotEmpty(t, m.APIVersion, path)
		all[filepath.Base(path)] = m
	}
	return all
}

func TestKubernetesManifestsBelongTogether(t *testing.T) {
	all := manifests(t)
	listed := all["kustomization.yaml"].Resources
	for _, name := range listed {
		require.Contains(t, all, name)
	}
	for name := range all {
		if name != "kustomization.yaml" && name != "secret.example.yaml" {
			require.Contains(t, listed, name, "a manifest that nobody applies")
		}
	}
	set := all["statefulset.yaml"]
	pod := set.Spec.Template
	require.Equal(t, "StatefulSet", set.Kind)
	require.Equal(t, all["service-headless.yaml"].Metadata.Name, set.Spec.ServiceName)
	require.Equal(t, "None", all["service-headless.yaml"].Spec.ClusterIP)
	require.True(t, all["service-headless.yaml"].Spec.PublishNotReadyAddresses, "a broker names itself before it is ready")
	require.Equal(t, all["serviceaccount.yaml"].Metadata.Name, pod.Spec.ServiceAccountName)
	require.Contains(t, all["serviceaccount.yaml"].Metadata.Annotations, "eks.amazonaws.com/role-arn")
	require.Equal(t, 1, all["poddisruptionbudget.yaml"].Spec.MaxUnavailable)
	for _, name := range []string{"service.yaml", "service-headless.yaml", "poddisruptionbudget.yaml", "statefulset.yaml"} {
		var nested struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		node := all[name].Spec.Selector
		require.NoError(t, node.Decode(&nested))
		want := nested.MatchLabels
		if want == nil {
			require.NoError(t, node.Decode(&want))
		}
		require.NotEmpty(t, want, name)
		for k, v := range want {
			require.Equal(t, v, pod.Metadata.Labels[k], "%s selects the pods", name)
		}
	}
	var keys []string
	for _, c := range pod.Spec.TopologySpreadConstraints {
		keys = append(keys, c.TopologyKey)
	}
	require.Contains(t, keys, "topology.kubernetes.io/zone")
}

// TestKubernetesSettingsAreUnderstood: flags and variables are serve's, and with what Kubernetes fills in they are a broker.
func TestKubernetesSettingsAreUnderstood(t *testing.T) {
	all := manifests(t)
	pod := all["statefulset.yaml"].Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	c := pod.Containers[0]
	require.Equal(t, "serve", c.Args[0])
	envs, flags := known(t, "serve")
	for _, arg := range c.Args[1:] {
		flag, _, _ := strings.Cut(arg, "=")
		require.True(t, flags[flag], arg)
	}
	require.Equal(t, all["configmap.yaml"].Metadata.Name, c.EnvFrom[0].ConfigMapRef.Name)
	require.Equal(t, all["secret.example.yaml"].Metadata.Name, c.EnvFrom[1].SecretRef.Name)

	values := maps.Clone(all["configmap.yaml"].Data)
	maps.Copy(values, all["secret.example.yaml"].StringData)
	filled := map[string]string{ // by Kubernetes
		"metadata.name": "streamhouse-2", "metadata.namespace": "streamhouse",
		"metadata.labels['apps.kubernetes.io/pod-index']": "2", "metadata.labels['topology.kubernetes.io/zone']": "eu-central-1b",
	}
	reference := regexp.MustCompile(`\$\((\w+)\)`)
	for _, e := range c.Env { // in order: a reference sees what came before
		value := reference.ReplaceAllStringFunc(e.Value, func(ref string) string {
			name := reference.FindStringSubmatch(ref)[1]
			require.Contains(t, values, name)
			return values[name]
		})
		if path := e.ValueFrom.FieldRef.FieldPath; path != "" {
			require.Contains(t, filled, path)
			value = filled[path]
		}
		values[e.Name] = value
	}
	for name, value := range values {
		require.True(t, envs[name] || strings.HasPrefix(name, "POD_") || strings.HasPrefix(name, "AWS_"), "serve knows no %s", name)
		t.Setenv(name, value)
	}
	out := ok(t, "", "serve", "--check")
	require.Contains(t, out, "listener: inside=0.0.0.0:9092@streamhouse-2.streamhouse-brokers.streamhouse.svc:9092\n")
	require.Contains(t, out, "broker-id: 2\nrack: eu-central-1b\n")
	require.Contains(t, out, "http-addr: 0.0.0.0:8080\n")

	stop, err := time.ParseDuration(values["STREAMHOUSE_SHUTDOWN_TIMEOUT"])
	require.NoError(t, err)
	require.Greater(t, pod.TerminationGracePeriodSeconds, int(stop.Seconds())+c.Lifecycle.PreStop.Sleep.Seconds,
		"Kubernetes kills before the broker has handed over")
	require.Equal(t, "/ready", c.ReadinessProbe.HTTPGet.Path)
	require.Equal(t, "/health", c.LivenessProbe.HTTPGet.Path)
	ports := make(map[string]int)
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	require.Equal(t, map[string]int{"kafka": 9092, "http": 8080}, ports)
	for _, probe := range []kubeProbe{c.ReadinessProbe, c.LivenessProbe} {
		require.Contains(t, ports, probe.HTTPGet.Port)
	}
	for _, name := range []string{"service.yaml", "service-headless.yaml"} {
		require.True(t, slices.ContainsFunc(all[name].Spec.Ports, func(p kubePort) bool { return p.Port == ports["kafka"] }), name)
	}
	require.NotContains(t, all["configmap.yaml"].Data, "STREAMHOUSE_CATALOG", "it holds a password")
}
