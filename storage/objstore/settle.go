package objstore

import (
	"context"
	"errors"
	"fmt"
)

// Outcome is what became of a Put in doubt.
type Outcome int

// The outcomes. The zero value is none of them: it comes with an error.
const (
	// Stored: the object under the key is ours, whole and durable.
	Stored Outcome = iota + 1
	// Absent: there is no object under the key now. A request still on its way may put it there yet.
	Absent
	// Foreign: the object under the key is not ours. The key is lost to us, the bytes must go under another.
	Foreign
)

func (o Outcome) String() string {
	switch o {
	case Stored:
		return "stored"
	case Absent:
		return "absent"
	case Foreign:
		return "foreign"
	}
	return "unknown"
}

// Settle decides what became of a Put of size bytes with the given checksum whose answer was lost, or was
// [ErrExists]: the object is ours if length and checksum match. An error means that it is still in doubt.
//
// A store that reports no checksum settles nothing but absence and a different length: equal length alone is an
// error, never a yes.
func Settle(ctx context.Context, store Store, key string, size int64, checksum uint32) (Outcome, error) {
	info, err := store.Head(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return Absent, nil
	case err != nil:
		return 0, fmt.Errorf("settle put of %s: %w", key, err)
	case info.Size != size:
		return Foreign, nil
	case !info.HasChecksum:
		return 0, fmt.Errorf("settle put of %s: the store reports no checksum: %w", key, ErrUnavailable)
	case info.Checksum != checksum:
		return Foreign, nil
	}
	return Stored, nil
}
