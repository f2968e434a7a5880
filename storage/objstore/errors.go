package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// The errors of the contract. Implementations wrap them (errors.Is works) and add what was attempted.
var (
	// ErrExists: the key is taken, by whatever bytes. Settle tells whether they are the caller's.
	ErrExists = errors.New("object exists")
	// ErrNotFound: there is no object under the key.
	ErrNotFound = errors.New("object not found")
	// ErrNoSpace: the backend is full. Nothing was stored. Retriable, once somebody has made room.
	ErrNoSpace = errors.New("object store has no space left")
	// ErrInvalidKey: the key breaks the rules of ValidateKey. A defect of the caller.
	ErrInvalidKey = errors.New("invalid object key")
	// ErrInvalidBody: the size of a body is not the sum of its slices, or too large. A defect of the caller.
	ErrInvalidBody = errors.New("invalid object body")
	// ErrInvalidRange: the offset is negative. A defect of the caller.
	ErrInvalidRange = errors.New("invalid object range")
	// ErrChecksum: the bytes that arrived are not those the checksum was computed of. Nothing was stored.
	ErrChecksum = errors.New("object checksum does not match")
	// ErrUnavailable: the backend could not be reached, timed out or asked to slow down. Retriable after settling.
	ErrUnavailable = errors.New("object store is unavailable")
	// ErrReadOnly: the store was opened for reading only. Nothing was done.
	ErrReadOnly = errors.New("object store is read-only")
	// ErrInDoubt marks an error of a Put of which an earlier, inner attempt may have stored the object, whatever the
	// other errors it wraps say.
	ErrInDoubt = errors.New("the outcome of the put is unknown")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("object store is closed")
)

// Retriable tells whether trying again (a Put: after settling, see [InDoubt]) can succeed without new input. Errors
// the contract does not know are the backend's and taken for transient. A caller that retries on ErrNoSpace waits
// for somebody to make room and needs a bound of its own.
func Retriable(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrNoSpace):
		return true
	case errors.Is(err, ErrExists), errors.Is(err, ErrNotFound), errors.Is(err, ErrInvalidKey),
		errors.Is(err, ErrInvalidBody), errors.Is(err, ErrInvalidRange), errors.Is(err, ErrChecksum),
		errors.Is(err, ErrReadOnly), errors.Is(err, ErrClosed), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	}
	return true
}

// InDoubt tells whether a Put that failed with err may have stored its object. ErrClosed counts: the store may
// have been closed during the call.
func InDoubt(err error) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, ErrInDoubt):
		return true
	case errors.Is(err, ErrExists), errors.Is(err, ErrNoSpace), errors.Is(err, ErrInvalidKey),
		errors.Is(err, ErrInvalidBody), errors.Is(err, ErrChecksum), errors.Is(err, ErrReadOnly):
		return false
	}
	return true
}

// DeleteError says that a Delete did not delete everything.
type DeleteError struct {
	// Left are the keys that may still be there; all others are gone. Never empty.
	Left []string
	// Err is the first error met.
	Err error
}

func (e *DeleteError) Error() string {
	if len(e.Left) == 0 {
		return fmt.Sprintf("delete objects: %v", e.Err)
	}
	return fmt.Sprintf("delete objects: %d left, the first is %s: %v", len(e.Left), e.Left[0], e.Err)
}

// Unwrap returns Err.
func (e *DeleteError) Unwrap() error { return e.Err }
