package fs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"strings"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// List implements [objstore.Store]. It reads each folder that can hold an answer, whole; memory is that of the
// largest folder's names on the way.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	if err := s.checkOpen(ctx, "list objects"); err != nil {
		return nil, false, err
	}
	if limit <= 0 || limit > objstore.MaxList {
		limit = objstore.MaxList
	}
	// Volumes first: objects move from them to files, never back, so none is missed.
	var (
		small []objstore.Info
		err   error
	)
	if s.view != nil {
		small, err = s.view.list(prefix, after, limit+1)
	} else {
		small = s.volumes.list(prefix, after, limit+1)
	}
	l := lister{ctx: ctx, store: s, prefix: prefix, after: after, limit: limit}
	if err == nil {
		err = l.walk("")
	}
	if err != nil {
		return nil, false, fmt.Errorf("list objects: %w", err)
	}
	all := merged(small, l.found)
	if len(all) > limit {
		return all[:limit:limit], true, nil
	}
	return all, false, nil
}

// merged returns both lists in the order of keys, each key once: an object on its way from a volume to a file is in both.
func merged(a, b []objstore.Info) []objstore.Info {
	if len(a) == 0 {
		return b
	}
	all := make([]objstore.Info, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(a[0].Key, b[0].Key); {
		case c < 0:
			all, a = append(all, a[0]), a[1:]
		case c > 0:
			all, b = append(all, b[0]), b[1:]
		default:
			all, a, b = append(all, a[0]), a[1:], b[1:]
		}
	}
	return append(append(all, a...), b...)
}

type lister struct {
	ctx           context.Context // lives as long as one call
	store         *Store
	prefix, after string
	limit         int
	found         []objstore.Info // one more than limit tells that there are more
}

// mayHold tells whether a key that starts with front can be an answer.
func (l *lister) mayHold(front string) bool {
	if !strings.HasPrefix(front, l.prefix) && !strings.HasPrefix(l.prefix, front) {
		return false
	}
	return front > l.after || strings.HasPrefix(l.after, front)
}

// walk adds the objects of the folder named by front, which is empty or ends in a slash.
func (l *lister) walk(front string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	// Not os.ReadDir: its order is that of names, and a folder must come where its name with a slash belongs.
	entries, err := l.store.readFolder(front)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if len(l.found) > l.limit {
			return nil
		}
		key := front + e.order
		if strings.HasSuffix(key, "/") {
			if !l.mayHold(key) {
				continue
			}
			if err := l.walk(key); err != nil {
				return err
			}
			continue
		}
		if key <= l.after || !strings.HasPrefix(key, l.prefix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, iofs.ErrNotExist) {
			continue // deleted since
		}
		if err != nil {
			return err
		}
		l.found = append(l.found, objstore.Info{Key: key, Size: info.Size(), ModTime: info.ModTime()})
	}
	return nil
}

type entry struct {
	iofs.DirEntry

	// order is the name, with a slash if it is a folder.
	order string
}

// readFolder returns what in a folder can be objects or hold them, in the order of keys. A folder that is gone is
// empty: deleting the last object removes it.
func (s *Store) readFolder(front string) ([]entry, error) {
	d, err := os.Open(s.path(front))
	if err != nil {
		if front != "" && isAbsent(err) {
			return nil, nil
		}
		return nil, err
	}
	all, err := d.ReadDir(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		if front != "" && isAbsent(err) {
			return nil, nil // removed while it was being read, so it was empty
		}
		return nil, err
	}
	entries := make([]entry, 0, len(all))
	for _, e := range all {
		name := e.Name()
		if objstore.ValidateKey(name) != nil {
			continue // not ours, such as .tmp
		}
		switch {
		case e.IsDir():
			entries = append(entries, entry{e, name + "/"})
		case e.Type().IsRegular():
			entries = append(entries, entry{e, name})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.order, b.order) })
	return entries, nil
}
