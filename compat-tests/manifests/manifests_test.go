package manifests_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const repository = "../.."

// decoder knows the kinds of object that are used, and refuses unknown fields.
func decoder(t *testing.T) runtime.Decoder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}

// objects decodes all documents of a file, as an API server with strict field validation does.
func objects(t *testing.T, path string) (all []runtime.Object) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	decoder := decoder(t)
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer documents.Close()
	buf := make([]byte, len(text)+1)
	for {
		n, err := documents.Read(buf)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		object, _, err := decoder.Decode(buf[:n], nil, nil)
		require.NoError(t, err, path)
		all = append(all, object)
	}
}

func TestKubernetesKnowsEveryField(t *testing.T) {
	files, err := filepath.Glob(repository + "/deploy/kubernetes/*.yaml")
	require.NoError(t, err)
	files = slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) == "kustomization.yaml" })
	require.NotEmpty(t, files)
	var set *appsv1.StatefulSet
	services := map[string]*corev1.Service{}
	for _, f := range files {
		for _, o := range objects(t, f) {
			switch o := o.(type) {
			case *appsv1.StatefulSet:
				set = o
			case *corev1.Service:
				services[o.Name] = o
			}
		}
	}
	require.NotNil(t, set)
	require.Contains(t, services, set.Spec.ServiceName, "the StatefulSet's governing service")
	labels := set.Spec.Template.Labels
	require.Subset(t, labels, set.Spec.Selector.MatchLabels)
	for name, s := range services {
		require.NotEmpty(t, s.Spec.Selector, name)
		require.Subset(t, labels, s.Spec.Selector, "service %s selects no pod", name)
	}
}

func TestAnUnknownFieldIsFound(t *testing.T) {
	text, err := os.ReadFile(repository + "/deploy/kubernetes/service.yaml")
	require.NoError(t, err)
	_, _, err = decoder(t).Decode(append(text, "\n  nonsense: 1\n"...), nil, nil)
	require.ErrorContains(t, err, "nonsense")
}

// load reads the development stack as Compose does.
func load(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{repository + "/docker-compose.dev.yml"},
		cli.WithWorkingDirectory(repository), cli.WithProfiles(profiles))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

// TestPlainUpRunsWhatABrokerOnTheHostUses: without a profile, six services.
func TestPlainUpRunsWhatABrokerOnTheHostUses(t *testing.T) {
	names := load(t).ServiceNames()
	slices.Sort(names)
	require.Equal(t, []string{"alertmanager", "grafana", "minio", "node-exporter", "postgres", "prometheus"}, names)
}

func TestServicesOfTheDevelopmentStack(t *testing.T) {
	project := load(t, "brokers", "tracing")
	pinned := regexp.MustCompile(`:[A-Za-z.]*[0-9]+[.-][0-9]+[.-]`)
	published := make(map[string]string)
	for name, s := range project.Services {
		if s.Build == nil {
			require.Regexp(t, pinned, s.Image, "%s: not a version", name)
		}
		require.NotNil(t, s.HealthCheck, name)
		for dependency, d := range s.DependsOn {
			require.Equal(t, types.ServiceConditionHealthy, d.Condition, "%s needs %s", name, dependency)
		}
		require.NotEmpty(t, s.Ports, name)
		for _, p := range s.Ports {
			require.NotContains(t, published, p.Published, "%s takes the port of %s", name, published[p.Published])
			published[p.Published] = name
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				_, err := os.Stat(v.Source)
				require.NoError(t, err, "%s mounts what is not there", name)
			} else {
				require.Contains(t, project.Volumes, v.Source, name)
			}
		}
	}
	for _, port := range []string{"5432", "9000", "9001", "9090", "3000", "9093", "9100", "9092", "19092", "29092", "8080", "8081", "8082", "4318", "16686"} {
		require.Contains(t, published, port)
	}
	require.Len(t, published, 15)
}

