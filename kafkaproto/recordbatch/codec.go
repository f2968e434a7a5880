package recordbatch

import "strconv"

// Codec is how the records of a batch are compressed: the low three bits of
// its attributes.
type Codec int8

// The codecs, by their number on the wire.
const (
	CodecNone Codec = iota
	CodecGzip
	CodecSnappy
	CodecLZ4
	CodecZstd
)

// String is the codec's name in compression.type, "uncompressed" for none.
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "uncompressed"
	case CodecGzip:
		return "gzip"
	case CodecSnappy:
		return "snappy"
	case CodecLZ4:
		return "lz4"
	case CodecZstd:
		return "zstd"
	default:
		return "codec(" + strconv.Itoa(int(c)) + ")"
	}
}

// ParseCodec knows the values of compression.type that name a codec. "producer"
// is none of them: it asks for batches to be kept as they are.
func ParseCodec(s string) (Codec, bool) {
	switch s {
	case "uncompressed", "none":
		return CodecNone, true
	case "gzip":
		return CodecGzip, true
	case "snappy":
		return CodecSnappy, true
	case "lz4":
		return CodecLZ4, true
	case "zstd":
		return CodecZstd, true
	default:
		return 0, false
	}
}

func (c Codec) known() bool { return c >= CodecNone && c <= CodecZstd }
