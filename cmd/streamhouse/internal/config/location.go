package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Kind says which implementation a [Location] names.
type Kind string

// The kinds.
const (
	KindSQLite   Kind = "sqlite"   // of catalogs: one process
	KindPostgres Kind = "postgres" // of catalogs: any number of brokers
	KindFile     Kind = "file"     // of stores
	KindS3       Kind = "s3"       // of stores
	KindMemory   Kind = "memory"   // of both; gone when the process ends
)

// Location is where a catalog or a store is.
type Location struct {
	Kind    Kind
	Path    string        // of sqlite and file: absolute
	URL     string        // of postgres and s3: as given; may hold a password
	Latency time.Duration // added to each call of a store, for measurements
}

// String writes it as it is given, without a password.
func (l Location) String() string {
	if l.URL != "" {
		u, err := url.Parse(l.URL)
		if err != nil {
			return string(l.Kind) + ":…"
		}
		return u.Redacted()
	}
	s := string(l.Kind) + ":" + l.Path
	if l.Latency > 0 {
		s += "?latency=" + l.Latency.String()
	}
	return s
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
		// The URL may carry a password: it is not repeated, also not by the parser's error.
		if u, err := url.Parse(s); err != nil || !strings.HasPrefix(rest, "//") || strings.Trim(u.Path, "/") == "" {
			return Location{}, errors.New("--catalog postgres://…: want postgres://USER:PASSWORD@HOST:PORT/DATABASE")
		}
		return Location{Kind: KindPostgres, URL: s}, nil
	}
	return Location{}, fmt.Errorf("--catalog %q: want sqlite:PATH or postgres://… (or memory: for tests)", s)
}

func parseStore(s, dataDir string) (Location, error) {
	if s == "" {
		return Location{Kind: KindFile, Path: filepath.Join(dataDir, "objects")}, nil
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if ok && scheme == "s3" {
		return parseS3(s)
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
	return Location{}, fmt.Errorf("--store %q: want file:PATH or s3://BUCKET/PREFIX (or memory: for tests)", s)
}

// parseS3 looks at the shape only; what the options mean is the store's business.
func parseS3(s string) (Location, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return Location{}, errors.New("--store s3://…: want s3://BUCKET/PREFIX?endpoint=URL&region=NAME, the prefix and the options as needed")
	case u.User != nil:
		return Location{}, errors.New("--store s3://…: credentials do not belong into the URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile or a role")
	}
	return Location{Kind: KindS3, URL: s}, nil
}

// checkTogether refuses pairs that would lose data or could not work.
func checkTogether(cat, store Location) (errs []error) {
	if cat.Kind == KindPostgres && store.Kind == KindMemory {
		errs = append(errs, errors.New("--catalog postgres://… with --store memory: the catalog would outlive the log it describes; use s3://… or file:PATH"))
	}
	return errs
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