// TestTargetsAreServices: what Prometheus is told to scrape is a service with that port, or the host.
func TestTargetsAreServices(t *testing.T) {
	project := load(t, "brokers")
	ports := map[string]uint32{"minio:9000": 9000, "node-exporter:9100": 9100, "alertmanager:9093": 9093}
	files, err := filepath.Glob(repository + "/prometheus/targets/*.yml")
	require.NoError(t, err)
	seen := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`targets: \[(.*)\]`).FindAllStringSubmatch(string(text), -1) {
			seen++
			if m[1] == "host.docker.internal:8080" || m[1] == "localhost:9090" { // a broker, and Prometheus itself
				continue
			}
			name, _, _ := strings.Cut(m[1], ":")
			service, ok := project.Services[name]
			require.True(t, ok, "%s: no service %s", f, name)
			require.True(t, slices.ContainsFunc(service.Ports, func(p types.ServicePortConfig) bool { return p.Target == ports[m[1]] }), m[1])
		}
	}
	require.Equal(t, 5, seen)
}

// TestEveryVariableIsDefinedAndUsed: of .env.dev, by the containers, by scripts/dev-setup.sh or by a broker (STREAMHOUSE_ and AWS_, of
// which cmd/streamhouse checks the former). What an image reads by itself is listed here.
func TestEveryVariableIsDefinedAndUsed(t *testing.T) {
	images := map[string]string{
		"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "postgres", "POSTGRES_DB": "postgres",
		"MINIO_ROOT_USER": "minio", "MINIO_ROOT_PASSWORD": "minio", "MINIO_PROMETHEUS_AUTH_TYPE": "minio", "MC_HOST_myminio": "minio",
		"GF_SECURITY_ADMIN_USER": "grafana", "GF_SECURITY_ADMIN_PASSWORD": "grafana",
	}
	text := func(path string) string {
		b, err := os.ReadFile(filepath.Join(repository, path))
		require.NoError(t, err)
		return string(b)
	}
	defined := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^export ([A-Za-z_]+)=`).FindAllStringSubmatch(text(".env.dev"), -1) {
		defined[m[1]] = true
	}
	compose, setup := text("docker-compose.dev.yml"), text("scripts/dev-setup.sh")
	source := text("grafana/provisioning/datasources/streamhouse.yml")
	project := load(t, "brokers")
	for name := range defined {
		if service := images[name]; service != "" {
			require.Contains(t, project.Services, service)
			require.Contains(t, project.Services[service].Environment, name, "it does not get what its image reads")
			continue
		}
		used := regexp.MustCompile(`\$\{?` + name + `\b`)
		require.True(t, strings.HasPrefix(name, "STREAMHOUSE_") || strings.HasPrefix(name, "AWS_") ||
			used.MatchString(compose) || used.MatchString(setup) || used.MatchString(source), "nobody uses %s", name)
	}
	for name := range images {
		require.True(t, defined[name], name)
	}
	for _, m := range regexp.MustCompile(`\$\$\{?([A-Za-z_]+)`).FindAllStringSubmatch(compose, -1) {
		require.True(t, defined[m[1]], "a container uses %s, which is not defined", m[1])
	}
	require.NotRegexp(t, regexp.MustCompile(`[^$]\$\{?[A-Za-z]`), compose, "Compose would take it from the shell of whoever starts it")
	for _, m := range regexp.MustCompile(`\$\{?((?:POSTGRES|MINIO|GF|STREAMHOUSE|AWS|[A-Z_]+_URL)\b[A-Z_]*)`).FindAllStringSubmatch(setup, -1) {
		require.True(t, defined[m[1]], "dev-setup.sh uses %s, which is not defined", m[1])
	}
}

func TestComposeLoadsTheDevelopmentStack(t *testing.T) {
	for _, profiles := range [][]string{nil, {"brokers"}} {
		project := load(t, profiles...)
		names := project.ServiceNames()
		require.Subset(t, names, []string{"postgres", "minio"})
		brokers := 0
		for _, s := range project.Services {
			require.NotEmpty(t, s.Image+s.Name)
			for dependency := range s.DependsOn {
				require.Contains(t, names, dependency, s.Name)
			}
			if s.Build != nil {
				brokers++
				require.FileExists(t, filepath.Join(s.Build.Context, s.Build.Dockerfile))
			}
		}
		if profiles == nil {
			require.Zero(t, brokers)
		} else {
			require.Equal(t, 3, brokers)
		}
	}
}
