package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"sort"

	"github.com/streamhouse/streamhouse/catalog"
)

const (
	// footerGuess is how many bytes at the end of an object are asked for at first: enough for the footer of a log
	// object, so that one GET does.
	footerGuess = 64 << 10
	// groupRuns is how many sparse entries a look-up decodes at most. Longer extents get a waypoint per group.
	groupRuns = 64

	minFooterExtentSize = 5
	minRunSize          = 3
)

// Run is one sparse entry of a footer: consecutive batches of at least [RunBytes] together, unless it ends an extent.
type Run struct {
	Base, End    int64 // offsets; End is exclusive
	Pos, Len     int64 // bytes in the object
	MaxTimestamp int64 // milliseconds
}

// FooterExtent is what a footer says of one extent.
type FooterExtent struct {
	catalog.TopicPartition
	LeaderEpoch  int32
	Base, End    int64 // offsets; End is exclusive
	Pos, Len     int64 // bytes in the object
	MaxTimestamp int64 // milliseconds
	Runs         int   // sparse entries
}

// Footer is the index inside an object, opened. It is immutable. Sparse entries stay encoded in memory, see MemBytes.
type Footer struct {
	size      int64
	dataEnd   int64
	raw       []byte // the footer's bytes, block sums included
	sums      []byte // of them, those of the block sums
	topics    []catalog.TopicID
	extents   []footerExtent
	waypoints []waypoint
	runs      int
}

type footerExtent struct {
	topic, partition, epoch int32
	runs                    uint32 // number of sparse entries
	off                     uint32 // where they start in raw
	waypoint                uint32 // index of the first waypoint; there are (runs-1)/groupRuns
	base, end, pos, len     int64
	maxTimestamp            int64
	timestamp               int64 // what the first entry's is coded against
}

// waypoint is the state of decoding before the first entry of every group but an extent's first.
type waypoint struct {
	base, pos, timestamp int64
	maxBefore            int64 // max timestamp of the extent's entries before it
	off                  uint32
}

// ReadFooter opens the object under key, size bytes long. It costs one GET, and a second one for a footer larger than
// 64 KiB. Errors are those of r, or wrap [ErrCorrupt] or [ErrVersion].
func ReadFooter(ctx context.Context, r RangeReader, key string, size int64) (*Footer, error) {
	if size < headerSize+trailerSize || size > MaxObjectBytes+MaxFooterBytes {
		return nil, fmt.Errorf("read footer of %s: %w: the object has %d bytes", key, ErrCorrupt, size)
	}
	tail := make([]byte, min(size, footerGuess))
	if err := r.GetRange(ctx, key, size-int64(len(tail)), tail); err != nil {
		return nil, fmt.Errorf("read footer of %s: %w", key, err)
	}
	body := tail[:len(tail)-trailerSize]
	t, err := decodeTrailer(tail[len(body):], size)
	if err != nil {
		return nil, fmt.Errorf("read footer of %s: %w", key, err)
	}
	raw := make([]byte, t.footerLen) // a copy if it is all there: the rest of the guess must not stay in memory
	have := min(int64(len(body)), t.footerLen)
	copy(raw[t.footerLen-have:], body[int64(len(body))-have:])
	if rest := raw[:t.footerLen-have]; len(rest) > 0 {
		if err := r.GetRange(ctx, key, t.dataEnd, rest); err != nil {
			return nil, fmt.Errorf("read footer of %s: %w", key, err)
		}
	}
	f, err := decodeFooter(raw, t, size)
	if err != nil {
		return nil, fmt.Errorf("read footer of %s: %w", key, err)
	}
	return f, nil
}

