package segment

import (
	"context"

	"github.com/streamhouse/streamhouse/catalog"
)

// Description is what an object says of itself.
type Description struct {
	Key         string
	Parsed      *Key  // nil if the key is none of this package's
	Size        int64 // bytes
	DataBytes   int64 // of record batches
	FooterBytes int64 // of header, footer and trailer
	Blocks      int
	Topics      int
	Partitions  int
	Runs        int // sparse entries
	Extents     []FooterExtent
}

// Describe opens the object under key, size bytes long, and tells what is in it. Record bytes are not read; see
// [VerifyObject].
func Describe(ctx context.Context, r RangeReader, key string, size int64) (*Description, error) {
	f, err := ReadFooter(ctx, r, key, size)
	if err != nil {
		return nil, err
	}
	d := &Description{
		Key: key, Size: size, Blocks: f.Blocks(), Topics: len(f.topics), Runs: f.runs, Extents: f.Extents(),
	}
	if k, err := ParseKey(key); err == nil {
		d.Parsed = &k
	}
	var last catalog.TopicPartition
	for i := range d.Extents {
		e := &d.Extents[i]
		d.DataBytes += e.Len
		if i == 0 || e.TopicPartition != last {
			d.Partitions++
		}
		last = e.TopicPartition
	}
	d.FooterBytes = size - d.DataBytes
	return d, nil
}
