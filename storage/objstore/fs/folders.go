package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// maxFolders bounds how many folders are remembered as durable. Above it those not in use are forgotten, which costs
// one sync each when they are next used.
const maxFolders = 4096

// folders knows which folders exist for good: made, and synced into parents that do. Keys are slash paths relative to
// the root; "." is the root.
//
// A Put holds its folder in use from before it opens a file there until the folder is synced. Otherwise this could
// happen: Put A finds the folder known; a Delete removes it, empty; Put B makes it again, and has not yet synced its
// parent when A puts its file in, syncs the folder and tells success; the power fails, the folder is gone.
type folders struct {
	root string
	// change is held (by its one element) while folders are made or removed. It is taken without mu.
	change chan struct{}
	mu     struct {
		sync.Mutex

		durable map[string]*folder
	}
}

// folder is one that is durable. Once it is forgotten its users still count on it, not on its successor of the same
// name.
type folder struct{ users int } // guarded by folders.mu

func newFolders(root string) *folders {
	f := &folders{root: root, change: make(chan struct{}, 1)}
	f.mu.durable = map[string]*folder{".": {}}
	return f
}

func (f *folders) path(name string) string { return filepath.Join(f.root, filepath.FromSlash(name)) }

// use counts a user of name if it is known, else returns nil.
func (f *folders) use(name string) *folder {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.mu.durable[name]
	if known != nil {
		known.users++
	}
	return known
}

// acquire makes name and its parents, durably, and keeps it from being removed until release.
func (f *folders) acquire(ctx context.Context, name string) (*folder, error) {
	if known := f.use(name); known != nil {
		return known, nil
	}
	select {
	case f.change <- struct{}{}:
		defer func() { <-f.change }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for end := 0; ; end++ {
		i := strings.IndexByte(name[end:], '/')
		if i < 0 {
			return f.makeOne(name)
		}
		end += i
		parent, err := f.makeOne(name[:end])
		if err != nil {
			return nil, err
		}
		f.release(parent)
	}
}

// makeOne makes name, whose parent is durable, and counts a user. The caller holds change.
func (f *folders) makeOne(name string) (*folder, error) {
	if known := f.use(name); known != nil {
		return known, nil
	}
	if err := os.Mkdir(f.path(name), folderPerm); err != nil {
		if !errors.Is(err, iofs.ErrExist) {
			return nil, err
		}
		info, err := os.Lstat(f.path(name))
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, errKeyThroughObject
		}
	}
	// Also when it was there: a predecessor may have been killed between making and syncing it.
	if err := syncFolder(f.path(path.Dir(name))); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.mu.durable) >= maxFolders {
		for other, known := range f.mu.durable {
			// Parents of the one being made may go too: they are durable all the same, only no longer known.
			if known.users == 0 && other != "." {
				delete(f.mu.durable, other)
			}
		}
	}
	made := &folder{users: 1}
	f.mu.durable[name] = made
	return made, nil
}

func (f *folders) release(known *folder) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known.users--
}

// forget drops what is known of name and its parents, because it is not true: they are missing.
func (f *folders) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ; name != "."; name = path.Dir(name) {
		delete(f.mu.durable, name)
	}
}

// prune removes those of names, and of their parents, that are empty and not in use. Failing is no harm.
func (f *folders) prune(ctx context.Context, names map[string]struct{}) {
	select {
	case f.change <- struct{}{}:
		defer func() { <-f.change }()
	case <-ctx.Done():
		return
	}
	for name := range names {
		for ; name != "."; name = path.Dir(name) {
			if !f.removeIfEmpty(name) {
				break
			}
		}
	}
}

// removeIfEmpty tells whether name is gone. The caller holds change, so that whoever finds name unknown waits.
func (f *folders) removeIfEmpty(name string) bool {
	f.mu.Lock()
	known := f.mu.durable[name]
	if known != nil && known.users > 0 {
		f.mu.Unlock()
		return false
	}
	delete(f.mu.durable, name)
	f.mu.Unlock()

	// Not os.Remove, which would take a file as well: the folder of a key that never was may be an object. Rmdir
	// refuses that, and a folder that is not empty.
	err := syscall.Rmdir(f.path(name))
	if err == nil || errors.Is(err, iofs.ErrNotExist) {
		return true
	}
	if known != nil {
		f.mu.Lock()
		f.mu.durable[name] = known
		f.mu.Unlock()
	}
	return false
}

// errKeyThroughObject: a folder of the key is a file, that is an object whose key is a front part of this one.
var errKeyThroughObject = errors.New("a front part of the key is the key of an object")

// makeFolders makes an absolute folder and its parents, and syncs each parent of one made.
func makeFolders(name string) error {
	info, err := os.Stat(name)
	if err == nil {
		if !info.IsDir() {
			return &os.PathError{Op: "mkdir", Path: name, Err: errors.New("it is a file, not a folder")}
		}
		return nil
	}
	if !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(name)
	if parent == name {
		return err
	}
	if err := makeFolders(parent); err != nil {
		return err
	}
	if err := os.Mkdir(name, folderPerm); err != nil && !errors.Is(err, iofs.ErrExist) {
		return err
	}
	return syncFolder(parent)
}
