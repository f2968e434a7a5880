package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

const (
	volumesName   = ".volumes"
	volumeSuffix  = ".vol"
	unfinishedTmp = ".new" // a volume that is not filled with zeros yet

	// maxWriters is how many handles for writing a volume keeps open while nobody writes.
	maxWriters = 8
	// warmPuts is how many small Puts a store sees before it makes its first volume: looking into a folder, or a
	// start that is followed by nothing, should not cost the disk a volume.
	warmPuts = 8
)

// volumeState is where a volume is in its life. It goes round.
type volumeState int

const (
	// volumeReady: empty, of a durable new generation.
	volumeReady volumeState = iota
	// volumeActive: takes records. There is at most one.
	volumeActive
	// volumeFull: takes no more; sealed once nobody writes to it any more, emptied by Deletes or by moving out, then
	// ready again, or removed.
	volumeFull
)

// volume is a volume file of a Store that writes.
type volume struct {
	path   string
	number uint64 // its file name
	size   int64  // bytes
	file   *os.File

	// What follows is guarded by volumes.mu.

	volumeHeader

	state volumeState
	next  int64 // where the next record goes
	live  int   // records that are objects
	bytes int64 // what these take
	// pins counts those who use file or bytes of the volume: readers, writers, markers.
	pins    int
	writing int // Puts under way
	writers []*os.File
	since   time.Time // when it became full
	// suspect: a write or a sync failed, or its header is damaged. It is never written to again, nor sealed; once it is
	// empty it is removed.
	suspect bool
	gone    bool // to be closed by the last pin
}

// handle of a volume for one Put: a place of its own, and a file handle of its own. The system tells a failed write-back to each
// open handle once. With one handle for all, a Put whose pages were lost could hear of success, because another's sync
// had taken the error away.
type handle struct {
	vol  *volume
	file *os.File
	h    recordHeader
}

// volumes keeps small objects as records of preallocated files. See the package's description.
type volumes struct {
	store  *Store
	dir    string
	log    *slog.Logger
	most   int64 // the largest object, in bytes; negative: none is taken
	size   int64 // of a volume, in bytes
	budget int   // how many volumes there may be

	maxRecords int

	tendEvery   time.Duration
	sparseAfter time.Duration

	// Seams for tests.
	writeAt func(f *os.File, p []byte, off int64) error
	sync    func(f *os.File) error
	free    func(dir string) (int64, bool)

	wake   chan struct{}
	stop   context.CancelFunc
	tended chan struct{}

	mu struct {
		sync.Mutex

		index  index
		busy   map[string]*reservation
		all    map[uint64]*volume
		active *volume
		ready  []*volume
		seq    uint64 // of the last record
		serial uint64 // of the last use of a volume
		number uint64 // of the newest file
		puts   int    // small Puts while there was no volume, up to warmPuts
		rolls  int    // volumes taken into use since the last tick
		full   bool   // a Put found the disk full: give back what is not needed
		// troubled: making or moving failed; it is not tried again before the next tick.
		troubled bool
		sparse   *volume // to be emptied, because little in it is left
		closed   bool
	}
}

var recordPool = sync.Pool{New: func() any { return new([]byte) }}

// put stores body as a record, if there is a volume with room. The caller holds the reservation of key, and knows that
// there is no file of that name. body.Size is right.
func (v *volumes) put(ctx context.Context, key string, body objstore.Body) (stored bool, err error) {
	need := recordSpace(len(key), body.Size)
	if !v.mayStore(need) {
		return false, nil
	}
	pooled := recordPool.Get().(*[]byte)
	defer recordPool.Put(pooled)
	if int64(cap(*pooled)) < need {
		*pooled = make([]byte, need)
	}
	// Copied before it is summed and written: whatever the caller does with its slices, the record is sound. Up to the end
	// of the last block, because a block written in part would have to be read first.
	buf := (*pooled)[:need]
	at := recordHeaderBytes + len(key)
	for _, slice := range body.Slices {
		at += copy(buf[at:], slice)
	}
	sum := objstore.Checksum(buf[recordHeaderBytes+len(key) : at])
	if sum != body.Checksum {
		return false, fmt.Errorf("%w: the bytes have %08x, the caller says %08x", objstore.ErrChecksum, sum, body.Checksum)
	}
	clear(buf[at:])
	if err := ctx.Err(); err != nil { // the last chance to end without an effect
		return false, err
	}
	w, ok := v.begin(recordHeader{key: key, size: body.Size, sum: sum, mod: time.Now().UnixNano()}, need)
	if !ok {
		return false, nil
	}
	w.h.encode(buf)
	if err = v.writeAt(w.file, buf, w.h.off); err != nil {
		v.end(w, false)
		if !isNoSpace(err) { // where nothing is overwritten in place; the object then lacks its end
			err = errors.Join(objstore.ErrUnavailable, err)
		}
		return false, fmt.Errorf("write to volume: %w", err)
	}
	if err = v.sync(w.file); err != nil {
		v.end(w, false)
		// Not translated: the bytes may be on disk, even when the reason is a full one.
		return false, fmt.Errorf("sync volume: %v: %w", err, objstore.ErrUnavailable) //nolint:errorlint // see above
	}
	v.end(w, true)
	return true, nil
}