// OpenFooter opens the footer of an object of which all bytes are in memory. They are not kept. Errors wrap [ErrCorrupt] or
// [ErrVersion].
func OpenFooter(object []byte) (*Footer, error) {
	size := int64(len(object))
	if size < headerSize+trailerSize {
		return nil, fmt.Errorf("open footer: %w: the object has %d bytes", ErrCorrupt, size)
	}
	t, err := decodeTrailer(object[size-trailerSize:], size)
	if err != nil {
		return nil, fmt.Errorf("open footer: %w", err)
	}
	return decodeFooter(bytes.Clone(object[t.dataEnd:size-trailerSize]), t, size)
}

// Footer opens the footer of an object that has not been put yet.
func (o *Object) Footer() (*Footer, error) {
	if len(o.Slices) == 0 || len(o.Slices[len(o.Slices)-1]) < trailerSize {
		return nil, fmt.Errorf("open footer: %w: the object has none", ErrInvalid)
	}
	end := o.Slices[len(o.Slices)-1]
	raw := end[: len(end)-trailerSize : len(end)-trailerSize]
	t, err := decodeTrailer(end[len(raw):], o.Size)
	if err != nil {
		return nil, err
	}
	return decodeFooter(raw, t, o.Size)
}

// decodeFooter checks everything and keeps raw.
func decodeFooter(raw []byte, t trailer, size int64) (*Footer, error) {
	const what = "footer"
	if sum := crc32.Checksum(raw, castagnoli); sum != t.footerSum {
		return nil, fmt.Errorf("decode %s: %w: checksum is %08x instead of %08x", what, ErrCorrupt, sum, t.footerSum)
	}
	blocks := (t.dataEnd + BlockSize - 1) / BlockSize
	if int64(len(raw)) < 1+4*blocks {
		return nil, fmt.Errorf("decode %s: %w: %d bytes for %d blocks", what, ErrCorrupt, len(raw), blocks)
	}
	if raw[0] != footerVersion {
		return nil, fmt.Errorf("decode %s: %w %d, this binary knows version %d", what, ErrVersion, raw[0], footerVersion)
	}
	index := len(raw) - 4*int(blocks)
	d := &decoder{b: raw[:index], off: 1}
	topics := d.count(minTopicSize+minFooterExtentSize+minRunSize, "number of topics")
	extents := d.count(minFooterExtentSize+minRunSize, "number of extents")
	runs := d.count(minRunSize, "number of sparse entries")
	f := &Footer{
		size: size, dataEnd: t.dataEnd, raw: raw, sums: raw[index:], runs: runs,
		topics:  make([]catalog.TopicID, 0, topics),
		extents: make([]footerExtent, 0, extents),
	}
	places := placeDecoder{decoder: d, topics: topics}
	fd := footerDecoder{decoder: d, footer: f, runs: runs, pos: headerSize}
	for range extents {
		tp, base := places.next()
		if n := len(f.topics); n == 0 || f.topics[n-1] != tp.Topic {
			f.topics = append(f.topics, tp.Topic)
		}
		places.end = fd.extent(tp.Partition, base)
		if d.err != nil {
			break
		}
	}
	places.finish()
	if fd.runs != 0 {
		d.fail("%d sparse entries too few", fd.runs)
	}
	if fd.pos > t.dataEnd {
		d.fail("extents end at %d, the data at %d", fd.pos, t.dataEnd)
	}
	if err := d.closing(what); err != nil {
		return nil, err
	}
	return f, nil
}

type footerDecoder struct {
	*decoder
	footer         *Footer
	runs           int // to come
	pos, timestamp int64
	epoch          int32
}

