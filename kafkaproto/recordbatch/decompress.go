package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A decoder is a stream of decompressed bytes over a compressed body that is
// in memory. Decoders are pooled: what costs is their windows, not they.
type decoder interface {
	io.Reader
	// reset starts over with another body, of which at most limit bytes will be
	// wanted; the decoder must not allocate more than about that for a body
	// that claims more.
	reset(body []byte, limit int64) error
	// release lets go of the body, and of what is too large to keep, before
	// the decoder goes back to its pool.
	release()
}

var decoderPools = [...]sync.Pool{
	CodecGzip:   {New: func() any { return new(gzipDecoder) }},
	CodecSnappy: {New: func() any { return new(snappyDecoder) }},
	CodecLZ4:    {New: func() any { return newLZ4Decoder() }},
	CodecZstd:   {New: func() any { return newZstdDecoder() }},
}

// openDecoder returns a pooled decoder for the body; hand it to closeDecoder.
func openDecoder(c Codec, body []byte, limit int64) (decoder, error) {
	d := decoderPools[c].Get().(decoder)
	if err := d.reset(body, limit); err != nil {
		closeDecoder(c, d)
		return nil, err
	}
	return d, nil
}

func closeDecoder(c Codec, d decoder) {
	d.release()
	decoderPools[c].Put(d)
}

type gzipDecoder struct {
	src bytes.Reader
	zr  gzip.Reader
}

func (d *gzipDecoder) reset(body []byte, _ int64) error {
	d.src.Reset(body)
	return d.zr.Reset(&d.src)
}
func (d *gzipDecoder) Read(p []byte) (int, error) { return d.zr.Read(p) }
func (d *gzipDecoder) release()                   { d.src.Reset(nil) }

type lz4Decoder struct {
	src bytes.Reader
	zr  *lz4.Reader
}

func newLZ4Decoder() *lz4Decoder {
	d := &lz4Decoder{zr: lz4.NewReader(nil)}
	// A goroutine per block costs more than a batch; the option is known and
	// the reader fresh, so this cannot fail.
	_ = d.zr.Apply(lz4.ConcurrencyOption(1))
	return d
}

// What the first bytes of an LZ4 frame must say for Kafka's own reader.
const (
	lz4Magic            = 0x184D2204
	lz4VersionMask      = 0xC0
	lz4Version1         = 0x40
	lz4BlockIndependent = 0x20
)

var (
	errLZ4Header    = errors.New("not an LZ4 frame of version 1")
	errLZ4Dependent = errors.New("an LZ4 frame of dependent blocks, which Kafka's clients cannot read")
)

func (d *lz4Decoder) reset(body []byte, _ int64) error {
	// The library would also take legacy and skippable frames and dependent
	// blocks. A Java consumer would not, and it is too late to say so then.
	if len(body) < 7 || binary.LittleEndian.Uint32(body) != lz4Magic || body[4]&lz4VersionMask != lz4Version1 {
		return errLZ4Header
	}
	if body[4]&lz4BlockIndependent == 0 {
		return errLZ4Dependent
	}
	d.src.Reset(body)
	d.zr.Reset(&d.src)
	return nil
}
func (d *lz4Decoder) Read(p []byte) (int, error) { return d.zr.Read(p) }
func (d *lz4Decoder) release() {
	d.src.Reset(nil)
	d.zr.Reset(&d.src) // gives its block buffer back
}

// A zstd frame claims its window, and the decoder must allocate it before the
// first byte. Up to zstdStreamWindow (levels to 19) it is streamed; above, up
// to zstdMaxWindow (what Kafka's own decoder allows), the output serves as the
// window.
const (
	zstdStreamWindow = 8 << 20
	zstdMaxWindow    = 128 << 20
)

type zstdDecoder struct {
	src   bytes.Reader
	zr    *zstd.Decoder
	whole bool // src holds the decompressed bytes already
}

func newZstdDecoder() *zstdDecoder {
	// The options are constants: NewReader cannot fail on them.
	zr, _ := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), // no goroutines
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdStreamWindow),
		// For a stream this too is the window's bound, that of frames in one
		// segment, whose window is whatever content size they claim.
		zstd.WithDecoderMaxMemory(zstdStreamWindow))
	return &zstdDecoder{zr: zr}
}

func (d *zstdDecoder) reset(body []byte, maxBytes int64) error {
	d.whole = false
	var h zstd.Header
	if err := h.Decode(body); err != nil {
		return err
	}
	if h.WindowSize > zstdStreamWindow && !h.SingleSegment || h.SingleSegment && h.FrameContentSize > zstdStreamWindow {
		return d.resetWhole(body, &h, maxBytes)
	}
	d.src.Reset(body)
	return d.zr.Reset(&d.src)
}

// resetWhole decompresses at once; memory grows with what is decompressed, to
// the larger of maxBytes and the window, which is zstdMaxWindow at most. (The
// library takes no window above the bound on its output; its other bound, by
// capacity, does not tell too much output from corrupt input.) It allocates:
// levels above 19 and batches above 8 MiB in one piece are rare.
func (d *zstdDecoder) resetWhole(body []byte, h *zstd.Header, maxBytes int64) error {
	if h.FrameContentSize > uint64(maxBytes) {
		return errTooMuch
	}
	zr, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(zstdMaxWindow),
		zstd.WithDecoderMaxMemory(max(uint64(maxBytes), min(h.WindowSize, zstdMaxWindow))))
	if err != nil {
		return fmt.Errorf("prepare zstd decoder: %w", err)
	}
	defer zr.Close()
	out, err := zr.DecodeAll(body, nil)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || int64(len(out)) > maxBytes {
		return errTooMuch
	}
	if err != nil {
		return err
	}
	d.whole = true
	d.src.Reset(out)
	return nil
}

