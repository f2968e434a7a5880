package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// quietFor is how long nothing more is said of spans that cannot be sent.
const quietFor = time.Minute

// maxAnswer bounds what is read of a collector's answer, in bytes.
const maxAnswer = 64 << 10

// sender sends spans through an exporter. What fails is said now and then and otherwise forgotten: nobody waits for it, and a
// collector that is down must not be asked for the same again and again.
type sender struct {
	exporter sdk.SpanExporter
	endpoint string // without a password
	log      *slog.Logger
	life     context.Context // ends what is being sent
	abort    context.CancelFunc

	mu struct {
		sync.Mutex
		said time.Time // when it was logged last
		lost int       // spans since
	}
}

func newSender(exporter sdk.SpanExporter, endpoint string, log *slog.Logger) *sender {
	s := &sender{exporter: exporter, endpoint: endpoint, log: log}
	s.life, s.abort = context.WithCancel(context.Background())
	return s
}

// ExportSpans implements [sdk.SpanExporter].
func (s *sender) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := s.life.Err(); err != nil { // what is left after the end would be encoded for nobody
		s.failed(len(spans), err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)() //nolint:contextcheck // the tracer's end ends it, too
	if err := s.exporter.ExportSpans(ctx, spans); err != nil {
		lost := len(spans)
		if refused, ok := errors.AsType[*refusedError](err); ok {
			lost = int(min(refused.spans, int64(lost)))
		}
		s.failed(lost, err)
	}
	return nil // an error would go to OpenTelemetry's own log
}

// Shutdown implements [sdk.SpanExporter].
func (s *sender) Shutdown(ctx context.Context) error { return s.exporter.Shutdown(ctx) }

func (s *sender) failed(spans int, err error) {
	s.mu.Lock()
	s.mu.lost += spans
	now := time.Now()
	if !s.mu.said.IsZero() && now.Sub(s.mu.said) < quietFor {
		s.mu.Unlock()
		return
	}
	lost := s.mu.lost
	s.mu.said, s.mu.lost = now, 0
	s.mu.Unlock()
	s.log.Warn("spans could not be sent, and are dropped", "endpoint", s.endpoint, "spans", lost, "error", err)
}

// poster posts spans as OTLP says, in protobuf. The exporter that OpenTelemetry has for it links all of gRPC.
type poster struct {
	url   string
	shown string
	http  *http.Client
}

func newPoster(endpoint *url.URL) *poster {
	at := endpoint.JoinPath("v1", "traces")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost = 1
	return &poster{url: at.String(), shown: at.Redacted(), http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Start implements otlptrace.Client.
func (p *poster) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (p *poster) Stop(context.Context) error {
	p.http.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client.
func (p *poster) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire, TracesData is what the service's request is.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post spans: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := p.http.Do(req)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok { // whose text has the whole URL
			err = inner.Err
		}
		return fmt.Errorf("post spans: %w", err)
	}
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // to its end, so that the connection can be used again
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("read the collector's answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered %s", resp.Status)
	}
	return refusedIn(resp.Header.Get("Content-Type"), answer)
}
