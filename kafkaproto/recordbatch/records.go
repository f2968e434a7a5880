package recordbatch

import "iter"

// Record is one record of a batch. Its bytes alias the batch (or, where that
// is compressed, a buffer decompressed for it that nothing else uses): keep
// the record only as long as the batch's bytes live, and change nothing.
type Record struct {
	OffsetDelta    int32
	TimestampDelta int64 // milliseconds after the batch's FirstTimestamp
	Attributes     int8
	Key, Value     []byte // nil is null; empty is not
	Headers        []RecordHeader
}

// RecordHeader is a header of a record. Keys need not be unique.
type RecordHeader struct {
	Key   string
	Value []byte // nil is null
}

// Records ranges over the records of the batch b, in order, decompressing at
// most maxDecompressed bytes (0: DefaultMaxDecompressedBytes). It ends after
// the first error, which comes with a zero Record. The checksum is not looked
// at, nor are the rules of [Validate] beyond structure, so that stored and
// compacted batches can be read.
func Records(b []byte, maxDecompressed int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		h, body, err := openBody(b, maxDecompressed)
		if err != nil {
			yield(Record{}, err)
			return
		}
		for r := range int(h.NumRecords) {
			rec, rest, err := readRecord(body, r)
			if err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(rec, nil) {
				return
			}
			body = rest
		}
		if len(body) > 0 {
			yield(Record{}, newError(KindInvalidRecord, "%d bytes follow the %d records of the batch", len(body), h.NumRecords))
		}
	}
}

// openBody returns the header of the batch b and its records, decompressed.
func openBody(b []byte, maxDecompressed int64) (Header, []byte, error) {
	batch, _, err := Next(b)
	if err != nil {
		return Header{}, nil, err
	}
	h, err := ParseHeader(batch)
	if err != nil {
		return h, nil, err
	}
	body := batch[HeaderSize:]
	switch c := h.Compression(); {
	case !c.known():
		return h, nil, newError(KindUnsupportedCompression, "compression codec %d is not known", c)
	case c != CodecNone && h.NumRecords > 0:
		body, err = decompress(nil, c, body, maxDecompressed)
	}
	return h, body, err
}

// fields reads the fields of one record and remembers the first failure.
type fields struct {
	p      []byte
	i      int
	record int
	err    *Error
}

func (f *fields) varint(name string) int64 {
	if f.err != nil {
		return 0
	}
	u, i := uvarint(f.p, f.i)
	if i < 0 {
		f.err = badVarint(f.record, name, i)
		return 0
	}
	f.i = i
	return unzigzag(u)
}

// bytes reads a length and as many bytes; -1 is nil.
func (f *fields) bytes(name string) []byte {
	n := f.varint(name)
	if f.err != nil || n == -1 {
		return nil
	}
	if n < 0 || n > int64(len(f.p)-f.i) {
		f.err = badSize(f.record, name, n, len(f.p)-f.i)
		return nil
	}
	start := f.i
	f.i += int(n)
	return f.p[start:f.i:f.i]
}

func readRecord(p []byte, r int) (rec Record, rest []byte, err error) {
	f := fields{p: p, record: r}
	length := f.varint("length")
	if f.err != nil {
		return rec, nil, f.err
	}
	if length < 1 || length > int64(len(p)-f.i) {
		return rec, nil, recordError(KindInvalidRecord, r, "the record claims %d bytes; %d are left in the batch", length, len(p)-f.i)
	}
	end := f.i + int(length)
	f.p, rest = p[:end], p[end:]
	rec.Attributes = int8(f.p[f.i])
	f.i++
	rec.TimestampDelta = f.varint("timestamp delta")
	delta := f.varint("offset delta")
	rec.OffsetDelta = int32(delta)
	rec.Key = f.bytes("key")
	rec.Value = f.bytes("value")
	n := f.varint("header count")
	switch {
	case f.err != nil:
		return Record{}, nil, f.err
	case delta < 0 || !isInt32(delta):
		return Record{}, nil, recordError(KindInvalidRecord, r, "offset delta %d", delta)
	case n < 0 || n > int64(end-f.i)/2:
		return Record{}, nil, recordError(KindInvalidRecord, r, "the record claims %d headers in %d bytes", n, end-f.i)
	}
	if n > 0 {
		// A header of two bytes takes 40 here: the first ones are a guess,
		// and the rest grows with what is really there.
		rec.Headers = make([]RecordHeader, 0, min(n, 64))
	}
	for range n {
		key := f.bytes("header key")
		if f.err == nil && key == nil {
			f.err = badSize(r, "header key", -1, end-f.i)
		}
		rec.Headers = append(rec.Headers, RecordHeader{Key: string(key), Value: f.bytes("header value")})
		if f.err != nil {
			return Record{}, nil, f.err
		}
	}
	if f.i != end {
		return Record{}, nil, recordError(KindInvalidRecord, r, "the record has %d bytes more than its fields", end-f.i)
	}
	return rec, rest, nil
}
