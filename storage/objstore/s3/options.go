package s3

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Options say where the objects are and how to speak to the server. Bucket is required. Zero fields have the defaults
// named. Credentials are not among them: they come from the SDK's default chain (environment, shared files, web
// identity, container or instance role) and are renewed by it.
type Options struct {
	Bucket string
	// Prefix is put before every key, with a slash between. Others may use the rest of the bucket.
	Prefix string
	// Region is the bucket's. The SDK's chain is asked if it is empty, and us-east-1 assumed with an Endpoint.
	Region string
	// Endpoint is the URL of a server other than AWS: http or https, host, port.
	Endpoint string
	// PathStyle puts the bucket into the path instead of the host name.
	PathStyle bool
	// Profile of the shared AWS configuration files.
	Profile string
	// CAFile holds PEM certificates to trust instead of the system's (AWS_CA_BUNDLE).
	CAFile string
	// SignedPayload makes the SHA-256 of each body a part of the request's signature. It costs a pass over the body.
	SignedPayload bool
	// HTTP2 allows it. HTTP/1.1 is the default: with S3, many connections are faster than one.
	HTTP2 bool
	// ReadOnly refuses Put and Delete with ErrReadOnly, and Open asks for no conditional PUT.
	ReadOnly bool

	// MaxConnections bounds the requests under way at once (64). Calls beyond it wait.
	MaxConnections int
	// StallTimeout ends an attempt in which no byte moved for so long (10 s).
	StallTimeout time.Duration
	// MinRate is the least speed of an attempt as a whole, in bytes per second (256 KiB/s): it may take StallTimeout
	// plus its size at this speed.
	MinRate int64
	// RetryFor is how long after a call's start another attempt may begin (15 s).
	RetryFor time.Duration
	// NoHedge turns the second GET off.
	NoHedge bool

	// Version is told to the server in the User-Agent.
	Version string
	Hooks   Hooks
}

func (o Options) withDefaults() Options {
	if o.MaxConnections <= 0 {
		o.MaxConnections = 64
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = 10 * time.Second
	}
	if o.MinRate <= 0 {
		o.MinRate = 256 << 10
	}
	if o.RetryFor <= 0 {
		o.RetryFor = 15 * time.Second
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.CAFile == "" {
		o.CAFile = os.Getenv("AWS_CA_BUNDLE")
	}
	if o.Region == "" && o.Endpoint != "" {
		o.Region = "us-east-1"
	}
	return o
}

// String is the URL of the options, as [ParseURL] takes it.
func (o Options) String() string {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("region", o.Region)
	set("endpoint", o.Endpoint)
	set("profile", o.Profile)
	set("ca_file", o.CAFile)
	if o.PathStyle != (o.Endpoint != "") {
		q.Set("path_style", strconv.FormatBool(o.PathStyle))
	}
	for name, value := range map[string]bool{"signed_payload": o.SignedPayload, "http2": o.HTTP2} {
		if value {
			q.Set(name, "true")
		}
	}
	if o.MaxConnections > 0 {
		q.Set("max_connections", strconv.Itoa(o.MaxConnections))
	}
	u := url.URL{Scheme: "s3", Host: o.Bucket, RawQuery: q.Encode()}
	if o.Prefix != "" {
		u.Path = "/" + o.Prefix
	}
	return u.String()
}

// maxPrefixBytes leaves room for the longest key in the 1,024 bytes that S3 allows.
const maxPrefixBytes = 1024 - objstore.MaxKeyBytes - 1

func (o Options) validate() error {
	if err := validateBucket(o.Bucket); err != nil {
		return err
	}
	if o.Prefix != "" {
		if len(o.Prefix) > maxPrefixBytes {
			return fmt.Errorf("the prefix is %d bytes long, at most %d are allowed", len(o.Prefix), maxPrefixBytes)
		}
		if err := objstore.ValidateKey(o.Prefix); err != nil {
			return fmt.Errorf("the prefix must be made like an object key: %w", err)
		}
	}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		switch {
		case err != nil:
			return errors.New("the endpoint is not a URL such as http://127.0.0.1:9000")
		case u.User != nil:
			return errCredentials
		case (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
			return errors.New("the endpoint must be http:// or https://, a host and perhaps a port, and nothing else")
		}
	}
	return nil
}

func validateBucket(name string) error {
	if len(name) < 3 || len(name) > 63 {
		return fmt.Errorf("the bucket's name must have 3 to 63 characters, it has %d", len(name))
	}
	for i := range len(name) {
		c := name[i]
		edge := i == 0 || i == len(name)-1
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (edge || (c != '-' && c != '.')) {
			return fmt.Errorf("the bucket's name %q has characters other than a-z 0-9 - . or an edge that is not a letter or digit", name)
		}
	}
	return nil
}

var errCredentials = errors.New("credentials do not belong into a URL, which ends up in logs and process lists: " +
	"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role instead")

// parameters of a URL, with how each is read.
var parameters = map[string]func(o *Options, value string) error{
	"region":          func(o *Options, v string) error { o.Region = v; return nil },
	"endpoint":        func(o *Options, v string) error { o.Endpoint = strings.TrimSuffix(v, "/"); return nil },
	"profile":         func(o *Options, v string) error { o.Profile = v; return nil },
	"ca_file":         func(o *Options, v string) error { o.CAFile = v; return nil },
	"path_style":      func(o *Options, v string) error { return setBool(&o.PathStyle, v) },
	"signed_payload":  func(o *Options, v string) error { return setBool(&o.SignedPayload, v) },
	"http2":           func(o *Options, v string) error { return setBool(&o.HTTP2, v) },
	"max_connections": func(o *Options, v string) error { return setCount(&o.MaxConnections, v) },
	"stall_timeout":   func(o *Options, v string) error { return setDuration(&o.StallTimeout, v) },
	"retry_for":       func(o *Options, v string) error { return setDuration(&o.RetryFor, v) },
}

func setBool(to *bool, v string) error {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return errors.New("it must be true or false")
	}
	*to = b
	return nil
}

