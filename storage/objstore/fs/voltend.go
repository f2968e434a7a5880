package fs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"os"
	"time"
)

const (
	defaultTendEvery   = 30 * time.Second
	defaultSparseAfter = 2 * time.Minute

	// spareVolumes is how many volumes must fit in what the disk has free before one is made.
	spareVolumes = 8
	// maxRecords bounds how many objects are in volumes, and so the memory of the index: about 300 bytes each.
	maxRecords = 64 << 10
	// fillBytes is how much of a new volume is handed to the disk at a time, so that Puts need not wait behind it all.
	fillBytes = 1 << 20
)

// tend prepares volumes ahead of need, empties and reuses old ones, in the background and one thing at a time, until
// ctx ends.
func (v *volumes) tend(ctx context.Context) {
	defer close(v.tended)
	timer := time.NewTimer(v.tendEvery)
	defer timer.Stop()
	for {
		for ctx.Err() == nil && v.step(ctx) {
		}
		var tick <-chan time.Time
		if v.ticking() {
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		case <-tick:
			v.tick()
			timer.Reset(v.tendEvery)
		}
	}
}

// ticking tells whether time alone can bring something to do. A store at rest is left alone.
func (v *volumes) ticking() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.troubled || v.mu.rolls > 0 || len(v.mu.ready) > 1 || len(v.mu.all) > len(v.mu.ready)+1
}

// tick drops volumes that were not needed since the last one, and chooses one of which little is left.
func (v *volumes) tick() {
	v.mu.Lock()
	var surplus []*volume
	if keep := max(1, v.mu.rolls); len(v.mu.ready) > keep {
		surplus = append(surplus, v.mu.ready[keep:]...)
		v.mu.ready = v.mu.ready[:keep:keep]
	}
	v.mu.rolls = 0
	v.mu.troubled = false
	v.mu.sparse = nil
	if vol := v.oldestLocked(); vol != nil && vol.bytes*4 <= vol.size && time.Since(vol.since) >= v.sparseAfter {
		v.mu.sparse = vol
	}
	v.mu.Unlock()
	for _, vol := range surplus {
		v.removeVolume(vol)
	}
}

// oldestLocked returns the full volume with objects that has been in use longest.
func (v *volumes) oldestLocked() *volume {
	var oldest *volume
	for _, vol := range v.mu.all {
		if vol.state == volumeFull && vol.live > 0 && (oldest == nil || vol.serial < oldest.serial) {
			oldest = vol
		}
	}
	return oldest
}

// step does what is most urgent and tells whether it did something.
func (v *volumes) step(ctx context.Context) bool {
	v.mu.Lock()
	if v.mu.full {
		v.mu.full, v.mu.troubled = false, true
		surplus := v.mu.ready
		v.mu.ready = nil
		v.mu.Unlock()
		for _, vol := range surplus {
			v.removeVolume(vol)
		}
		return true
	}
	for _, vol := range v.mu.all {
		if vol.state != volumeFull {
			continue
		}
		if vol.live == 0 && vol.pins == 0 {
			reuse := !vol.suspect && vol.size == v.size && v.most >= 0 && len(v.mu.all) <= v.budget
			v.mu.Unlock()
			if reuse {
				v.recycle(vol)
			} else {
				v.removeVolume(vol)
			}
			return true
		}
		if !vol.sealed && !vol.suspect && vol.writing == 0 && vol.live > 0 {
			vol.pins++
			v.mu.Unlock()
			v.seal(vol)
			return true
		}
	}
	if v.mu.troubled {
		v.mu.Unlock()
		return false
	}
	if vol := v.crowdedLocked(); vol != nil {
		v.mu.sparse = nil
		v.mu.Unlock()
		if err := v.moveOut(ctx, vol); err != nil {
			v.trouble(ctx, "cannot move the objects of a volume to files", err)
		}
		return true
	}
	another := v.wantedLocked() && len(v.mu.all) < v.budget
	v.mu.Unlock()
	if !another {
		return false
	}
	if err := v.prepare(ctx); err != nil {
		v.trouble(ctx, "cannot make a volume", err)
	}
	return true
}

func (v *volumes) trouble(ctx context.Context, msg string, err error) {
	if ctx.Err() != nil {
		return
	}
	level := slog.LevelWarn
	if errors.Is(err, errLowSpace) {
		level = slog.LevelDebug // nothing is wrong, and it will be so for long
	}
	v.log.Log(ctx, level, "small objects are stored as files meanwhile", "reason", msg, "error", err)
	v.mu.Lock()
	v.mu.troubled = true
	v.mu.Unlock()
}

// wantedLocked tells whether another volume should be ready.
func (v *volumes) wantedLocked() bool {
	a := v.mu.active
	switch {
	case v.most < 0:
		return false
	case a == nil:
		return v.mu.puts >= warmPuts && len(v.mu.ready) == 0
	case v.mu.rolls > 1:
		return len(v.mu.ready) < 2
	}
	return a.next > a.size/2 && len(v.mu.ready) == 0
}

