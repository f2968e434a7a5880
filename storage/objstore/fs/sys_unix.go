//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package fs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const openFlags = os.O_RDONLY

func syncFolder(folder string) error {
	d, err := os.Open(folder) //nolint:gosec // a folder of ours
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func isNoSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

func isNotFolder(err error) bool { return errors.Is(err, unix.ENOTDIR) }
