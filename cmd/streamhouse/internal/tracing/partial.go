package tracing

import (
	"fmt"
	"mime"

	"google.golang.org/protobuf/encoding/protowire"
)

// refusedError says that a collector took a batch but dropped some of its spans.
type refusedError struct {
	spans   int64
	message string
}

func (e *refusedError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("the collector refused %d spans of a batch that it took", e.spans)
	}
	return fmt.Sprintf("the collector refused %d spans of a batch that it took: %s", e.spans, text(e.message))
}

// Numbers of fields in ExportTraceServiceResponse and in the ExportTracePartialSuccess in it.
const (
	fieldPartialSuccess = 1
	fieldRejectedSpans  = 1
	fieldErrorMessage   = 2
)

// refusedIn is what a collector's answer of 200 says was not taken all the same; nil if nothing was, or if it is no such answer. OTLP
// has it be in protobuf as the request was. It is read by hand, since the package of the generated type links all of gRPC.
func refusedIn(contentType string, answer []byte) error {
	if kind, _, _ := mime.ParseMediaType(contentType); kind != "application/x-protobuf" { // "" if it is malformed
		return nil
	}
	var e refusedError
	inner, _ := field(answer, fieldPartialSuccess, protowire.BytesType)
	partial, _ := protowire.ConsumeBytes(inner)
	if v, ok := field(partial, fieldRejectedSpans, protowire.VarintType); ok {
		n, _ := protowire.ConsumeVarint(v)
		e.spans = int64(n)
	}
	if e.spans <= 0 { // a message without a number is advice
		return nil
	}
	if v, ok := field(partial, fieldErrorMessage, protowire.BytesType); ok {
		e.message, _ = protowire.ConsumeString(v)
	}
	return &e
}

// field finds the last value of a field, encoded. A message that is not well formed has none.
func field(message []byte, number protowire.Number, kind protowire.Type) (value []byte, ok bool) {
	for len(message) > 0 {
		n, k, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return nil, false
		}
		size := protowire.ConsumeFieldValue(n, k, message[tag:])
		if size < 0 {
			return nil, false
		}
		if n == number && k == kind {
			value, ok = message[tag:tag+size], true
		}
		message = message[tag+size:]
	}
	return value, ok
}
