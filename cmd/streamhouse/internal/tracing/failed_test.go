package tracing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/s3"
)

func TestErrorsHaveNamesThatCanBeSearchedFor(t *testing.T) {
	for want, err := range map[string]error{
		"SlowDown":      fmt.Errorf("put: %w", &s3.Error{Code: "SlowDown", Status: 503}),
		"502":           fmt.Errorf("put: %w", &s3.Error{Status: 502}),
		"*s3.Error":     fmt.Errorf("put: %w", &s3.Error{}),
		"syscall.Errno": fmt.Errorf("put: %w", &fs.PathError{Err: syscall.ENOSPC}),
		"_OTHER":        fmt.Errorf("put: %w", objstore.ErrNoSpace),
	} {
		require.Equal(t, want, errorType(err))
	}
	require.Equal(t, "_OTHER", errorType(errors.Join(syscall.ENOSPC, syscall.EIO)), "which of two it is nobody knows")
}

// ended is a span as a collector gets it.
func ended(t *testing.T, do func(tr *Tracer)) sdk.ReadOnlySpan {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	tr := &Tracer{ratio: 1, spans: sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)).Tracer("")}
	do(tr)
	require.Len(t, spans.Ended(), 1)
	return spans.Ended()[0]
}

func TestWhatWasCalledOffIsNoError(t *testing.T) {
	unanswered := func(api string) sdk.ReadOnlySpan {
		return ended(t, func(tr *Tracer) {
			tr.Begin(broker.TracedRequest{API: api}).End(broker.TraceOutcome{Err: broker.ErrUnanswered})
		})
	}
	fetch := unanswered("Fetch")
	require.Equal(t, codes.Unset, fetch.Status().Code)
	require.Contains(t, fetch.Attributes(), calledOff)
	produce := unanswered("Produce")
	require.Equal(t, codes.Error, produce.Status().Code, "its client does not know what became of it")
	require.Contains(t, produce.Attributes(), attribute.String("error.type", "unanswered"))

	put := func(err error) sdk.ReadOnlySpan {
		return ended(t, func(tr *Tracer) {
			_, span := tr.spans.Start(t.Context(), "PUT")
			end(span, err)
		})
	}
	slower := put(fmt.Errorf("put: %w", context.Canceled))
	require.Equal(t, codes.Unset, slower.Status().Code)
	require.Contains(t, slower.Attributes(), calledOff)
	require.Equal(t, codes.Error, put(fmt.Errorf("put: %w", context.DeadlineExceeded)).Status().Code)
}
