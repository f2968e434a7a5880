package tracing

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/streamhouse/streamhouse/storage/objstore/s3"
)

// calledOff marks what did not end, but is no error: nobody wants it any more.
var calledOff = attribute.Bool("streamhouse.called_off", true)

// failed notes an error that is not one of Kafka's. What was called off is no error: the slower of two PUTs, or a GET for a
// client that left.
func failed(span trace.Span, err error) {
	if errors.Is(err, context.Canceled) {
		span.SetAttributes(calledOff)
		return
	}
	span.SetAttributes(attribute.String("error.type", text(errorType(err))))
	span.SetStatus(codes.Error, text(err.Error()))
}

// otherError is OpenTelemetry's word for errors that have no name.
const otherError = "_OTHER"

// errorType names an error so that it can be searched for: by what the store answered, or else by the Go type of the error
// under all others. Types that only carry a text tell nothing.
func errorType(err error) string {
	if answer, ok := errors.AsType[*s3.Error](err); ok {
		switch {
		case answer.Code != "":
			return answer.Code
		case answer.Status != 0:
			return strconv.Itoa(answer.Status)
		}
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	name := fmt.Sprintf("%T", err)
	if strings.HasPrefix(name, "*errors.") || strings.HasPrefix(name, "*fmt.") {
		return otherError
	}
	return name
}
