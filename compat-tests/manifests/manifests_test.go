package manifests_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
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

func TestComposeLoadsTheDevelopmentStack(t *testing.T) {
	for _, profiles := range [][]string{nil, {"brokers"}} {
		options, err := cli.NewProjectOptions([]string{repository + "/docker-compose.dev.yml"},
			cli.WithWorkingDirectory(repository), cli.WithProfiles(profiles))
		require.NoError(t, err)
		project, err := options.LoadProject(t.Context())
		require.NoError(t, err)
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
