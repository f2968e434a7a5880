package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Object is a finished object, ready to be put.
type Object struct {
	// Slices are its bytes: header, the record slices as they were given, footer and trailer.
	Slices [][]byte
	// Size is the sum of their lengths, in bytes.
	Size int64
	// Checksum is the CRC-32C of them all.
	Checksum uint32
	// Index describes it, Pos and Len included.
	Index Index
}

// Builder lays out one object after another. The zero value is ready for Begin. Not safe for concurrent use.
//
// Record bytes are never copied and are read once, for their sum. They must not change between Add and the end of
// the last use of the Object. What Finish returned is not touched by later use of the Builder.
type Builder struct {
	slices  [][]byte
	extents []Extent
	runs    []run
	counts  []int // runs of each extent
	sums    []uint32
	sum     uint32 // of the block under way
	fill    int    // its bytes
	size    int64
	err     error

	// What the last object needed: how much the next Begin makes room for.
	lastSlices, lastExtents int
}

// run is one sparse entry.
type run struct {
	offsets, length, maxTimestamp int64
}

// Begin starts a new object and forgets what was added since the last Finish.
func (b *Builder) Begin() {
	b.slices = append(make([][]byte, 0, max(16, b.lastSlices)), objectHeader)
	b.extents = make([]Extent, 0, max(4, b.lastExtents))
	b.runs, b.counts, b.sums = b.runs[:0], b.counts[:0], b.sums[:0]
	b.sum, b.fill, b.size, b.err = 0, 0, 0, nil
	b.write(objectHeader)
}

// Size is the number of bytes so far, footer not included.
func (b *Builder) Size() int64 { return b.size }

// Add appends an extent whose record bytes are the concatenation of slices, cut anywhere. Pos, Len and MaxTimestamp
// are filled in. Extents must come in the order of an [Index]. e.Batches is kept. A problem is returned by Finish.
func (b *Builder) Add(e Extent, slices ...[]byte) {
	if b.err != nil {
		return
	}
	if b.size == 0 {
		b.err = fmt.Errorf("%w: Add without Begin", ErrInvalid)
		return
	}
	var prev *Extent
	if n := len(b.extents); n > 0 {
		prev = &b.extents[n-1]
	}
	length, maxTimestamp, err := e.validate(prev)
	if err != nil {
		b.err = err
		return
	}
	e.Pos, e.Len, e.MaxTimestamp = b.size, length, maxTimestamp
	for _, s := range slices {
		length -= int64(len(s))
	}
	if length != 0 {
		b.err = e.invalid("its batches have %d bytes, its slices %d", e.Len, e.Len-length)
		return
	}
	if e.Pos > MaxObjectBytes-e.Len {
		b.err = e.invalid("the object would exceed %d bytes", int64(MaxObjectBytes))
		return
	}
	b.slices = append(b.slices, slices...)
	for _, s := range slices {
		b.write(s)
	}
	b.extents = append(b.extents, e)
	b.addRuns(e.Batches)
}

func (b *Builder) addRuns(batches []Batch) {
	before := len(b.runs)
	var r run
	for i := range batches {
		batch := &batches[i]
		if r.length == 0 {
			r.maxTimestamp = batch.MaxTimestamp
		}
		r.offsets += int64(batch.Offsets)
		r.length += int64(batch.Length)
		r.maxTimestamp = max(r.maxTimestamp, batch.MaxTimestamp)
		if r.length >= RunBytes || i == len(batches)-1 {
			b.runs = append(b.runs, r)
			r = run{}
		}
	}
	b.counts = append(b.counts, len(b.runs)-before)
}

// write sums p into the blocks.
func (b *Builder) write(p []byte) {
	b.size += int64(len(p))
	for len(p) > 0 {
		n := min(len(p), BlockSize-b.fill)
		b.sum = crc32.Update(b.sum, castagnoli, p[:n])
		b.fill += n
		p = p[n:]
		if b.fill == BlockSize {
			b.closeBlock()
		}
	}
}

func (b *Builder) closeBlock() {
	b.sums = append(b.sums, b.sum)
	b.sum, b.fill = 0, 0
}

// Finish ends the object. Its error wraps [ErrInvalid] and names the first extent that was not valid.
func (b *Builder) Finish() (Object, error) {
	switch {
	case b.err != nil:
		return Object{}, fmt.Errorf("build object: %w", b.err)
	case len(b.extents) == 0:
		return Object{}, fmt.Errorf("build object: %w: it has no extents", ErrInvalid)
	}
	var sum uint32
	for _, s := range b.sums {
		sum = combine(sum, s, BlockSize)
	}
	if b.fill > 0 {
		sum = combine(sum, b.sum, int64(b.fill))
		b.closeBlock()
	}
	end := b.appendEnd(make([]byte, 0, b.endSize()))
	if len(end) > MaxFooterBytes {
		return Object{}, fmt.Errorf("build object: %w: its footer has %d bytes", ErrInvalid, len(end))
	}
	o := Object{
		Slices:   append(b.slices, end),
		Size:     b.size + int64(len(end)),
		Checksum: combine(sum, crc32.Checksum(end, castagnoli), int64(len(end))),
		Index:    Index{Extents: b.extents},
	}
	b.lastSlices, b.lastExtents = len(o.Slices), len(b.extents)
	b.slices, b.extents, b.size = nil, nil, 0 // the arrays are the object's now
	return o, nil
}

// endSize is a likely size of footer and trailer.
func (b *Builder) endSize() int {
	return 64 + trailerSize + 4*len(b.sums) + 14*len(b.extents) + 16*countTopics(b.extents) + 8*len(b.runs)
}

// appendEnd appends footer and trailer.
func (b *Builder) appendEnd(dst []byte) []byte {
	dst = append(dst, footerVersion)
	dst = appendUvarint(dst, countTopics(b.extents))
	dst = appendUvarint(dst, len(b.extents))
	dst = appendUvarint(dst, len(b.runs))
	runs := b.runs
	pos, timestamp := int64(headerSize), int64(0)
	var epoch int32
	for i := range b.extents {
		e := &b.extents[i]
		dst = appendPlace(dst, b.extents, i)
		dst = appendVarint(dst, int64(e.LeaderEpoch)-int64(epoch))
		epoch = e.LeaderEpoch
		dst = appendUvarint(dst, e.Pos-pos)
		pos = e.Pos + e.Len
		dst = appendUvarint(dst, b.counts[i])
		for _, r := range runs[:b.counts[i]] {
			dst = appendUvarint(dst, r.offsets)
			dst = appendUvarint(dst, r.length)
			dst = appendVarint(dst, r.maxTimestamp-timestamp)
			timestamp = r.maxTimestamp
		}
		runs = runs[b.counts[i]:]
	}
	for _, s := range b.sums {
		dst = binary.LittleEndian.AppendUint32(dst, s)
	}
	return appendTrailer(dst, b.size)
}
