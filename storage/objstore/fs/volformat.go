package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// The layout of a volume is described in docs/formats/volume.md. All numbers are little-endian.
const (
	// blockBytes is what everything in a volume is aligned to: no two records share a page, so writing one can harm
	// no other, whatever tears.
	blockBytes = 4096
	// sealAt is where the seal is in the first block: a disk sector of its own.
	sealAt = 512

	volumeMagic   = "SHVOLUME"
	sealMagic     = "SHSEALED"
	volumeVersion = 1
	recordMagic   = 0x43524853 // "SHRC"
	recordDead    = 0x44414544 // "DEAD"

	volumeHeaderBytes = 36
	sealBytes         = 20
	recordHeaderBytes = 56 // before the key
	deadAt            = 4  // where a record's dead mark is

	// maxVolumeBytes bounds a volume file, whatever its size says.
	maxVolumeBytes = 1 << 30
	// maxHeaderBytes is a record's header with the longest key.
	maxHeaderBytes = recordHeaderBytes + objstore.MaxKeyBytes
)

// errVolume says that the first block of a volume is not that of a volume of this version.
var errVolume = errors.New("damaged volume header")

// volumeHeader is what the first block of a volume says.
type volumeHeader struct {
	// generation is random, not zero, and new for each use of the file: what it holds of earlier uses is not taken for
	// records, and no client can make bytes that are.
	generation uint64
	// serial orders the uses of all volumes.
	serial uint64
	// sealed says that all records not marked dead are whole and durable.
	sealed bool
}

// encode returns the first block.
func (h volumeHeader) encode() []byte {
	p := make([]byte, blockBytes)
	copy(p, volumeMagic)
	binary.LittleEndian.PutUint32(p[8:], volumeVersion)
	binary.LittleEndian.PutUint64(p[16:], h.generation)
	binary.LittleEndian.PutUint64(p[24:], h.serial)
	binary.LittleEndian.PutUint32(p[32:], objstore.Checksum(p[:32]))
	if h.sealed {
		copy(p[sealAt:], h.encodeSeal())
	}
	return p
}

func (h volumeHeader) encodeSeal() []byte {
	p := make([]byte, sealBytes)
	copy(p, sealMagic)
	binary.LittleEndian.PutUint64(p[8:], h.generation)
	binary.LittleEndian.PutUint32(p[16:], objstore.Checksum(p[:16]))
	return p
}

// decodeVolumeHeader reads the front of a first block, up to the end of the seal.
func decodeVolumeHeader(p []byte) (volumeHeader, error) {
	if len(p) < sealAt+sealBytes {
		return volumeHeader{}, fmt.Errorf("%w: %d bytes are there", errVolume, len(p))
	}
	if string(p[:8]) != volumeMagic {
		return volumeHeader{}, fmt.Errorf("%w: it does not start as one", errVolume)
	}
	if sum := objstore.Checksum(p[:32]); sum != binary.LittleEndian.Uint32(p[32:]) {
		return volumeHeader{}, fmt.Errorf("%w: wrong checksum", errVolume)
	}
	if v := binary.LittleEndian.Uint32(p[8:]); v != volumeVersion {
		return volumeHeader{}, fmt.Errorf("volume of version %d; this program knows version %d", v, volumeVersion)
	}
	h := volumeHeader{generation: binary.LittleEndian.Uint64(p[16:]), serial: binary.LittleEndian.Uint64(p[24:])}
	if h.generation == 0 {
		return volumeHeader{}, fmt.Errorf("%w: no generation", errVolume)
	}
	seal := p[sealAt : sealAt+sealBytes]
	h.sealed = string(seal[:8]) == sealMagic && binary.LittleEndian.Uint64(seal[8:]) == h.generation &&
		binary.LittleEndian.Uint32(seal[16:]) == objstore.Checksum(seal[:16])
	return h, nil
}

