package recordbatch

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrorKind says which of Kafka's errors a refused batch is answered with. The
// package knows names, not numbers: the numbers are the protocol's business.
type ErrorKind uint8

// The kinds of [Error], one for each error Kafka answers a bad batch with.
const (
	// KindCorrupt: the bytes are not those the producer sent, or are no batch
	// at all (CORRUPT_MESSAGE). Producers retry it.
	KindCorrupt ErrorKind = iota + 1
	// KindInvalidRecord: the producer said something no broker accepts
	// (INVALID_RECORD). Producers give up.
	KindInvalidRecord
	// KindTooLarge: over max.message.bytes, or over the bound on what a batch
	// may decompress to (MESSAGE_TOO_LARGE). The Java producer splits the
	// batch and tries again.
	KindTooLarge
	// KindInvalidTimestamp: outside message.timestamp.before.max.ms or
	// .after.max.ms, or of the broker's timestamp type (INVALID_TIMESTAMP).
	KindInvalidTimestamp
	// KindUnsupportedForMagic: asks of an old record format what it cannot do
	// (UNSUPPORTED_FOR_MESSAGE_FORMAT). Validate never returns it, since it
	// refuses old formats outright as Kafka does; it is for callers.
	KindUnsupportedForMagic
	// KindUnsupportedCompression: a codec nobody knows
	// (UNSUPPORTED_COMPRESSION_TYPE).
	KindUnsupportedCompression
	// KindInvalidRequest: the request around the batch makes no sense
	// (INVALID_REQUEST). It is for callers.
	KindInvalidRequest
)

// String is Kafka's name of the error.
func (k ErrorKind) String() string {
	switch k {
	case KindCorrupt:
		return "CORRUPT_MESSAGE"
	case KindInvalidRecord:
		return "INVALID_RECORD"
	case KindTooLarge:
		return "MESSAGE_TOO_LARGE"
	case KindInvalidTimestamp:
		return "INVALID_TIMESTAMP"
	case KindUnsupportedForMagic:
		return "UNSUPPORTED_FOR_MESSAGE_FORMAT"
	case KindUnsupportedCompression:
		return "UNSUPPORTED_COMPRESSION_TYPE"
	case KindInvalidRequest:
		return "INVALID_REQUEST"
	default:
		return "ErrorKind(" + strconv.Itoa(int(k)) + ")"
	}
}

// Error says why a batch was refused.
type Error struct {
	Kind ErrorKind
	// Msg is for the producer's log: what was wrong, with the numbers.
	Msg string
	// BadRecord is the index of the record at fault within the batch, -1 when
	// it is the batch itself. Produce answers of version 8 and later tell it.
	BadRecord int
}

// Error implements error.
func (e *Error) Error() string {
	if e.BadRecord >= 0 {
		return "record " + strconv.Itoa(e.BadRecord) + ": " + e.Msg
	}
	return e.Msg
}

// KindOf is the kind of the [Error] in err's chain; anything else, which this
// package does not return, is KindCorrupt, and nil is 0.
func KindOf(err error) ErrorKind {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindCorrupt
}

func newError(k ErrorKind, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...), BadRecord: -1}
}

func recordError(k ErrorKind, record int, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...), BadRecord: record}
}
