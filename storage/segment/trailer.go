package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	objectVersion = 1
	footerVersion = 1
	headerSize    = 8
	trailerSize   = 32

	headerMagic  = "SHOB"
	trailerMagic = "SHOBJEND"
)

// objectHeader is the first 8 bytes of every object: magic, version, three zeros. Shared, never written to.
var objectHeader = []byte(headerMagic + string(rune(objectVersion)) + "\x00\x00\x00")

// trailer is the last 32 bytes of every object, little-endian:
//
//	0  u64 bytes of header and record data: where the footer starts
//	8  u32 bytes of the footer
//	12 u32 CRC-32C of the footer
//	16 u32 object version
//	20 u32 CRC-32C of bytes 0–19
//	24 magic SHOBJEND
type trailer struct {
	dataEnd   int64
	footerLen int64
	footerSum uint32
}

// appendTrailer closes dst, which holds the footer and nothing else.
func appendTrailer(dst []byte, dataEnd int64) []byte {
	n := len(dst)
	sum := crc32.Checksum(dst, castagnoli)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(dataEnd))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	dst = binary.LittleEndian.AppendUint32(dst, objectVersion)
	dst = appendSum(dst, n)
	return append(dst, trailerMagic...)
}

func decodeTrailer(p []byte, size int64) (trailer, error) {
	bad := func(format string, args ...any) (trailer, error) {
		return trailer{}, fmt.Errorf("decode trailer: %w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if len(p) != trailerSize || string(p[24:]) != trailerMagic {
		return bad("the object does not end as one does")
	}
	if v := binary.LittleEndian.Uint32(p[16:]); v != objectVersion {
		return trailer{}, fmt.Errorf("decode trailer: %w %d, this binary knows version %d", ErrVersion, v, objectVersion)
	}
	if crc32.Checksum(p[:20], castagnoli) != binary.LittleEndian.Uint32(p[20:]) {
		return bad("its checksum does not match")
	}
	dataEnd := binary.LittleEndian.Uint64(p)
	t := trailer{
		footerLen: int64(binary.LittleEndian.Uint32(p[8:])),
		footerSum: binary.LittleEndian.Uint32(p[12:]),
	}
	if dataEnd < headerSize || dataEnd > MaxObjectBytes || t.footerLen > MaxFooterBytes ||
		int64(dataEnd)+t.footerLen+trailerSize != size {
		return bad("%d bytes of data, %d of footer, but the object has %d bytes", dataEnd, t.footerLen, size)
	}
	t.dataEnd = int64(dataEnd)
	return t, nil
}

func checkHeader(p []byte) error {
	switch {
	case len(p) < headerSize || string(p[:4]) != headerMagic:
		return fmt.Errorf("%w: the object does not start as one does", ErrCorrupt)
	case p[4] != objectVersion:
		return fmt.Errorf("decode header: %w %d, this binary knows version %d", ErrVersion, p[4], objectVersion)
	case p[5]|p[6]|p[7] != 0:
		return fmt.Errorf("%w: reserved bytes of the header are not zero", ErrCorrupt)
	}
	return nil
}