func readVolumeHeader(r io.ReaderAt) (volumeHeader, error) {
	var p [sealAt + sealBytes]byte
	n, err := r.ReadAt(p[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return volumeHeader{}, fmt.Errorf("read volume header: %w", err)
	}
	return decodeVolumeHeader(p[:n])
}

// recordHeader is what stands before the body of an object in a volume.
type recordHeader struct {
	generation uint64
	// seq orders the records of all volumes: of two of one key the higher one counts.
	seq  uint64
	off  int64 // of the header, in the volume; a multiple of blockBytes
	mod  int64 // nanoseconds since 1970
	size int64 // of the body, in bytes
	sum  uint32
	key  string
	dead bool
}

func (h *recordHeader) bytes() int64  { return recordHeaderBytes + int64(len(h.key)) }
func (h *recordHeader) bodyAt() int64 { return h.off + h.bytes() }
func (h *recordHeader) end() int64    { return h.off + recordSpace(len(h.key), h.size) }
func (h *recordHeader) deadAt() int64 { return h.off + deadAt }
func (h *recordHeader) same(o *recordHeader) bool {
	return h.generation == o.generation && h.seq == o.seq && h.off == o.off && h.size == o.size && h.sum == o.sum && h.key == o.key
}

// recordSpace is what a record takes in a volume, in bytes.
func recordSpace(key int, size int64) int64 {
	return (recordHeaderBytes + int64(key) + size + blockBytes - 1) &^ (blockBytes - 1)
}

// encode writes the header to p, which has room for it.
func (h *recordHeader) encode(p []byte) {
	binary.LittleEndian.PutUint32(p, recordMagic)
	binary.LittleEndian.PutUint32(p[deadAt:], 0)
	binary.LittleEndian.PutUint64(p[8:], h.generation)
	binary.LittleEndian.PutUint64(p[16:], h.seq)
	binary.LittleEndian.PutUint64(p[24:], uint64(h.off))
	binary.LittleEndian.PutUint64(p[32:], uint64(h.mod))
	binary.LittleEndian.PutUint32(p[40:], uint32(h.size))
	binary.LittleEndian.PutUint32(p[44:], h.sum)
	binary.LittleEndian.PutUint16(p[48:], uint16(len(h.key)))
	binary.LittleEndian.PutUint16(p[50:], 0)
	copy(p[recordHeaderBytes:], h.key)
	binary.LittleEndian.PutUint32(p[52:], recordHeaderSum(p, len(h.key)))
}

// recordHeaderSum is over everything but the dead mark, which is written later on its own, and itself.
func recordHeaderSum(p []byte, key int) uint32 {
	return objstore.Checksum(p[:4], p[8:52], p[recordHeaderBytes:recordHeaderBytes+key])
}

// decodeRecordHeader tells whether p starts with the header of a record of generation that stands at off in a volume of
// volSize bytes. A generation of 0 stands for any. Most blocks that are none differ in the first bytes.
func decodeRecordHeader(p []byte, generation uint64, off, volSize int64) (recordHeader, bool) {
	if len(p) < recordHeaderBytes || binary.LittleEndian.Uint32(p) != recordMagic {
		return recordHeader{}, false
	}
	h := recordHeader{
		generation: binary.LittleEndian.Uint64(p[8:]),
		seq:        binary.LittleEndian.Uint64(p[16:]),
		off:        off,
		mod:        int64(binary.LittleEndian.Uint64(p[32:])),
		size:       int64(binary.LittleEndian.Uint32(p[40:])),
		sum:        binary.LittleEndian.Uint32(p[44:]),
		dead:       binary.LittleEndian.Uint32(p[deadAt:]) == recordDead,
	}
	n := int(binary.LittleEndian.Uint16(p[48:]))
	switch {
	case h.generation == 0, generation != 0 && h.generation != generation,
		binary.LittleEndian.Uint64(p[24:]) != uint64(off),
		n == 0, n > objstore.MaxKeyBytes, recordHeaderBytes+n > len(p),
		recordSpace(n, h.size) > volSize-off,
		binary.LittleEndian.Uint32(p[52:]) != recordHeaderSum(p, n):
		return recordHeader{}, false
	}
	h.key = string(p[recordHeaderBytes : recordHeaderBytes+n])
	return h, objstore.ValidateKey(h.key) == nil
}
