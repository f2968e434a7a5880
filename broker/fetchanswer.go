package broker

import (
	"sync"

	"github.com/streamhouse/streamhouse/kafkaproto"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
)

// fetchAnswer is a Fetch answer and the record bytes that belong to it.
type fetchAnswer struct {
	kafkaproto.FetchResponse
	reads []*storage.Read
	b     *Broker
	held  int64 // taken from the broker's answer memory
}

// release frees the record bytes; called once the answer is written or given up.
func (a *fetchAnswer) release() {
	for _, r := range a.reads {
		putRead(r)
	}
	a.reads, a.Records = nil, nil
	if a.held > 0 {
		a.b.answers.Release(a.held)
		a.held = 0
	}
}

var reads = sync.Pool{New: func() any { return new(storage.Read) }}

func putRead(r *storage.Read) {
	r.Release()
	reads.Put(r)
}

// countRecords adds up the records of whole batches in consecutive slices, from an offset on, and tells the offset of the last one.
// A first batch that begins before that counts by its offsets; if some of those are gone from it, in full.
func countRecords(records [][]byte, from int64) (n int, last int64) {
	var (
		skip int // skip: bytes of the batch at hand still to pass over
		head []byte
	)
	for _, b := range records {
		for len(b) > 0 {
			if skip > 0 {
				k := min(skip, len(b))
				b, skip = b[k:], skip-k
				continue
			}
			take := min(recordbatch.HeaderSize-len(head), len(b))
			h := b[:take]
			if len(head) > 0 || take < recordbatch.HeaderSize { // the header is cut over two slices
				head = append(head, h...)
				h = head
			}
			b = b[take:]
			if len(h) < recordbatch.HeaderSize {
				continue
			}
			hd, err := recordbatch.ParseHeader(h)
			if err != nil || hd.Size() < recordbatch.HeaderSize {
				return n, last
			}
			n += int(hd.NumRecords)
			if skipped := from - hd.BaseOffset; skipped > 0 && hd.NumRecords == hd.LastOffsetDelta+1 {
				n -= int(min(skipped, int64(hd.NumRecords)))
			}
			last = hd.LastOffset()
			skip, head = hd.Size()-recordbatch.HeaderSize, head[:0]
		}
	}
	return n, last
}