// extent decodes one, appends it to the footer and returns its end offset.
func (d *footerDecoder) extent(partition int32, base int64) int64 {
	f := d.footer
	epoch := int64(d.epoch) + d.varint()
	if epoch < math.MinInt32 || epoch > math.MaxInt32 {
		d.fail("leader epoch is %d", epoch)
	}
	d.epoch = int32(epoch)
	d.pos += d.bounded(MaxObjectBytes-d.pos, "position")
	runs := d.uvarint()
	if runs == 0 || runs > uint64(d.runs) {
		d.fail("an extent has %d sparse entries, %d are left", runs, d.runs)
		return base
	}
	d.runs -= int(runs)
	e := footerExtent{
		topic: int32(len(f.topics) - 1), partition: partition, epoch: d.epoch,
		runs: uint32(runs), off: uint32(d.off), waypoint: uint32(len(f.waypoints)),
		base: base, end: base, pos: d.pos, maxTimestamp: math.MinInt64, timestamp: d.timestamp,
	}
	for i := range runs {
		if i > 0 && i%groupRuns == 0 {
			f.waypoints = append(f.waypoints, waypoint{
				base: e.end, pos: d.pos, timestamp: d.timestamp, maxBefore: e.maxTimestamp, off: uint32(d.off),
			})
		}
		offsets := d.bounded(math.MaxInt64-e.end, "number of offsets")
		length := d.bounded(MaxObjectBytes-d.pos, "length")
		d.timestamp += d.varint()
		if offsets == 0 || length == 0 {
			d.fail("a sparse entry has %d offsets and %d bytes", offsets, length)
			return base
		}
		e.end += offsets
		d.pos += length
		e.maxTimestamp = max(e.maxTimestamp, d.timestamp)
	}
	e.len = d.pos - e.pos
	f.extents = append(f.extents, e)
	return e.end
}

// Size is the object's, in bytes.
func (f *Footer) Size() int64 { return f.size }

// DataEnd is where header and record data end and the footer starts: what block sums cover.
func (f *Footer) DataEnd() int64 { return f.dataEnd }

// Blocks is the number of blocks up to DataEnd; the last may be short.
func (f *Footer) Blocks() int { return len(f.sums) / 4 }

// BlockSum is the CRC-32C of block i, of [0, Blocks).
func (f *Footer) BlockSum(i int) uint32 { return binary.LittleEndian.Uint32(f.sums[4*i:]) }

// MemBytes is about what the footer occupies in memory.
func (f *Footer) MemBytes() int64 {
	return 256 + int64(cap(f.raw)) + 16*int64(cap(f.topics)) + 72*int64(cap(f.extents)) + 40*int64(cap(f.waypoints))
}

// Len is the number of extents.
func (f *Footer) Len() int { return len(f.extents) }

// Extent returns extent i, of [0, Len), in the order of an [Index].
func (f *Footer) Extent(i int) FooterExtent {
	e := &f.extents[i]
	return FooterExtent{
		TopicPartition: catalog.TopicPartition{Topic: f.topics[e.topic], Partition: e.partition},
		LeaderEpoch:    e.epoch, Base: e.base, End: e.end, Pos: e.pos, Len: e.len,
		MaxTimestamp: e.maxTimestamp, Runs: int(e.runs),
	}
}

// Extents returns all extents, in the order of an [Index].
func (f *Footer) Extents() []FooterExtent {
	all := make([]FooterExtent, len(f.extents))
	for i := range all {
		all[i] = f.Extent(i)
	}
	return all
}

// after returns the index of the first extent behind (tp, offset): base offset greater, or a later partition.
func (f *Footer) after(tp catalog.TopicPartition, offset int64) int {
	return sort.Search(len(f.extents), func(i int) bool {
		e := &f.extents[i]
		c := catalog.TopicPartition{Topic: f.topics[e.topic], Partition: e.partition}.Compare(tp)
		return c > 0 || c == 0 && e.base > offset
	})
}

func (f *Footer) is(e *footerExtent, tp catalog.TopicPartition) bool {
	return e.partition == tp.Partition && f.topics[e.topic] == tp.Topic
}

// Find tells where to start reading for an offset: pos is the byte position of the batch that starts the sparse entry
// holding it, at most RunBytes plus one batch before its own; end is the position after the last byte of the extent.
// ok is false if the object has no such offset.
func (f *Footer) Find(tp catalog.TopicPartition, offset int64) (pos, end int64, ok bool) {
	r, e, ok := f.find(tp, offset)
	if !ok {
		return 0, 0, false
	}
	return r.Pos, e.pos + e.len, true
}

