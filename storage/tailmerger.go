package storage

import (
	"fmt"
	"slices"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// tailMerger regroups the extents of several objects by partition.
type tailMerger struct {
	order   []catalog.TopicPartition
	pieces  map[catalog.TopicPartition][]piece
	batches int
	records int64
	bytes   int64
}

type piece struct {
	x      *segment.Extent
	slices [][]byte
}

func newTailMerger(sources []source) *tailMerger {
	m := &tailMerger{pieces: make(map[catalog.TopicPartition][]piece)}
	for i := range sources {
		s := &sources[i]
		at := 0
		for j := range s.index.Extents {
			x := &s.index.Extents[j]
			n := len(x.Batches)
			if _, ok := m.pieces[x.TopicPartition]; !ok {
				m.order = append(m.order, x.TopicPartition)
			}
			m.pieces[x.TopicPartition] = append(m.pieces[x.TopicPartition], piece{x, s.slices[at : at+n]})
			at += n
			m.batches += n
			m.bytes += x.Len
			for k := range x.Batches {
				m.records += int64(x.Batches[k].Records)
			}
		}
	}
	slices.SortFunc(m.order, catalog.TopicPartition.Compare)
	return m
}

// prove compares what was laid out with what went in: a rewrite that loses a record must never be swapped in.
func (m *tailMerger) prove(ix *segment.Index) error {
	var bytes, records int64
	for i := range ix.Extents {
		bytes += ix.Extents[i].Len
		for k := range ix.Extents[i].Batches {
			records += int64(ix.Extents[i].Batches[k].Records)
		}
	}
	if n := ix.Batches(); n != m.batches || records != m.records || bytes != m.bytes {
		return fmt.Errorf("merge would turn %d batches, %d records, %d bytes into %d, %d, %d: %w",
			m.batches, m.records, m.bytes, n, records, bytes, ErrCorrupt)
	}
	return nil
}
