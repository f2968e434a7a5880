package recordbatch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// DefaultLevel is the level a codec is used with when nothing else is said,
// for every codec: gzip 6, lz4 fast, zstd 3.
const DefaultLevel = 0

// Recompress returns the batch b compressed with c (compression.type other
// than "producer"), at a level of the codec's own scale (gzip 1–9, lz4 1–17,
// zstd up to 22; [DefaultLevel] for the default; others go to the nearest;
// snappy has none). Header fields other than length, codec and checksum stay,
// and the records stay byte for byte. A batch that has the codec already, and
// a control batch, are returned as they are: the result may alias b.
//
// b must be a batch that [Validate] accepted; maxDecompressed bounds the
// memory used (0: DefaultMaxDecompressedBytes).
func Recompress(b []byte, c Codec, level int, maxDecompressed int64) ([]byte, error) {
	if !c.known() {
		return nil, newError(KindUnsupportedCompression, "compression codec %d is not known", c)
	}
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.Compression() == c || h.IsControl() {
		return b, nil
	}
	h, body, err := openBody(b, maxDecompressed)
	if err != nil {
		return nil, err
	}
	out := make([]byte, HeaderSize, HeaderSize+len(body)/2+64)
	if out, err = compress(out, c, level, body); err != nil {
		return nil, err
	}
	h.Attributes = h.Attributes&^attrCodec | int16(c)
	return finish(out, h), nil
}

// finish writes the header of the batch out, its length and checksum computed.
func finish(out []byte, h Header) []byte {
	h.Length = int32(len(out) - logOverhead)
	h.put(out)
	setChecksum(out)
	return out
}

// levelPools holds one pool of encoders per level; levels are clamped before,
// so their number is bounded.
type levelPools struct {
	mu    sync.Mutex
	pools map[int]*sync.Pool
}

func (l *levelPools) get(level int) *sync.Pool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pools == nil {
		l.pools = map[int]*sync.Pool{}
	}
	p := l.pools[level]
	if p == nil {
		p = new(sync.Pool)
		l.pools[level] = p
	}
	return p
}

var gzipWriters, lz4Writers, zstdEncoders levelPools

// compress appends the compressed body to dst.
func compress(dst []byte, c Codec, level int, body []byte) ([]byte, error) {
	switch c {
	case CodecNone:
		return append(dst, body...), nil
	case CodecGzip:
		return compressGzip(dst, level, body)
	case CodecSnappy:
		return compressSnappy(dst, body), nil
	case CodecLZ4:
		return compressLZ4(dst, level, body)
	case CodecZstd:
		return compressZstd(dst, level, body)
	default:
		return nil, newError(KindUnsupportedCompression, "compression codec %d is not known", c)
	}
}

func compressGzip(dst []byte, level int, body []byte) ([]byte, error) {
	if level == DefaultLevel || level < gzip.DefaultCompression {
		level = gzip.DefaultCompression
	}
	level = min(level, gzip.BestCompression)
	out := bytes.NewBuffer(dst)
	pool := gzipWriters.get(level)
	zw, _ := pool.Get().(*gzip.Writer)
	if zw == nil {
		var err error
		if zw, err = gzip.NewWriterLevel(nil, level); err != nil {
			return nil, fmt.Errorf("prepare gzip encoder: %w", err)
		}
	}
	defer pool.Put(zw)
	zw.Reset(out)
	if _, err := zw.Write(body); err != nil {
		return nil, fmt.Errorf("compress with gzip: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("compress with gzip: %w", err)
	}
	return out.Bytes(), nil
}

// xerialBlock is the block size of Kafka's Java producer.
const xerialBlock = 32 << 10

// compressSnappy writes the Java producer's framing: the Java consumer reads
// both, but only framed blocks piecewise.
func compressSnappy(dst, body []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1) // version, compatible version
	for len(body) > 0 {
		block := body[:min(len(body), xerialBlock)]
		body = body[len(block):]
		at := len(dst)
		need := 4 + snappy.MaxEncodedLen(len(block))
		if cap(dst)-at < need {
			dst = append(make([]byte, 0, 2*cap(dst)+need), dst...)
		}
		enc := snappy.Encode(dst[at+4:at+need], block)
		dst = dst[:at+4+len(enc)]
		binary.BigEndian.PutUint32(dst[at:], uint32(len(enc)))
	}
	return dst
}

// lz4Level maps the levels of LZ4's own scale, 1 to 17 with the hash chain
// from 3 on, to the library's.
func lz4Level(level int) lz4.CompressionLevel {
	levels := [...]lz4.CompressionLevel{
		lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4, lz4.Level5, lz4.Level6, lz4.Level7, lz4.Level8, lz4.Level9,
	}
	if level < 3 {
		return lz4.Fast
	}
	return levels[min(level, len(levels))-1]
}

func compressLZ4(dst []byte, level int, body []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	l := lz4Level(level)
	pool := lz4Writers.get(int(l))
	zw, _ := pool.Get().(*lz4.Writer)
	if zw == nil {
		zw = lz4.NewWriter(nil)
		err := zw.Apply(lz4.CompressionLevelOption(l), lz4.ConcurrencyOption(1),
			lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false))
		if err != nil {
			return nil, fmt.Errorf("prepare lz4 encoder: %w", err)
		}
	}
	defer pool.Put(zw)
	zw.Reset(out)
	if _, err := zw.Write(body); err != nil {
		return nil, fmt.Errorf("compress with lz4: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("compress with lz4: %w", err)
	}
	return out.Bytes(), nil
}

func compressZstd(dst []byte, level int, body []byte) ([]byte, error) {
	l := zstd.SpeedDefault
	if level != DefaultLevel {
		l = zstd.EncoderLevelFromZstd(level)
	}
	pool := zstdEncoders.get(int(l))
	ze, _ := pool.Get().(*zstd.Encoder)
	if ze == nil {
		var err error
		ze, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(l), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
		if err != nil {
			return nil, fmt.Errorf("prepare zstd encoder: %w", err)
		}
	}
	defer pool.Put(ze)
	return ze.EncodeAll(body, dst), nil
}
