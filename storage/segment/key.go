package segment

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
)

// Kind is what an object is, as its key says.
type Kind string

// The kinds.
const (
	KindLog     Kind = "log"     // what one flush uploads
	KindSegment Kind = "segment" // what a merge writes
)

// MarkerPrefix is where a cluster writes its name into its store: MarkerPrefix/CLUSTER-ID/BROKER-EPOCH. Such objects hold
// no records and are named by no manifest.
const MarkerPrefix = "cluster/"

// ErrKey says that a string is not an object key of this package.
var ErrKey = errors.New("not an object key")

const hourLayout = "2006010215"

// Key is what an object key says. It is for people and for finding orphans; what an object means is said by the
// catalog, never by its key, and the key appears in nothing else.
type Key struct {
	Kind     Kind
	Hour     time.Time // UTC, of the process that wrote it
	Process  [16]byte  // random per process: two processes never choose the same key
	Epoch    catalog.BrokerEpoch
	Sequence int64 // log: the commit's sequence; segment: a number of its own per broker epoch
	Attempt  int   // 1, 2 … : a failed or slow PUT is tried again under another
}

// String gives KIND/HOUR/PROCESS/EPOCH-SEQUENCE-ATTEMPT, for example
// log/2025112401/00112233445566778899aabbccddeeff/000000000007-000000000000042-001. The folder is the same for an
// hour, so that a local store seldom syncs a new one; within it, byte order is the order of commits.
func (k Key) String() string {
	b := make([]byte, 0, 96)
	b = append(b, k.Kind...)
	b = append(b, '/')
	b = k.Hour.UTC().AppendFormat(b, hourLayout)
	b = append(b, '/')
	b = hex.AppendEncode(b, k.Process[:])
	b = append(b, '/')
	b = appendPadded(b, int64(k.Epoch), 12)
	b = append(b, '-')
	b = appendPadded(b, k.Sequence, 15)
	b = append(b, '-')
	b = appendPadded(b, int64(k.Attempt), 3)
	return string(b)
}

// appendPadded writes at least width digits. Larger numbers take more: still one key each, only out of order.
func appendPadded(b []byte, v int64, width int) []byte {
	var digits [20]byte
	d := strconv.AppendInt(digits[:0], max(v, 0), 10)
	for range width - len(d) {
		b = append(b, '0')
	}
	return append(b, d...)
}

// LogKey is the key of one attempt to put the log object of (epoch, sequence).
func LogKey(hour time.Time, process [16]byte, epoch catalog.BrokerEpoch, sequence catalog.Sequence, attempt int) string {
	return Key{Kind: KindLog, Hour: hour, Process: process, Epoch: epoch, Sequence: int64(sequence), Attempt: attempt}.String()
}

// KeyOfSegment is the key of one attempt to put a segment. number is chosen by the caller, once per segment and broker
// epoch.
func KeyOfSegment(hour time.Time, process [16]byte, epoch catalog.BrokerEpoch, number int64, attempt int) string {
	return Key{Kind: KindSegment, Hour: hour, Process: process, Epoch: epoch, Sequence: number, Attempt: attempt}.String()
}

// ParseKey is the inverse of [Key.String]. It returns an error wrapping [ErrKey] for any string that no Key gives.
func ParseKey(s string) (Key, error) {
	bad := func() (Key, error) { return Key{}, fmt.Errorf("parse key %.200q: %w", s, ErrKey) }
	parts := strings.Split(s, "/")
	if len(s) > 256 || len(parts) != 4 {
		return bad()
	}
	k := Key{Kind: Kind(parts[0])}
	if k.Kind != KindLog && k.Kind != KindSegment {
		return bad()
	}
	var err error
	if k.Hour, err = time.Parse(hourLayout, parts[1]); err != nil {
		return bad()
	}
	if len(parts[2]) != hex.EncodedLen(len(k.Process)) {
		return bad()
	}
	if _, err = hex.Decode(k.Process[:], []byte(parts[2])); err != nil {
		return bad()
	}
	numbers := strings.Split(parts[3], "-")
	if len(numbers) != 3 {
		return bad()
	}
	epoch, err1 := strconv.ParseInt(numbers[0], 10, 64)
	sequence, err2 := strconv.ParseInt(numbers[1], 10, 64)
	attempt, err3 := strconv.ParseInt(numbers[2], 10, 32)
	if errors.Join(err1, err2, err3) != nil {
		return bad()
	}
	k.Epoch, k.Sequence, k.Attempt = catalog.BrokerEpoch(epoch), sequence, int(attempt)
	if k.String() != s { // signs, missing zeros, upper case
		return bad()
	}
	return k, nil
}