func (d *zstdDecoder) Read(p []byte) (int, error) {
	if d.whole {
		return d.src.Read(p)
	}
	return d.zr.Read(p)
}

func (d *zstdDecoder) release() {
	d.src.Reset(nil)
	// Reset(nil) parks the decoder and drops its source; its error is that of
	// a reader that has nothing to read.
	_ = d.zr.Reset(nil)
}

// xerialMagic begins what snappy-java's SnappyOutputStream writes, and with it
// Kafka's Java producer and KafkaJS: two int32 versions follow, then blocks,
// each after its length. librdkafka and others write one raw block instead.
var xerialMagic = []byte("\x82SNAPPY\x00")

const xerialHeaderSize = 16

// snappyKeep is the largest block buffer that is kept in the pool.
const snappyKeep = 1 << 20

type snappyDecoder struct {
	rest   []byte // compressed, not yet decoded
	xerial bool
	block  []byte // decoded
	at     int    // how much of block was read
	max    int64  // decoded bytes still allowed
}

var errSnappyCorrupt = errors.New("corrupt snappy block")

func (d *snappyDecoder) reset(body []byte, maxBytes int64) error {
	d.rest, d.block, d.at, d.max = body, d.block[:0], 0, maxBytes
	d.xerial = bytes.HasPrefix(body, xerialMagic)
	if d.xerial {
		if len(body) < xerialHeaderSize {
			return fmt.Errorf("read snappy stream header: %w", io.ErrUnexpectedEOF)
		}
		d.rest = body[xerialHeaderSize:]
	}
	return nil
}

func (d *snappyDecoder) Read(p []byte) (int, error) {
	for d.at == len(d.block) {
		if len(d.rest) == 0 {
			return 0, io.EOF
		}
		if err := d.nextBlock(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.block[d.at:])
	d.at += n
	return n, nil
}

func (d *snappyDecoder) nextBlock() error {
	in := d.rest
	d.rest = nil
	if d.xerial {
		if len(in) < 4 {
			return fmt.Errorf("read snappy block length: %w", io.ErrUnexpectedEOF)
		}
		n := binary.BigEndian.Uint32(in)
		in = in[4:]
		if uint64(n) > uint64(len(in)) {
			return fmt.Errorf("read snappy block of %d bytes: %w", n, io.ErrUnexpectedEOF)
		}
		in, d.rest = in[:n], in[n:]
	}
	size, err := snappy.DecodedLen(in)
	if err != nil {
		return err
	}
	// The length is a claim. No snappy element makes more than 64 bytes of
	// three, so a claim beyond that is a lie and nothing is allocated for it.
	if int64(size) > 22*int64(len(in)) {
		return errSnappyCorrupt
	}
	if int64(size) > d.max {
		return errTooMuch
	}
	d.max -= int64(size)
	if cap(d.block) < size {
		d.block = make([]byte, size)
	}
	// Strict: S2's extensions of the format must not pass here, since no
	// consumer would understand them.
	d.block, err = snappy.DecodeStrict(d.block[:cap(d.block)], in)
	d.at = 0
	return err
}

func (d *snappyDecoder) release() {
	d.rest = nil
	if cap(d.block) > snappyKeep {
		d.block = nil
	}
	d.block, d.at = d.block[:0], 0
}

// errTooMuch says that a body decompresses to more than it may.
var errTooMuch = errors.New("decompresses to more than allowed")

// decompressError turns what a decoder said into an [Error].
func decompressError(c Codec, maxBytes int64, record int, err error) *Error {
	if errors.Is(err, errTooMuch) {
		return recordError(KindTooLarge, -1, "the %s records decompress to more than the %d bytes allowed", c, maxBytes)
	}
	return recordError(KindInvalidRecord, record, "the %s records do not decompress: %v", c, err)
}

// decompress appends the decompressed body to dst, at most maxBytes of it.
func decompress(dst []byte, c Codec, body []byte, maxBytes int64) ([]byte, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxDecompressedBytes
	}
	d, err := openDecoder(c, body, maxBytes)
	if err != nil {
		return nil, decompressError(c, maxBytes, -1, err)
	}
	defer closeDecoder(c, d)
	start := len(dst)
	for idle := 0; ; {
		if len(dst) == cap(dst) {
			// Doubles from four times the input: what is allocated follows
			// what was really decompressed, never a claim.
			dst = append(make([]byte, 0, max(2*cap(dst), len(dst)+4*len(body)+512)), dst...)
		}
		n, err := d.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if int64(len(dst)-start) > maxBytes {
			return nil, decompressError(c, maxBytes, -1, errTooMuch)
		}
		if n > 0 {
			idle = 0
		} else if idle++; err == nil && idle > maxIdleReads {
			err = io.ErrNoProgress
		}
		if isEOF(err) {
			return dst, nil
		}
		if err != nil {
			return nil, decompressError(c, maxBytes, -1, err)
		}
	}
}

// maxIdleReads is how often a decoder may say it read nothing before it is
// taken for stuck.
const maxIdleReads = 100
