package objstore

import (
	"context"
	"hash/crc32"
	"time"
)

const (
	// MaxKeyBytes is the longest key, in bytes.
	MaxKeyBytes = 512
	// MaxSegmentBytes is the longest part of a key between slashes, in bytes.
	MaxSegmentBytes = 128
	// MaxList is the most objects one List call returns, whatever its limit.
	MaxList = 1000
	// MaxObjectBytes is the largest object, in bytes: what S3 takes in one PUT.
	MaxObjectBytes = 5 << 30
)

// Store is a flat space of immutable objects. Every method may be called from any number of goroutines at once.
//
// Every method MUST return an error that wraps ctx.Err() without an effect when ctx has ended before the call, MUST
// refuse keys that [ValidateKey] refuses with [ErrInvalidKey], and MUST answer [ErrClosed] after Close. A method
// whose ctx ends during the call SHOULD return early; what that leaves is said per method.
type Store interface {
	// Put stores the concatenation of body's slices under key, if key is absent.
	//
	// It MUST be all or nothing: a reader sees no object or the whole one, also after a crash. When it returns nil
	// the object MUST be durable (for a local folder: file and folder synced). Of concurrent Puts of one key exactly
	// one MUST win; the others MUST return [ErrExists], as MUST any Put of a key that exists, whatever its content.
	// After [ErrExists], [ErrNoSpace], [ErrInvalidKey], [ErrInvalidBody], [ErrChecksum] and [ErrReadOnly] it has stored
	// nothing. After any other error, a context error included, it may have: see [InDoubt] and [Settle].
	//
	// The slices MUST NOT be modified, nor retained after Put returned; the caller MUST NOT modify them before.
	// Body.Size MUST be the sum of their lengths, else [ErrInvalidBody]. Body.Checksum is sent to backends that
	// verify it; where an implementation verifies it and it differs, nothing is stored and [ErrChecksum] returned.
	Put(ctx context.Context, key string, body Body) error

	// GetRange fills p with the bytes of key from offset off, in bytes. It returns [io.ErrUnexpectedEOF] if the
	// object ends before p is full (also when off is beyond its end), [ErrNotFound] if there is no such object, and
	// [ErrInvalidRange] if off is negative. An empty p is filled without asking the backend. After an error the
	// content of p is undefined. The bytes are not verified: callers check the checksums that are inside an object.
	// An object deleted during the call yields its whole range or ErrNotFound.
	GetRange(ctx context.Context, key string, off int64, p []byte) error

	// Head describes the object under key, or returns [ErrNotFound]. Size and checksum are authoritative: kept by
	// the backend for the bytes it stored, or computed from these bytes now. Head may therefore read the whole
	// object; it is for settling a Put in doubt and for verification, not for hot paths. What it reports MUST be
	// durable (a local folder syncs before it answers). HasChecksum MUST be true for objects stored by Put.
	Head(ctx context.Context, key string) (Info, error)

	// List returns objects whose key starts with prefix and is greater than after, in ascending byte order of their
	// keys, at most limit of them ([MaxList] if limit is larger or not positive). more tells that others follow:
	// pass the last key as after. prefix and after may be any strings. Objects put or deleted during the call may or
	// may not be in the answer; all others MUST be, exactly once. Key, Size and ModTime are set; the checksum need
	// not be. An error comes with no objects: a partial listing is never an answer.
	List(ctx context.Context, prefix, after string, limit int) (objects []Info, more bool, err error)

	// Delete removes keys, in batches where the backend has them. It is idempotent: absent keys are deleted keys. If
	// some could not be deleted it goes on with the others and returns a [*DeleteError] naming those that may be
	// left. If a key is invalid nothing is deleted. Unlike Put it promises no durability: after a power cut an object
	// may be back, and deleting it again is right.
	Delete(ctx context.Context, keys []string) error

	// Close releases what the store holds open. It waits for no call; calls after it, and possibly calls under way,
	// return [ErrClosed]. Closing twice is harmless.
	Close() error
}

// Body is what Put stores.
type Body struct {
	// Slices are concatenated; there may be thousands, also empty ones.
	Slices [][]byte
	// Size is the sum of their lengths, in bytes.
	Size int64
	// Checksum is the CRC-32C of their concatenation.
	Checksum uint32
}

// Info describes an object.
type Info struct {
	Key string
	// Size is in bytes.
	Size int64
	// Checksum is the CRC-32C of all bytes, if HasChecksum.
	Checksum    uint32
	HasChecksum bool
	// ModTime is when the object was put, by the backend's clock. Informational.
	ModTime time.Time
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC-32C of the concatenation of slices.
func Checksum(slices ...[]byte) uint32 {
	var sum uint32
	for _, s := range slices {
		sum = crc32.Update(sum, castagnoli, s)
	}
	return sum
}

// UpdateChecksum returns the CRC-32C of what sum stands for followed by p.
func UpdateChecksum(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// NewBody makes a Body of slices, with its size and checksum. It keeps slices, and does not copy them.
func NewBody(slices ...[]byte) Body {
	b := Body{Slices: slices, Checksum: Checksum(slices...)}
	for _, s := range slices {
		b.Size += int64(len(s))
	}
	return b
}
