//go:build !linux

package fs

import (
	"context"
	"errors"
	"os"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func writeBody(ctx context.Context, f *os.File, body objstore.Body) (uint32, error) {
	return copyBody(ctx, f, body)
}

// syncData is the full sync: on macOS Go makes it one that reaches the disk.
func syncData(f *os.File) error { return f.Sync() }

func openNameless(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func linkNameless(*os.File, string) error { return errors.ErrUnsupported }

func probeNameless(string) bool { return false }

func isUnsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

func allocate(*os.File, int64) error { return nil }

func writeOut(*os.File, int64, int64) {}

func startOut(*os.File, int64, int64) {}

func freeBytes(string) (int64, bool) { return 0, false }

func dropPages(string) error { return errors.ErrUnsupported }

// memoryBytes is not asked for where pages cannot be dropped: 0 sets no bound.
func memoryBytes() int64 { return 0 }
