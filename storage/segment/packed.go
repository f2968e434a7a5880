package segment

import (
	"math"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	packedVersion = 1
	minPackedSize = 7
)

// PackedExtent is what the folded level knows of one extent: where the bytes of a run of one partition's offsets
// lie. It may be a part of the extent in the object's footer, cut at batch boundaries.
type PackedExtent struct {
	Object       catalog.ObjectID
	Base, End    int64 // offsets; End is exclusive
	Pos, Len     int64 // bytes in the object
	LeaderEpoch  int32
	MaxTimestamp int64 // milliseconds
}

// AppendPacked appends the encoded extents to dst; about 12 to 16 bytes each. They must be in the order of their
// offsets, disjoint and not empty (gaps are fine): DecodePacked refuses others.
func AppendPacked(dst []byte, extents []PackedExtent) []byte {
	start := len(dst)
	dst = append(dst, packedVersion)
	dst = appendUvarint(dst, len(extents))
	var prev PackedExtent
	for i := range extents {
		e := &extents[i]
		dst = appendVarint(dst, int64(e.Object-prev.Object))
		dst = appendUvarint(dst, e.Base-prev.End)
		dst = appendUvarint(dst, e.End-e.Base)
		dst = appendVarint(dst, e.Pos-(prev.Pos+prev.Len))
		dst = appendUvarint(dst, e.Len)
		dst = appendVarint(dst, int64(e.LeaderEpoch)-int64(prev.LeaderEpoch))
		dst = appendVarint(dst, e.MaxTimestamp-prev.MaxTimestamp)
		prev = *e
	}
	return appendSum(dst, start)
}

// DecodePacked decodes what AppendPacked appended. Errors wrap [ErrCorrupt] or [ErrVersion]. b is not kept.
func DecodePacked(b []byte) ([]PackedExtent, error) {
	const what = "packed row"
	d, err := open(b, packedVersion, MaxPackedBytes, what)
	if err != nil {
		return nil, err
	}
	n := d.count(minPackedSize, "number of extents")
	if d.err != nil {
		return nil, d.closing(what)
	}
	extents := make([]PackedExtent, n)
	var prev PackedExtent
	for i := range extents {
		e := &extents[i]
		e.Object = prev.Object + catalog.ObjectID(d.varint())
		e.Base = prev.End + d.bounded(math.MaxInt64-prev.End, "base offset")
		e.End = e.Base + d.bounded(math.MaxInt64-e.Base, "number of offsets")
		e.Pos = prev.Pos + prev.Len + d.varint()
		e.Len = d.bounded(MaxObjectBytes, "length")
		epoch := int64(prev.LeaderEpoch) + d.varint()
		e.MaxTimestamp = prev.MaxTimestamp + d.varint()
		switch {
		case d.err != nil:
			return nil, d.closing(what)
		case e.End == e.Base || e.Len == 0:
			d.fail("an extent is empty")
		case e.Pos < headerSize || e.Pos > MaxObjectBytes-e.Len:
			d.fail("an extent lies at %d, %d bytes long", e.Pos, e.Len)
		case epoch < math.MinInt32 || epoch > math.MaxInt32:
			d.fail("leader epoch is %d", epoch)
		case e.Object < 0:
			d.fail("object id is %d", e.Object)
		}
		if d.err != nil {
			return nil, d.closing(what)
		}
		e.LeaderEpoch = int32(epoch)
		prev = *e
	}
	if err := d.closing(what); err != nil {
		return nil, err
	}
	return extents, nil
}
