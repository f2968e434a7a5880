package fs

import (
	"errors"
	"io"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// scanWindow is how much a scan reads at a time where records are small, or there are none.
const scanWindow = 64 << 10

// volumeScan finds the records of one generation in a volume: from header to header, and block by block where there is
// none, because a record whose write was cut off leaves a hole that others may stand behind.
type volumeScan struct {
	file       io.ReaderAt
	size       int64 // of the volume, in bytes
	generation uint64
	// verify checks bodies; what differs is reported as torn.
	verify bool

	buf    []byte // what the file has at bufAt
	bufAt  int64
	hop    int64 // how far the last step went
	bodies []byte
}

// run calls found for each record from offset from on, in their order, dead ones and torn ones too, and returns where
// the last one ends. It fails only if the file cannot be read.
func (s *volumeScan) run(from int64, found func(h recordHeader, torn bool)) (end int64, err error) {
	end = max(from, blockBytes)
	for at := end; at+blockBytes <= s.size; {
		p, err := s.block(at)
		if err != nil {
			return 0, err
		}
		h, ok := decodeRecordHeader(p, s.generation, at, s.size)
		if !ok {
			s.hop = blockBytes
			at += blockBytes
			continue
		}
		torn := false
		if s.verify && !h.dead {
			sum, err := sumRange(s.file, h.bodyAt(), h.size, &s.bodies)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				return 0, err
			}
			torn = err != nil || sum != h.sum
		}
		found(h, torn)
		s.hop = h.end() - at
		at = h.end()
		end = at
	}
	return end, nil
}

// block returns at least the front of the block at an offset, which is in the file.
func (s *volumeScan) block(at int64) ([]byte, error) {
	if skip := at - s.bufAt; skip >= 0 && skip+maxHeaderBytes <= int64(len(s.buf)) {
		return s.buf[skip:], nil
	}
	n := int64(scanWindow)
	if s.hop > scanWindow/4 {
		n = blockBytes // the next one is far again, probably
	}
	if s.buf == nil {
		s.buf = make([]byte, scanWindow)
	}
	got, err := s.file.ReadAt(s.buf[:min(n, s.size-at)], at)
	if err != nil && !errors.Is(err, io.EOF) { // a file shorter than it was holds no more records
		return nil, err
	}
	s.bufAt, s.buf = at, s.buf[:got]
	return s.buf, nil
}

// sumRange returns the checksum of n bytes at off, or io.ErrUnexpectedEOF if fewer are there. It keeps its buffer in buf.
func sumRange(r io.ReaderAt, off, n int64, buf *[]byte) (uint32, error) {
	if *buf == nil {
		*buf = make([]byte, readBufSize)
	}
	var sum uint32
	for n > 0 {
		p := (*buf)[:min(n, int64(len(*buf)))]
		got, err := r.ReadAt(p, off)
		sum = objstore.UpdateChecksum(sum, p[:got])
		if got == len(p) {
			off += int64(got)
			n -= int64(got)
			continue
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	return sum, nil
}