// mayStore tells whether it is worth while to build a record of need bytes, and counts those that found no volume.
func (v *volumes) mayStore(need int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if a := v.mu.active; a != nil && a.size-a.next >= need || len(v.mu.ready) > 0 {
		return true
	}
	if v.mu.puts < warmPuts {
		v.mu.puts++
	}
	v.poke()
	return false
}

// begin gives a record its place.
func (v *volumes) begin(h recordHeader, need int64) (handle, bool) {
	v.mu.Lock()
	if v.mu.closed {
		v.mu.Unlock()
		return handle{}, false
	}
	vol := v.mu.active
	if vol == nil || vol.size-vol.next < need {
		if len(v.mu.ready) == 0 {
			v.mu.Unlock()
			v.poke()
			return handle{}, false
		}
		if vol != nil {
			v.retireLocked(vol)
		}
		vol = v.mu.ready[0]
		v.mu.ready = v.mu.ready[1:]
		vol.state = volumeActive
		v.mu.active = vol
		v.mu.rolls++
		v.poke()
	}
	v.mu.seq++
	h.seq, h.generation, h.off = v.mu.seq, vol.generation, vol.next
	w := handle{vol: vol, h: h}
	half := vol.size / 2
	if vol.next <= half && vol.next+need > half {
		v.poke() // time to prepare the next one
	}
	vol.next += need
	vol.pins++
	vol.writing++
	if n := len(vol.writers); n > 0 {
		w.file = vol.writers[n-1]
		vol.writers = vol.writers[:n-1]
	}
	v.mu.Unlock()
	if w.file == nil {
		f, err := os.OpenFile(vol.path, os.O_RDWR, 0)
		if err != nil {
			v.log.Warn("cannot open a volume for writing", "volume", vol.path, "error", err)
			v.mu.Lock()
			vol.writing-- // a hole stays
			v.unpinLocked(vol)
			v.mu.Unlock()
			return handle{}, false
		}
		w.file = f
	}
	return w, true
}

