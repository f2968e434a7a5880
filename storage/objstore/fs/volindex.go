package fs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// record is a live object in a volume. It does not change.
type record struct {
	recordHeader

	vol *volume
}

// index says which keys are in volumes. It has no lock of its own.
type index struct {
	byKey map[string]*record
	// folders counts, for each front part of a key that ends before a slash, the keys below it: those in volumes and
	// those of Puts under way. Volumes have no folders, and yet no key may be the front part of another: their objects
	// may become files.
	folders map[string]int
	// sorted are the records by key, or nil if that is not known.
	sorted []*record
}

func newIndex() index {
	return index{byKey: make(map[string]*record), folders: make(map[string]int)}
}

func (x *index) add(r *record) {
	x.byKey[r.key] = r
	x.count(r.key, 1)
	x.sorted = nil
}

func (x *index) drop(r *record) {
	delete(x.byKey, r.key)
	x.count(r.key, -1)
	x.sorted = nil
}

// count adds n to the folders of key.
func (x *index) count(key string, n int) {
	for i := range len(key) {
		if key[i] != '/' {
			continue
		}
		if x.folders[key[:i]] += n; x.folders[key[:i]] == 0 {
			delete(x.folders, key[:i])
		}
	}
}

// after returns at most limit records whose keys start with prefix and are greater than after, in their order.
func (x *index) after(prefix, after string, limit int) []*record {
	if x.sorted == nil {
		x.sorted = make([]*record, 0, len(x.byKey))
		for _, r := range x.byKey {
			x.sorted = append(x.sorted, r)
		}
		slices.SortFunc(x.sorted, func(a, b *record) int { return cmp.Compare(a.key, b.key) })
	}
	first, exact := slices.BinarySearchFunc(x.sorted, max(prefix, after), func(r *record, key string) int { return cmp.Compare(r.key, key) })
	if exact && prefix <= after {
		first++
	}
	end := first
	for end < len(x.sorted) && end-first < limit && strings.HasPrefix(x.sorted[end].key, prefix) {
		end++
	}
	return x.sorted[first:end]
}

// reservation keeps all others from a key while a Put, a Delete or the moving of its object is under way.
type reservation struct {
	key string
	put bool
	// done is closed when it ends.
	done chan struct{}
}

// reserve takes key for a Put or a Delete, and waits while another has it.
//
// For a Put it refuses a key that is in a volume with objstore.ErrExists, and one that is the front part of a key in a
// volume, or the other way round, with objstore.ErrInvalidKey. Of Puts of one key at once the first decides: the others
// wait for it, so that exactly one wins also where one makes a file and another a record.
func (v *volumes) reserve(ctx context.Context, key string, put bool) (*reservation, error) {
	for {
		v.mu.Lock()
		if put {
			if err := v.allowedLocked(key); err != nil {
				v.mu.Unlock()
				return nil, err
			}
		}
		other := v.mu.busy[key]
		if other == nil {
			r := &reservation{key: key, put: put, done: make(chan struct{})}
			v.mu.busy[key] = r
			if put {
				v.mu.index.count(key, 1)
			}
			v.mu.Unlock()
			return r, nil
		}
		v.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (v *volumes) release(r *reservation) {
	v.mu.Lock()
	delete(v.mu.busy, r.key)
	if r.put {
		v.mu.index.count(r.key, -1)
	}
	v.mu.Unlock()
	close(r.done)
}

func (v *volumes) allowedLocked(key string) error {
	x := &v.mu.index
	if _, ok := x.byKey[key]; ok {
		return objstore.ErrExists
	}
	if x.folders[key] > 0 {
		return fmt.Errorf("%w: it is the front part of other keys", objstore.ErrInvalidKey)
	}
	for i := range len(key) {
		if key[i] != '/' {
			continue
		}
		if _, ok := x.byKey[key[:i]]; ok {
			return fmt.Errorf("%w: %w", objstore.ErrInvalidKey, errKeyThroughObject)
		}
		if r := v.mu.busy[key[:i]]; r != nil && r.put {
			return fmt.Errorf("%w: %w", objstore.ErrInvalidKey, errKeyThroughObject)
		}
	}
	return nil
}