func setCount(to *int, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 10_000 {
		return errors.New("it must be a number from 1 to 10000")
	}
	*to = n
	return nil
}

func setDuration(to *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Millisecond || d > time.Hour {
		return errors.New("it must be a time from 1ms to 1h, such as 10s")
	}
	*to = d
	return nil
}

// secrets are parameters other programs take.
var secrets = []string{
	"access_key", "access_key_id", "secret", "secret_key", "secret_access_key", "session_token", "token", "password",
	"aws_access_key_id", "aws_secret_access_key", "aws_session_token",
}

// ParseURL reads s3://BUCKET/PREFIX?PARAMETER=VALUE&…, with the parameters region, endpoint, path_style (true with an
// endpoint, else false), profile, ca_file, signed_payload, http2, max_connections, stall_timeout and retry_for. Anything
// else is refused, credentials above all. Errors do not repeat values.
func ParseURL(s string) (Options, error) {
	o, err := parseURL(s)
	if err != nil {
		return Options{}, fmt.Errorf("parse object store URL: %w", err)
	}
	return o, nil
}

func parseURL(s string) (Options, error) {
	u, err := url.Parse(s)
	if err != nil { // its text repeats the URL, with what should not be in it
		return Options{}, errors.New("it is not a URL such as s3://bucket/prefix?region=eu-central-1")
	}
	switch {
	case u.Scheme != "s3":
		return Options{}, fmt.Errorf("it starts with %.20q, not with s3://", u.Scheme)
	case u.User != nil:
		return Options{}, errCredentials
	case u.Port() != "":
		return Options{}, errors.New("a bucket has no port: the server goes into the parameter endpoint")
	case u.Fragment != "":
		return Options{}, errors.New("it has a fragment (#)")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, errors.New("its parameters are not written as NAME=VALUE&NAME=VALUE")
	}
	o := Options{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	o.PathStyle = query.Get("endpoint") != ""
	for name, values := range query {
		set := parameters[name]
		switch {
		case slices.Contains(secrets, strings.ToLower(name)):
			return Options{}, errCredentials
		case set == nil:
			return Options{}, fmt.Errorf("unknown parameter %.40q", name)
		case len(values) != 1:
			return Options{}, fmt.Errorf("parameter %s is given %d times", name, len(values))
		}
		if err := set(&o, values[0]); err != nil {
			return Options{}, fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	if err := o.validate(); err != nil {
		return Options{}, err
	}
	return o, nil
}