// FindRun returns the sparse entry that holds an offset.
func (f *Footer) FindRun(tp catalog.TopicPartition, offset int64) (Run, bool) {
	r, _, ok := f.find(tp, offset)
	return r, ok
}

func (f *Footer) find(tp catalog.TopicPartition, offset int64) (Run, *footerExtent, bool) {
	i := f.after(tp, offset) - 1
	if i < 0 {
		return Run{}, nil, false
	}
	e := &f.extents[i]
	if !f.is(e, tp) || offset >= e.end {
		return Run{}, nil, false
	}
	way := f.waypoints[e.waypoint : e.waypoint+(e.runs-1)/groupRuns]
	g := sort.Search(len(way), func(i int) bool { return way[i].base > offset })
	s := f.scan(e, g)
	for s.next() {
		if offset < s.run.End {
			return s.run, e, true
		}
	}
	return Run{}, nil, false // not reached: entries cover the extent
}

// FindTime returns the first sparse entry of the partition, of those that hold offsets of [base, end), whose max
// timestamp is at least ts. Its first batches may be older, and before base.
func (f *Footer) FindTime(tp catalog.TopicPartition, base, end, ts int64) (Run, bool) {
	i := f.after(tp, base) - 1
	if i < 0 || !f.is(&f.extents[i], tp) || f.extents[i].end <= base {
		i++
	}
	for ; i < len(f.extents); i++ {
		e := &f.extents[i]
		if !f.is(e, tp) || e.base >= end {
			break
		}
		if e.maxTimestamp < ts {
			continue
		}
		if r, ok := f.findTime(e, base, ts); ok {
			return r, r.Base < end
		}
	}
	return Run{}, false
}

func (f *Footer) findTime(e *footerExtent, base, ts int64) (Run, bool) {
	way := f.waypoints[e.waypoint : e.waypoint+(e.runs-1)/groupRuns]
	// Entries before the group of base do not count; nor do groups before the first that can reach ts. maxBefore
	// grows, so both are found by halving.
	g := max(
		sort.Search(len(way), func(i int) bool { return way[i].base > base }),
		sort.Search(len(way), func(i int) bool { return way[i].maxBefore >= ts }),
	)
	s := f.scan(e, g)
	for s.next() {
		if s.run.End > base && s.run.MaxTimestamp >= ts {
			return s.run, true
		}
	}
	return Run{}, false
}

// ExtentEnd returns the byte position after the extent that holds byte pos, for read-ahead; pos itself if none does.
func (f *Footer) ExtentEnd(pos int64) int64 {
	i := sort.Search(len(f.extents), func(i int) bool { return f.extents[i].pos > pos }) - 1
	if i < 0 {
		return pos
	}
	return max(pos, f.extents[i].pos+f.extents[i].len)
}

// scanner decodes the sparse entries of one extent from a group on. They have been checked when it was opened.
type scanner struct {
	d    decoder
	left uint32
	run  Run
}

// scan starts before group g; waypoint g-1 is its state.
func (f *Footer) scan(e *footerExtent, g int) scanner {
	s := scanner{
		d: decoder{b: f.raw, off: int(e.off)}, left: e.runs,
		run: Run{End: e.base, Pos: e.pos, MaxTimestamp: e.timestamp},
	}
	if g > 0 {
		w := &f.waypoints[int(e.waypoint)+g-1]
		s.d.off, s.left = int(w.off), e.runs-uint32(g)*groupRuns
		s.run = Run{End: w.base, Pos: w.pos, MaxTimestamp: w.timestamp}
	}
	return s
}

func (s *scanner) next() bool {
	if s.left == 0 {
		return false
	}
	s.left--
	r := &s.run
	r.Base = r.End
	r.Pos += r.Len
	r.End += int64(s.d.uvarint())
	r.Len = int64(s.d.uvarint())
	r.MaxTimestamp += s.d.varint()
	return s.d.err == nil
}
