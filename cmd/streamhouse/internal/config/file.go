package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	kongyaml "github.com/alecthomas/kong-yaml"
	"gopkg.in/yaml.v3"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 1 << 20

// ReadFile returns a resolver for the YAML file at path. Keys are flag names, at the top or under the name of a
// command, which wins:
//
//	addr: 0.0.0.0:9092
//	log-level: debug
//	serve:
//	  flush-interval: 5ms
func ReadFile(path string) (kong.Resolver, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read configuration file: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	body, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration file %s: %w", path, err)
	}
	if len(body) > maxFileBytes {
		return nil, fmt.Errorf("read configuration file %s: larger than %d bytes", path, maxFileBytes)
	}
	r, err := Resolver(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	return r, nil
}

// Resolver reads YAML and looks flags up in it. A flag whose environment variable is set is left alone, so that the
// environment wins. Keys that name no flag are errors when the command line is validated.
func Resolver(r io.Reader) (kong.Resolver, error) {
	body, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read YAML: %w", err)
	}
	keys := map[string]any{}
	if err := yaml.Unmarshal(body, &keys); err != nil {
		return nil, fmt.Errorf("parse YAML: %w", err)
	}
	inner, err := kongyaml.Loader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("parse YAML: %w", err)
	}
	return &fileResolver{inner: inner, keys: keys}, nil
}

type fileResolver struct {
	inner kong.Resolver
	keys  map[string]any
}

// Resolve implements kong.Resolver.
func (f *fileResolver) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil // how kong spells "not here"
		}
	}
	v, err := f.inner.Resolve(ctx, parent, flag)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", flag.Name, err)
	}
	if v != nil {
		return v, nil
	}
	v, err = f.inner.Resolve(ctx, &kong.Path{App: ctx.Model}, flag)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", flag.Name, err)
	}
	return v, nil
}

// Validate implements kong.Resolver: a key that means nothing is a mistake, not a comment.
func (f *fileResolver) Validate(app *kong.Application) error {
	all := map[string]bool{}
	var collect func(n *kong.Node)
	collect = func(n *kong.Node) {
		for _, flag := range n.Flags {
			all[flag.Name] = true
		}
		for _, c := range n.Children {
			collect(c)
		}
	}
	collect(app.Node)
	return errors.Join(unknownKeys(f.keys, "", app.Node, all)...)
}

// unknownKeys checks keys under node: flags of it, or, at the top, of any command; and commands below it.
func unknownKeys(keys map[string]any, at string, node *kong.Node, allowed map[string]bool) (errs []error) {
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if allowed[key] {
			continue
		}
		sub := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == key })
		inner, isMap := keys[key].(map[string]any)
		if sub >= 0 && isMap {
			child := node.Children[sub]
			flags := map[string]bool{}
			for n := child; n != nil; n = n.Parent {
				for _, flag := range n.Flags {
					flags[flag.Name] = true
				}
			}
			errs = append(errs, unknownKeys(inner, at+key+".", child, flags)...)
			continue
		}
		errs = append(errs, fmt.Errorf("configuration file: unknown key %q%s", at+key, suggestion(key, allowed)))
	}
	return errs
}

// suggestion names the known key that is most like the unknown one, where one is.
func suggestion(key string, known map[string]bool) string {
	norm := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", ".", "").Replace(strings.ToLower(s))
	}
	names := slices.Collect(maps.Keys(known))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(distance(norm(key), norm(a)), distance(norm(key), norm(b))), cmp.Compare(a, b))
	})
	if len(names) > 0 && distance(norm(key), norm(names[0])) <= 1+len(key)/5 {
		return fmt.Sprintf("; did you mean %q?", names[0])
	}
	return "; keys are the names of flags, without the dashes in front (see streamhouse serve --help)"
}

// distance is the number of single-character edits between two short strings.
func distance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j+1]+1, cur[j]+1, prev[j]+cost)
		}
		prev = cur
	}
	return prev[len(b)]
}
