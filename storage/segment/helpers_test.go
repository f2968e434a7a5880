package segment

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"

	"github.com/streamhouse/streamhouse/catalog"
)

// objects is a store of objects in memory that counts calls.
type objects struct {
	m    map[string][]byte
	gets int
}

func (o *objects) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	o.gets++
	b := o.m[key]
	if err := ctx.Err(); err != nil {
		return err
	}
	if off > int64(len(b)) || copy(p, b[off:]) < len(p) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (o *Object) join() []byte { return bytes.Join(o.Slices, nil) }

func store(b []byte) *objects { return &objects{m: map[string][]byte{"k": b}} }

func topic(n byte) (id catalog.TopicID) {
	id[0], id[15] = n, 0xff-n
	return id
}

// someExtents gives valid extents with random fields and random record bytes (which are no real batches).
func someExtents(r *rand.Rand, topics, partitions, batches, batchBytes int) (extents []Extent, data [][][]byte) {
	for t := range topics {
		for p := range partitions {
			base := r.Int64N(1 << 30)
			runs := 1 + r.IntN(2)
			for k := range runs {
				e := Extent{
					TopicPartition: catalog.TopicPartition{Topic: topic(byte(t + 1)), Partition: int32(p * 3)},
					LeaderEpoch:    int32(r.IntN(5) + k), Base: base, End: base,
				}
				var slices [][]byte
				seq := int32(r.Uint32() >> 1)
				for range 1 + r.IntN(batches) {
					b := Batch{
						BaseOffset: e.End, Offsets: 1 + r.Int32N(500), Length: 61 + r.Int32N(int32(batchBytes)),
						MaxTimestamp: 1_760_000_000_000 + r.Int64N(100_000), ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
					}
					b.Records = b.Offsets
					switch r.IntN(5) {
					case 0:
						b.Records--
					case 1, 2:
						b.ProducerID, b.ProducerEpoch, b.BaseSequence = 70_000+r.Int64N(4), int16(r.IntN(3)), seq
						seq = nextSequence(&b)
						b.Transactional = r.IntN(2) == 0
					case 3:
						b.ProducerID, b.Control, b.Transactional, b.Abort = r.Int64N(1000), true, true, r.IntN(2) == 0
						b.ProducerEpoch = 3
						b.CoordinatorEpoch = r.Int32N(9)
					}
					e.Batches = append(e.Batches, b)
					e.End += int64(b.Offsets)
					s := make([]byte, b.Length)
					for i := range s {
						s[i] = byte(r.Uint32())
					}
					slices = append(slices, s)
				}
				base = e.End + r.Int64N(3)
				extents, data = append(extents, e), append(data, slices)
			}
		}
	}
	return extents, data
}

func buildSome(r *rand.Rand, topics, partitions, batches, batchBytes int) (Object, error) {
	var b Builder
	b.Begin()
	extents, data := someExtents(r, topics, partitions, batches, batchBytes)
	for i, e := range extents {
		b.Add(e, data[i]...)
	}
	return b.Finish()
}

func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(n, 7)) }