// crowdedLocked returns the volume to be emptied, if there is one.
func (v *volumes) crowdedLocked() *volume {
	if v.mu.sparse != nil && v.mu.sparse.live > 0 {
		return v.mu.sparse
	}
	for _, vol := range v.mu.all {
		if vol.state == volumeFull && vol.suspect && vol.live > 0 && vol.writing == 0 {
			return vol
		}
	}
	if v.most < 0 || len(v.mu.all) > v.budget || len(v.mu.index.byKey) > v.maxRecords ||
		len(v.mu.all) == v.budget && v.wantedLocked() {
		return v.oldestLocked()
	}
	return nil
}

// seal writes that all records of a full volume that are not dead are whole and durable, without a sync: if the mark is
// lost, the next Open checks them. The caller pinned the volume.
func (v *volumes) seal(vol *volume) {
	err := v.writeAt(vol.file, vol.encodeSeal(), sealAt)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.log.Warn("cannot seal a volume", "volume", vol.path, "error", err)
		vol.suspect = true
	} else {
		vol.sealed = true
	}
	v.unpinLocked(vol)
}

// recycle gives an empty volume a new generation, durable before it takes records, which would overwrite those of the
// old one. Nobody uses the volume and nobody can find it.
func (v *volumes) recycle(vol *volume) {
	v.mu.Lock()
	v.mu.serial++
	h := volumeHeader{generation: newGeneration(), serial: v.mu.serial}
	v.mu.Unlock()
	err := v.writeAt(vol.file, h.encode(), 0)
	if err == nil {
		err = v.sync(vol.file)
	}
	if err != nil {
		v.log.Error("a volume failed and is removed", "volume", vol.path, "error", err)
		v.removeVolume(vol)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	vol.volumeHeader = h
	vol.state = volumeReady
	vol.next = blockBytes
	v.mu.ready = append(v.mu.ready, vol)
}

// removeVolume removes a volume without objects. Should a power cut bring it back, it holds what was dead or moved.
func (v *volumes) removeVolume(vol *volume) {
	v.mu.Lock()
	delete(v.mu.all, vol.number)
	vol.state = volumeFull
	v.closeLocked(vol)
	v.mu.Unlock()
	if err := os.Remove(vol.path); err != nil {
		v.log.Warn("cannot remove a volume", "volume", vol.path, "error", err)
	}
}

// errLowSpace says that the disk is too full for another volume.
var errLowSpace = errors.New("there is little space left on the disk")

// prepare makes a volume. All its blocks are written and synced, so that writing them again changes nothing but them.
func (v *volumes) prepare(ctx context.Context) (err error) {
	if free, ok := v.free(v.store.root); ok && free < spareVolumes*v.size {
		return fmt.Errorf("%w: %d bytes", errLowSpace, free)
	}
	if err := v.makeFolder(); err != nil {
		return err
	}
	v.mu.Lock()
	v.mu.number++
	v.mu.serial++
	number := v.mu.number
	h := volumeHeader{generation: newGeneration(), serial: v.mu.serial}
	v.mu.Unlock()

	name := volumePath(v.dir, number)
	tmp := name + unfinishedTmp
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_RDWR, filePerm) //nolint:gosec // a name of ours
	if err != nil {
		return err
	}
	err = v.fill(ctx, f, h)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := v.store.syncFolder(v.dir); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	if f, err = os.OpenFile(name, os.O_RDWR, 0); err != nil { //nolint:gosec // a name of ours
		return errors.Join(err, os.Remove(name))
	}
	vol := &volume{path: name, number: number, size: v.size, file: f, volumeHeader: h, next: blockBytes}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.all[number] = vol
	v.mu.ready = append(v.mu.ready, vol)
	return nil
}

func (v *volumes) makeFolder() error {
	if err := os.Mkdir(v.dir, folderPerm); err != nil {
		if errors.Is(err, iofs.ErrExist) {
			return nil
		}
		return err
	}
	return v.store.syncFolder(v.store.root)
}

// fill writes zeros and, in the end, the header.
func (v *volumes) fill(ctx context.Context, f *os.File, h volumeHeader) error {
	if err := allocate(f, v.size); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	zeros := make([]byte, min(v.size, fillBytes))
	for off := int64(0); off < v.size; off += int64(len(zeros)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := zeros[:min(int64(len(zeros)), v.size-off)]
		if err := v.writeAt(f, p, off); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		writeOut(f, off, int64(len(p)))
	}
	if err := v.writeAt(f, h.encode(), 0); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// newGeneration returns a random number that is not zero.
func newGeneration() uint64 {
	var p [8]byte
	for {
		_, _ = rand.Read(p[:]) // never fails
		if g := binary.LittleEndian.Uint64(p[:]); g != 0 {
			return g
		}
	}
}

// makeRoom has volumes that are not needed given back, because the disk is full.
func (v *volumes) makeRoom() {
	v.mu.Lock()
	v.mu.full = true
	v.mu.Unlock()
	v.poke()
}