// end makes the record an object, or retires its volume.
func (v *volumes) end(w handle, durable bool) {
	vol := w.vol
	if !durable {
		// Best effort: should it be whole after all, nobody who was told that it is absent shall see it come back.
		_ = v.markDead(vol, &w.h)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	vol.writing--
	if durable {
		r := &record{recordHeader: w.h, vol: vol}
		v.mu.index.add(r)
		vol.live++
		vol.bytes += recordSpace(len(r.key), r.size)
	} else {
		vol.suspect = true
		if v.mu.active == vol {
			v.retireLocked(vol)
		}
		v.log.Error("a volume failed and is not written to any more", "volume", vol.path)
	}
	if durable && vol.state == volumeActive && !vol.gone && len(vol.writers) < maxWriters {
		vol.writers = append(vol.writers, w.file)
	} else {
		_ = w.file.Close() // what it wrote is synced, or given up
	}
	v.unpinLocked(vol)
}

// retireLocked takes no more records into the active volume.
func (v *volumes) retireLocked(vol *volume) {
	vol.state = volumeFull
	vol.since = time.Now()
	closeAll(vol.writers)
	vol.writers = nil
	if v.mu.active == vol {
		v.mu.active = nil
	}
	v.poke()
}

func (v *volumes) unpinLocked(vol *volume) {
	vol.pins--
	if vol.pins > 0 {
		return
	}
	if vol.gone {
		_ = vol.file.Close() // it was read, or its marks may be lost
	} else if vol.state == volumeFull {
		v.poke()
	}
}

// poke has the volumes tended soon.
func (v *volumes) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// pin returns the record of key, whose volume stays as it is until unpin; nil if it is in none.
func (v *volumes) pin(key string) (*record, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.closed {
		return nil, objstore.ErrClosed // it may be there
	}
	r := v.mu.index.byKey[key]
	if r != nil {
		r.vol.pins++
	}
	return r, nil
}

func (v *volumes) unpin(r *record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unpinLocked(r.vol)
}

// get fills p from the object of key. It tells whether that is in a volume.
func (v *volumes) get(key string, off int64, p []byte) (bool, error) {
	r, err := v.pin(key)
	if r == nil {
		return false, err
	}
	defer v.unpin(r)
	return true, r.readBody(r.vol.file, off, p)
}

// readBody fills p with the bytes of the body at off.
func (h *recordHeader) readBody(f io.ReaderAt, off int64, p []byte) error {
	if off > h.size || int64(len(p)) > h.size-off {
		return fmt.Errorf("%d bytes at %d, the object has %d: %w", len(p), off, h.size, io.ErrUnexpectedEOF)
	}
	if _, err := f.ReadAt(p, h.bodyAt()+off); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes at %d of a volume: %w", len(p), h.bodyAt()+off, err)
	}
	return nil
}

// head describes the object of key by its bytes, all of which it reads. A record that is an object is durable.
func (v *volumes) head(key string) (info objstore.Info, found bool, err error) {
	r, err := v.pin(key)
	if r == nil {
		return objstore.Info{}, false, err
	}
	defer v.unpin(r)
	info, err = r.headBody()
	return info, true, err
}

// headBody describes the object by its bytes.
func (r *record) headBody() (objstore.Info, error) {
	var buf []byte
	sum, err := sumRange(r.vol.file, r.bodyAt(), r.size, &buf)
	return objstore.Info{Key: r.key, Size: r.size, Checksum: sum, HasChecksum: true, ModTime: time.Unix(0, r.mod)}, err
}

// list returns what the index has: see [index.after].
func (v *volumes) list(prefix, after string, limit int) []objstore.Info {
	v.mu.Lock()
	defer v.mu.Unlock()
	return listed(v.mu.index.after(prefix, after, limit))
}

func listed(records []*record) []objstore.Info {
	infos := make([]objstore.Info, len(records))
	for i, r := range records {
		infos[i] = objstore.Info{Key: r.key, Size: r.size, ModTime: time.Unix(0, r.mod)}
	}
	return infos
}

// remove deletes the record of key, whose reservation the caller holds.
func (v *volumes) remove(key string) error {
	r, err := v.pin(key)
	if r == nil {
		return err
	}
	defer v.unpin(r)
	if err := v.markDead(r.vol, &r.recordHeader); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropLocked(r)
	return nil
}

// dropLocked makes a record none.
func (v *volumes) dropLocked(r *record) {
	v.mu.index.drop(r)
	r.vol.live--
	r.vol.bytes -= recordSpace(len(r.key), r.size)
}

// markDead writes the dead mark of a record, without a sync: a process that comes after this one sees it; after a power
// cut the record may be back, which the contract allows.
func (v *volumes) markDead(vol *volume, h *recordHeader) error {
	if err := v.writeAt(vol.file, []byte("DEAD"), h.deadAt()); err != nil {
		return fmt.Errorf("mark record of %s dead: %w", h.key, err)
	}
	return nil
}

// close stops the tending and closes what nobody uses.
func (v *volumes) close() {
	v.stop()
	<-v.tended
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.closed = true
	for _, vol := range v.mu.all {
		v.closeLocked(vol)
	}
}

// closeLocked closes a volume, now or after its last user.
func (v *volumes) closeLocked(vol *volume) {
	closeAll(vol.writers)
	vol.writers = nil
	vol.gone = true
	if vol.pins == 0 {
		_ = vol.file.Close()
	}
}

func volumePath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, volumeSuffix))
}
