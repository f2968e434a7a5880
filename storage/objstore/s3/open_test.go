package s3

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func TestParseURL(t *testing.T) {
	for s, want := range map[string]Options{
		"s3://bucket": {Bucket: "bucket"},
		"s3://my-bucket.x/a/b/?region=eu-central-1":   {Bucket: "my-bucket.x", Prefix: "a/b", Region: "eu-central-1"},
		"s3://bucket?endpoint=http://127.0.0.1:9000/": {Bucket: "bucket", Endpoint: "http://127.0.0.1:9000", PathStyle: true},
		"s3://bucket/p?endpoint=https%3A%2F%2Fs3.example%3A9000&path_style=false&http2=true&signed_payload=1&profile=dev&ca_file=/ca.pem&max_connections=8": {
			Bucket: "bucket", Prefix: "p", Endpoint: "https://s3.example:9000", HTTP2: true, SignedPayload: true,
			Profile: "dev", CAFile: "/ca.pem", MaxConnections: 8,
		},
		"s3://bucket?stall_timeout=5s&retry_for=1m": {Bucket: "bucket", StallTimeout: 5 * time.Second, RetryFor: time.Minute},
	} {
		got, err := ParseURL(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
		if want.StallTimeout == 0 {
			again, err := ParseURL(got.String())
			require.NoError(t, err, got.String())
			require.Equal(t, want, again, got.String())
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for s, says := range map[string]string{
		"http://bucket":    "not with s3://",
		"":                 "not with s3://",
		"s3://":            "3 to 63 characters",
		"s3://Bucket":      "characters other than",
		"s3://-bucket":     "characters other than",
		"s3://bucket:9000": "parameter endpoint",
		"s3://bucket/a//b": "made like an object key",
		"s3://bucket/../b": "made like an object key",
		"s3://bucket/" + strings.Repeat("a/", 300) + "a": "at most 511",
		"s3://bucket#x":                              "fragment",
		"s3://bucket?regoin=x":                       `unknown parameter "regoin"`,
		"s3://bucket?region=a&region=b":              "given 2 times",
		"s3://bucket?path_style=maybe":               "parameter path_style: it must be true or false",
		"s3://bucket?max_connections=0":              "a number from 1",
		"s3://bucket?stall_timeout=10":               "such as 10s",
		"s3://bucket?endpoint=127.0.0.1:9000":        "the endpoint",
		"s3://bucket?endpoint=http://host/path":      "nothing else",
		"s3://bucket?endpoint=http://u:hunter2@host": "credentials do not belong",
		"s3://key:hunter2@bucket":                    "credentials do not belong",
		"s3://bucket?secret_key=hunter2":             "credentials do not belong",
		"s3://bucket?AWS_SECRET_ACCESS_KEY=hunter2":  "credentials do not belong",
		"s3://bucket?region=%hunter2":                "its parameters",
		"s3://key:hunter2@bucket:x":                  "not a URL",
	} {
		_, err := ParseURL(s)
		require.ErrorContains(t, err, says, s)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// TestNoConditionalPut: servers that overwrite, and servers that say that they cannot.
func TestNoConditionalPut(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"overwrites": func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
		"says so": func(w http.ResponseWriter, _ *http.Request) {
			answerXML(w, http.StatusNotImplemented, "NotImplemented")
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(answer)
			defer server.Close()
			_, err := Open(t.Context(), Options{Bucket: "bucket", Endpoint: server.URL, PathStyle: true})
			require.ErrorIs(t, err, ErrNoConditionalPut)
			require.ErrorContains(t, err, "s3://bucket?endpoint=")
		})
	}
}

func TestOpenFails(t *testing.T) {
	forEachServer(t, func(t *testing.T, s *server) {
		t.Helper()
		o := s.options()
		o.Bucket = "no-such-bucket"
		_, err := Open(t.Context(), o)
		require.ErrorIs(t, err, ErrNoBucket)
		require.ErrorContains(t, err, "create bucket no-such-bucket")

		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
		_, err = Open(t.Context(), s.options())
		require.ErrorContains(t, err, "the credentials are wrong")
	})
}

func TestOpenWithoutCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	start := time.Now()
	_, err := Open(t.Context(), Options{Bucket: "bucket", Endpoint: "http://127.0.0.1:1"})
	require.ErrorContains(t, err, "are there credentials")
	require.Less(t, time.Since(start), 5*time.Second)
}

func TestOpenWithoutRegion(t *testing.T) {
	_, err := Open(t.Context(), Options{Bucket: "bucket"})
	require.ErrorContains(t, err, "no region")
}

func TestOpenUnreachable(t *testing.T) {
	_, err := Open(t.Context(), Options{Bucket: "bucket", Endpoint: "http://127.0.0.1:1", RetryFor: 100 * time.Millisecond})
	require.ErrorIs(t, err, objstore.ErrUnavailable)
	require.ErrorContains(t, err, "connection refused")
}

// TestTLS: over TLS, with a CA of one's own, by HTTP/1.1 and by HTTP/2.
func TestTLS(t *testing.T) {
	minio := serverNamed(t, "minio")
	target, err := url.Parse(minio.url)
	require.NoError(t, err)
	protocols := make(chan string, 100)
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
	}}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols <- r.Proto
		forward.ServeHTTP(w, r)
	}))
	front.EnableHTTP2 = true
	front.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	front.StartTLS()
	defer front.Close()

	o := minio.options()
	o.Endpoint, o.RetryFor = front.URL, time.Millisecond
	_, err = Open(t.Context(), o)
	require.ErrorContains(t, err, "certificate")

	o.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(o.CAFile, []byte("none"), 0o600))
	_, err = Open(t.Context(), o)
	require.ErrorContains(t, err, "has none in PEM")

	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	require.True(t, x509.NewCertPool().AppendCertsFromPEM(ca))
	require.NoError(t, os.WriteFile(o.CAFile, ca, 0o600))
	for _, test := range []struct {
		http2 bool
		proto string
	}{{false, "HTTP/1.1"}, {true, "HTTP/2.0"}} {
		o.HTTP2 = test.http2
		s := open(t, o)
		data := random(1, 5<<20)
		require.NoError(t, s.Put(t.Context(), "tls/"+test.proto[5:], objstore.NewBody(data[:1], data[1:])))
		requireStored(t, s, "tls/"+test.proto[5:], data)
		for len(protocols) > 0 {
			require.Equal(t, test.proto, <-protocols)
		}
	}
}
