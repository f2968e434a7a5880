package fs

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// openFlags: a file can be synced only through a handle that may write.
const openFlags = os.O_RDWR

// syncFolder does nothing: folders cannot be synced here.
func syncFolder(string) error { return nil }

func isNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func isNotFolder(err error) bool { return errors.Is(err, windows.ERROR_DIRECTORY) }
