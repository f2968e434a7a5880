package kafkaproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Why a frame is no request. Kafka closes the connection for each of them but
// an ApiVersions request of an unknown version, which is answered in version 0.
var (
	// ErrUnknownAPI: the API key is none of Kafka's.
	ErrUnknownAPI = errors.New("unknown api key")
	// ErrUnsupportedVersion: the version is not one this package can decode.
	ErrUnsupportedVersion = errors.New("unsupported version")
	// ErrMalformed: header or body is not what key and version say it is.
	ErrMalformed = errors.New("malformed request")
)

// DefaultMaxElements bounds the array elements and tags of one request. With
// it a decoded request takes at most some tens of megabytes more than its
// frame, whatever the frame says.
const DefaultMaxElements = 1 << 18

// RequestHeader is what precedes every request body.
type RequestHeader struct {
	Key, Version  int16
	CorrelationID int32
	ClientID      *string // nil is null
}

// Flexible says whether the request is of a version with tag sections
// (KIP-482). Versions newer than any known are taken for flexible.
func (h RequestHeader) Flexible() bool {
	s := shapeOf(h.Key)
	return s != nil && h.Version >= s.flexibleMin
}

// Name is the request's name for logs and metrics; see [RequestName].
func (h RequestHeader) Name() string { return RequestName(h.Key) }

// ParseRequest splits a frame into header and body. The body aliases the
// frame; the header does not.
//
// An error leaves key, version and correlation id filled in as far as they
// were there. Unknown keys are ErrUnknownAPI, since nobody can tell how their
// header ends. Versions are not judged here, only used: those of ApiVersions
// that are not known have a header like that of version 0 and whatever follows
// as body, for they are to be answered and never decoded.
func ParseRequest(frame []byte) (RequestHeader, []byte, error) {
	return ParseNextRequest(RequestHeader{}, frame)
}

// ParseNextRequest is [ParseRequest] for the request that follows one with the
// header last on the same connection. Clients do not change their id, and then
// its string is used again and nothing is allocated.
func ParseNextRequest(last RequestHeader, frame []byte) (RequestHeader, []byte, error) {
	if len(frame) < minFrame {
		return RequestHeader{}, nil, fmt.Errorf("%w: a header of %d bytes", ErrMalformed, len(frame))
	}
	h := RequestHeader{
		Key:           int16(binary.BigEndian.Uint16(frame)),
		Version:       int16(binary.BigEndian.Uint16(frame[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(frame[4:])),
	}
	body := frame[minFrame:]
	s := shapeOf(h.Key)
	if s == nil {
		return h, nil, fmt.Errorf("%w: %d", ErrUnknownAPI, h.Key)
	}
	if h.Key == keyControlledShutdown && h.Version == 0 {
		return h, body, nil // header version 0: no client id
	}
	if len(body) < 2 {
		return h, nil, fmt.Errorf("%w: the header ends before the client id", ErrMalformed)
	}
	// The client id has an int16 length in flexible headers too.
	n := int(int16(binary.BigEndian.Uint16(body)))
	body = body[2:]
	if n < -1 || n > len(body) {
		return h, nil, fmt.Errorf("%w: a client id of %d bytes with %d left", ErrMalformed, n, len(body))
	}
	if n >= 0 {
		if last.ClientID != nil && *last.ClientID == string(body[:n]) {
			h.ClientID = last.ClientID
		} else {
			id := string(body[:n])
			h.ClientID = &id
		}
		body = body[n:]
	}
	if h.Version < s.flexibleMin || h.Key == keyApiVersions && h.Version > s.maxVersion {
		return h, body, nil
	}
	w := walker{b: body, version: h.Version, flexible: true, elements: DefaultMaxElements}
	if err := w.tags(nil); err != nil {
		return h, nil, fmt.Errorf("read header tags: %w", err)
	}
	return h, w.b, nil
}

// keyControlledShutdown is the one API whose version 0 has a header of its own.
const keyControlledShutdown = 7

// DecodeBody decodes the body of a request with the header h. Errors wrap
// ErrUnknownAPI, ErrUnsupportedVersion or ErrMalformed; bytes after the body
// are malformed too. It never panics, and what it allocates is bounded by the
// length of the body and [DefaultMaxElements].
//
// The record bytes of a Produce request alias body, so that they are copied
// nowhere; body must live and stay unchanged as long as they are in use. Every
// other request, and every string, is independent of body. Whether the broker
// supports the version is for its API table to say: DecodeBody knows all that
// kmsg knows.
func DecodeBody(h RequestHeader, body []byte) (kmsg.Request, error) {
	s := shapeOf(h.Key)
	if s == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownAPI, h.Key)
	}
	if h.Version < 0 || h.Version > s.maxVersion {
		return nil, fmt.Errorf("decode %s: %w %d: versions to %d are known", h.Name(), ErrUnsupportedVersion, h.Version, s.maxVersion)
	}
	w := walker{b: body, version: h.Version, flexible: h.Version >= s.flexibleMin, elements: DefaultMaxElements}
	if err := w.walk(s.fields); err != nil {
		return nil, fmt.Errorf("decode %s version %d: %w", h.Name(), h.Version, err)
	}
	if len(w.b) > 0 {
		return nil, fmt.Errorf("decode %s version %d: %w: %d bytes follow it", h.Name(), h.Version, ErrMalformed, len(w.b))
	}
	if h.Key != keyProduce && (s.hasBytes || w.unknown) {
		// kmsg's bytes fields and unknown tags alias what it decodes.
		body = bytes.Clone(body)
	}
	r := kmsg.RequestForKey(h.Key)
	r.SetVersion(h.Version)
	if err := r.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("decode %s version %d: %w: %w", h.Name(), h.Version, ErrMalformed, err)
	}
	return r, nil
}

// AppendResponse appends the whole frame of a response: length, header, body.
// resp has its version set. The response header of ApiVersions has no tag
// section in any version, since clients read it before they know the version.
func AppendResponse(dst []byte, correlationID int32, resp kmsg.Response) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlationID))
	if resp.IsFlexible() && resp.Key() != keyApiVersions {
		dst = append(dst, 0)
	}
	dst = resp.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[start:], uint32(min(len(dst)-start-4, math.MaxInt32)))
	return dst
}
