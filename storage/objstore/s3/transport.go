package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 5 * time.Second
	// idleTimeout is below the time after which servers and their load balancers drop idle connections.
	idleTimeout    = 30 * time.Second
	maxHeaderBytes = 64 << 10
	// maxAnswerBytes bounds answers other than objects: a listing of 1,000 keys of 1,024 bytes, escaped, is below it.
	maxAnswerBytes = 8 << 20
)

// httpClient is what the SDK sends requests with. It follows no redirects: a signature is good for one host.
type httpClient struct{ transport *http.Transport }

func newHTTPClient(o Options) (*httpClient, error) {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if tcp, ok := c.(*net.TCPConn); ok && err == nil {
				return conn{tcp}, nil
			}
			return c, err
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    handshakeTimeout,
		MaxIdleConns:           o.MaxConnections,
		MaxIdleConnsPerHost:    o.MaxConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(o.HTTP2)
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read certificates: %s has none in PEM", o.CAFile)
		}
	}
	return &httpClient{transport: t}, nil
}

// Do implements the SDK's HTTPClient. Every request carries its attempt in its context.
func (h *httpClient) Do(req *http.Request) (*http.Response, error) {
	a := attemptOf(req.Context())
	if a == nil {
		return nil, errors.New("send request: it belongs to no attempt")
	}
	a.reached = true
	a.sent.Store(0) // reading the body to sign it is not sending
	if a.body != nil {
		a.body.attach(req)
	}
	res, err := h.transport.RoundTrip(req)
	if err != nil {
		a.transportErr = err
		return nil, err
	}
	a.progress(0)
	a.status, a.header = res.StatusCode, res.Header
	if a.op != opGet || res.StatusCode >= http.StatusMultipleChoices {
		res.Body = &answer{ReadCloser: res.Body, left: maxAnswerBytes, a: a}
	}
	return res, nil
}

var errAnswerTooLong = errors.New("the answer is too long")

// answer is the body of a response that is not an object's bytes.
type answer struct {
	io.ReadCloser

	left int64
	a    *attempt
}

// Read implements io.Reader.
func (r *answer) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errAnswerTooLong
	}
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	r.a.received.Add(int64(n))
	r.a.progress(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.a.transportErr = err
	}
	return n, err
}
