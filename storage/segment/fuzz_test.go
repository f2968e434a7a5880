package segment

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func seed(f *testing.F, name string) []byte {
	f.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func known(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
		t.Fatalf("neither corrupt nor of another version: %v", err)
	}
}

// FuzzDecodeTail: what is decoded is valid, and survives a round trip. Inputs get a right checksum, so that what is
// behind it is reached.
func FuzzDecodeTail(f *testing.F) {
	b := seed(f, "tail_v1.bin")
	f.Add(b[:len(b)-sumSize])
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		ix, err := DecodeTail(appendSum(append([]byte(nil), body...), 0))
		if err != nil {
			known(t, err)
			return
		}
		if err := ix.Validate(); err != nil {
			t.Fatal(err)
		}
		first := ix.AppendTail(nil)
		again, err := DecodeTail(first)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.AppendTail(nil), first) {
			t.Fatal("a round trip changes it")
		}
	})
}

func FuzzDecodePacked(f *testing.F) {
	b := seed(f, "packed_v1.bin")
	f.Add(b[:len(b)-sumSize])
	f.Fuzz(func(t *testing.T, body []byte) {
		extents, err := DecodePacked(appendSum(append([]byte(nil), body...), 0))
		if err != nil {
			known(t, err)
			return
		}
		if !bytes.Equal(AppendPacked(nil, extents), appendSum(append([]byte(nil), body...), 0)) {
			t.Fatal("a row has two encodings")
		}
	})
}

// FuzzReadFooter opens an object whose footer is the input (with right checksums) and asks it everything; then the
// input itself as an object.
func FuzzReadFooter(f *testing.F) {
	b := seed(f, "object_v1.bin")
	t, err := decodeTrailer(b[len(b)-trailerSize:], int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[t.dataEnd:len(b)-trailerSize], uint32(t.dataEnd))
	f.Fuzz(func(t *testing.T, footer []byte, dataEnd uint32) {
		ctx := context.Background()
		_, err := VerifyObject(ctx, store(footer), "k", int64(len(footer)), nil)
		if err != nil {
			known(t, err)
		}
		dataEnd = max(headerSize, dataEnd%(1<<20))
		object := append(make([]byte, dataEnd), appendTrailer(append([]byte(nil), footer...), int64(dataEnd))...)
		copy(object, objectHeader)
		fo, err := ReadFooter(ctx, store(object), "k", int64(len(object)))
		if err != nil {
			known(t, err)
			return
		}
		for i, e := range fo.Extents() {
			if e.Pos < headerSize || e.Pos+e.Len > fo.DataEnd() || e.Base >= e.End || e.Runs < 1 {
				t.Fatalf("extent %d is %+v", i, e)
			}
			for _, offset := range []int64{e.Base, e.End - 1, e.Base + (e.End-e.Base)/2} {
				if pos, end, ok := fo.Find(e.TopicPartition, offset); !ok || pos < e.Pos || pos >= end || end != e.Pos+e.Len {
					t.Fatalf("offset %d of extent %+v is at [%d,%d) %v", offset, e, pos, end, ok)
				}
			}
			if _, ok := fo.FindTime(e.TopicPartition, e.Base, e.End, e.MaxTimestamp); !ok {
				t.Fatalf("the max timestamp of extent %+v is not found", e)
			}
		}
		for i := range fo.Blocks() {
			fo.BlockSum(i)
		}
		if _, err := VerifyObject(ctx, store(object), "k", int64(len(object)), nil); err != nil {
			known(t, err)
		}
	})
}
