package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

const sumSize = 4

// decoder reads varints from bounded bytes. The first problem sticks; every read after it gives zero.
type decoder struct {
	b   []byte
	off int
	err error
}

func (d *decoder) left() int { return len(d.b) - d.off }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: at byte %d: %s", ErrCorrupt, d.off, fmt.Sprintf(format, args...))
	}
	d.off = len(d.b)
}

func (d *decoder) uvarint() uint64 {
	if d.off < len(d.b) {
		if v := d.b[d.off]; v < 0x80 {
			d.off++
			return uint64(v)
		}
	}
	return d.longUvarint()
}

// longUvarint refuses overlong forms, so that a value has one encoding.
func (d *decoder) longUvarint() uint64 {
	v, n := binary.Uvarint(d.b[d.off:])
	if n <= 0 || n > 1 && d.b[d.off+n-1] == 0 {
		d.fail("a varint is cut short, overlong or too large")
		return 0
	}
	d.off += n
	return v
}

// varint reads a zigzag coded number.
func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// bounded reads an unsigned number of at most limit.
func (d *decoder) bounded(limit int64, what string) int64 {
	v := d.uvarint()
	if v > uint64(limit) {
		d.fail("%s is %d, at most %d is possible", what, v, limit)
		return 0
	}
	return int64(v)
}

// count reads a number of things of which each takes at least size bytes of those left.
func (d *decoder) count(size int, what string) int {
	return int(d.bounded(int64(d.left()/size), what))
}

// narrow reads a zigzag coded number that fits 32 bits.
func (d *decoder) narrow(what string) int32 {
	v := d.varint()
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.fail("%s is %d", what, v)
		return 0
	}
	return int32(v)
}

func (d *decoder) bytes(n int) []byte {
	if d.left() < n {
		d.fail("%d bytes expected, %d left", n, d.left())
		return nil
	}
	b := d.b[d.off : d.off+n]
	d.off += n
	return b
}

// open checks the version byte in front and the checksum behind of a catalog value, and returns what lies between.
func open(b []byte, version byte, limit int, what string) (*decoder, error) {
	switch {
	case len(b) > limit:
		return nil, fmt.Errorf("decode %s: %w: %d bytes, at most %d are possible", what, ErrCorrupt, len(b), limit)
	case len(b) < 1+sumSize:
		return nil, fmt.Errorf("decode %s: %w: it has %d bytes", what, ErrCorrupt, len(b))
	case b[0] != version:
		// Before the checksum: another version may keep it elsewhere.
		return nil, fmt.Errorf("decode %s: %w %d, this binary knows version %d", what, ErrVersion, b[0], version)
	}
	body := b[:len(b)-sumSize]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(b[len(body):]); got != want {
		return nil, fmt.Errorf("decode %s: %w: checksum is %08x instead of %08x", what, ErrCorrupt, got, want)
	}
	return &decoder{b: body, off: 1}, nil
}

// closing returns the decoder's error, or one if bytes are left.
func (d *decoder) closing(what string) error {
	if d.err == nil && d.left() > 0 {
		d.fail("%d bytes are left over", d.left())
	}
	if d.err != nil {
		return fmt.Errorf("decode %s: %w", what, d.err)
	}
	return nil
}

// appendSum closes what was appended to b since start.
func appendSum(b []byte, start int) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func appendUvarint[T ~int | ~int32 | ~int64 | ~uint64](b []byte, v T) []byte {
	if uint64(v) < 0x80 {
		return append(b, byte(v))
	}
	return binary.AppendUvarint(b, uint64(v))
}

func appendVarint(b []byte, v int64) []byte {
	return appendUvarint(b, uint64(v)<<1^uint64(v>>63))
}
