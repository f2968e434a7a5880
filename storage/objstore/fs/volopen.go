package fs

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// openVolumes finds the volumes and what is in them, makes sure that all of it is durable, and starts the tending.
func openVolumes(s *Store, opts Options) (*volumes, error) {
	v := &volumes{
		store:       s,
		dir:         filepath.Join(s.root, volumesName),
		log:         opts.Logger,
		most:        opts.VolumeObjectBytes,
		size:        opts.VolumeBytes,
		budget:      int(opts.VolumeBudget / opts.VolumeBytes),
		maxRecords:  maxRecords,
		tendEvery:   defaultTendEvery,
		sparseAfter: defaultSparseAfter,
		writeAt:     writeAt,
		sync:        syncData,
		free:        freeBytes,
		wake:        make(chan struct{}, 1),
		tended:      make(chan struct{}),
	}
	v.mu.index = newIndex()
	v.mu.busy = make(map[string]*reservation)
	v.mu.all = make(map[uint64]*volume)
	if err := v.load(); err != nil {
		for _, vol := range v.mu.all {
			_ = vol.file.Close()
		}
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	return v, nil
}

// start starts the tending.
func (v *volumes) start() {
	ctx, cancel := context.WithCancel(context.Background())
	v.stop = cancel
	go v.tend(ctx)
}

// writeAt writes all of p, or fails.
func writeAt(f *os.File, p []byte, off int64) error {
	_, err := f.WriteAt(p, off)
	return err
}

// volumeFiles returns the numbers of the volumes in a folder, and the names of volumes that were not finished.
func volumeFiles(dir string) (numbers []uint64, unfinished []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), unfinishedTmp) {
			unfinished = append(unfinished, e.Name())
			continue
		}
		number, ok := volumeNumber(e.Name())
		if ok && e.Type().IsRegular() {
			numbers = append(numbers, number)
		}
	}
	return numbers, unfinished, nil
}

// volumeNumber parses the name of a volume file.
func volumeNumber(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, volumeSuffix)
	if !ok || len(hex) != 16 || strings.ToLower(hex) != hex {
		return 0, false
	}
	number, err := strconv.ParseUint(hex, 16, 64)
	return number, err == nil
}

// loaded is a volume and what a scan found in it.
type loaded struct {
	vol     *volume
	records []recordHeader // not dead, not torn
	torn    []recordHeader
	maxSeq  uint64
	any     bool // there are records, dead ones perhaps
	err     error
}

func (v *volumes) load() error {
	numbers, unfinished, err := volumeFiles(v.dir)
	if err != nil {
		return err
	}
	for _, name := range unfinished {
		if err := os.Remove(filepath.Join(v.dir, name)); err != nil {
			return fmt.Errorf("clear an unfinished volume: %w", err)
		}
	}
	results := make([]loaded, len(numbers))
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	for i, number := range numbers {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = v.loadOne(number)
		})
	}
	wg.Wait()
	var errs []error
	for i := range results {
		if results[i].vol != nil {
			v.mu.all[results[i].vol.number] = results[i].vol
		}
		errs = append(errs, results[i].err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	v.take(results)
	return nil
}

// loadOne opens and scans a volume. What may hold records that nobody was told of, torn ones among them, is checked,
// cleared of these, and synced.
func (v *volumes) loadOne(number uint64) (l loaded) {
	path := volumePath(v.dir, number)
	f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // a name of ours
	if err != nil {
		l.err = err
		return l
	}
	vol := &volume{path: path, number: number, file: f, state: volumeFull, since: time.Now()}
	l.vol = vol
	fail := func(err error) loaded {
		l.err = fmt.Errorf("volume %s: %w", path, err)
		return l
	}
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	vol.size = min(info.Size(), maxVolumeBytes) &^ (blockBytes - 1)
	vol.volumeHeader, err = readVolumeHeader(f)
	if errors.Is(err, errVolume) {
		// Records name their generation too.
		vol.suspect = true
		if vol.volumeHeader, err = latestGeneration(f, vol.size); err == nil {
			v.log.Error("the header of a volume is damaged; its objects are moved to files", "volume", path, "generation", vol.generation)
		}
	}
	if err != nil {
		return fail(err)
	}
	scan := volumeScan{file: f, size: vol.size, generation: vol.generation, verify: !vol.sealed}
	vol.next, err = scan.run(blockBytes, func(h recordHeader, torn bool) {
		l.any = true
		l.maxSeq = max(l.maxSeq, h.seq)
		switch {
		case h.dead:
		case torn:
			l.torn = append(l.torn, h)
		default:
			l.records = append(l.records, h)
		}
	})
	if err != nil {
		return fail(err)
	}
	if vol.sealed {
		return l
	}
	for i := range l.torn {
		// Before anything can seal the volume, which would vouch for them.
		if err := v.markDead(vol, &l.torn[i]); err != nil {
			return fail(err)
		}
	}
	if l.any {
		// What is whole is shown from now on, so it has to last, whether its Put was told of it or killed.
		if err := v.sync(f); err != nil {
			return fail(fmt.Errorf("sync: %w", err))
		}
	}
	return l
}

// latestGeneration finds out what a volume holds whose header cannot be read: the newest of its records are of its
// latest use. An empty volume gets a generation that nothing has.
func latestGeneration(f *os.File, size int64) (volumeHeader, error) {
	h := volumeHeader{generation: newGeneration()}
	var newest uint64
	scan := volumeScan{file: f, size: size}
	_, err := scan.run(blockBytes, func(r recordHeader, _ bool) {
		if r.seq >= newest {
			newest, h.generation = r.seq, r.generation
		}
	})
	return h, err
}

// take builds the index and finds a place for the next records.
func (v *volumes) take(results []loaded) {
	for i := range results {
		l := &results[i]
		vol := l.vol
		v.mu.number = max(v.mu.number, vol.number)
		v.mu.serial = max(v.mu.serial, vol.serial)
		v.mu.seq = max(v.mu.seq, l.maxSeq)
		for j := range l.torn {
			v.log.Info("dropped an object that was being put when the process or the machine stopped", "key", l.torn[j].key, "volume", vol.path)
		}
		for _, h := range l.records {
			r := &record{recordHeader: h, vol: vol}
			if other := v.mu.index.byKey[r.key]; other != nil {
				// A power cut brought one back that had been deleted and put again.
				older := other
				if other.seq > r.seq {
					older = r
				} else {
					v.dropLocked(other)
				}
				if err := v.markDead(older.vol, &older.recordHeader); err != nil {
					v.log.Warn("cannot mark an older object of the same key", "error", err)
				}
				if older == r {
					continue
				}
			}
			v.mu.index.add(r)
			vol.live++
			vol.bytes += recordSpace(len(r.key), r.size)
		}
		if vol.suspect || vol.sealed || vol.size != v.size || v.most < 0 {
			continue
		}
		if !l.any {
			vol.state = volumeReady
			v.mu.ready = append(v.mu.ready, vol)
		} else if a := v.mu.active; a == nil || a.serial < vol.serial {
			if a != nil {
				a.state = volumeFull
			}
			vol.state = volumeActive
			v.mu.active = vol
		}
	}
}
