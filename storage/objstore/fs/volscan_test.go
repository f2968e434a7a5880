package fs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

func slogTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func leChecksum(p []byte) []byte { return binary.LittleEndian.AppendUint32(nil, objstore.Checksum(p)) }

// image builds a volume of the given bodies.
func image(generation uint64, blocks int, bodies ...string) []byte {
	p := make([]byte, blocks*blockBytes)
	copy(p, volumeHeader{generation: generation, serial: 1}.encode())
	at := int64(blockBytes)
	for i, body := range bodies {
		h := recordHeader{generation: generation, seq: uint64(i + 1), off: at, key: fmt.Sprintf("k/%d", i), size: int64(len(body)), sum: objstore.Checksum([]byte(body))}
		h.encode(p[at:])
		copy(p[h.bodyAt():], body)
		at = h.end()
	}
	return p
}

// Whatever a volume holds, a scan ends, stays within it, and says of no record that it is whole unless its checksum says so.
// Fuzz with -fuzzminimizetime 10x: making inputs of many blocks smaller takes longer than finding them.
func FuzzVolumeScan(f *testing.F) {
	f.Add(image(7, 8, "hello", string(make([]byte, 9000)), "", "x"), uint64(7))
	f.Add(image(7, 3, string(make([]byte, 5000))), uint64(0))
	f.Add([]byte(volumeMagic), uint64(1))
	torn := image(9, 6, "one", "two", "three")
	torn[2*blockBytes+70]++
	f.Add(torn, uint64(9))
	f.Fuzz(func(t *testing.T, p []byte, generation uint64) {
		if _, err := readVolumeHeader(bytes.NewReader(p)); err != nil {
			require.NotEmpty(t, err.Error())
		}
		size := int64(len(p)) &^ (blockBytes - 1)
		var ends int64 = blockBytes
		scan := volumeScan{file: bytes.NewReader(p), size: size, generation: generation, verify: true}
		end, err := scan.run(0, func(h recordHeader, torn bool) {
			require.GreaterOrEqual(t, h.off, ends, "records overlap")
			ends = h.end()
			require.LessOrEqual(t, ends, size)
			require.NoError(t, objstore.ValidateKey(h.key))
			require.True(t, generation == 0 || h.generation == generation)
			if !torn && !h.dead {
				require.Equal(t, h.sum, objstore.Checksum(p[h.bodyAt():h.bodyAt()+h.size]))
			}
		})
		require.NoError(t, err)
		require.Equal(t, ends, end)
	})
}

// The format, byte for byte.
func TestVolumeFormat(t *testing.T) {
	p := volumeHeader{generation: 0x1122334455667788, serial: 5, sealed: true}.encode()
	want := []byte("SHVOLUME\x01\x00\x00\x00\x00\x00\x00\x00\x88\x77\x66\x55\x44\x33\x22\x11\x05\x00\x00\x00\x00\x00\x00\x00")
	want = append(want, leChecksum(want)...)
	require.Equal(t, want, p[:volumeHeaderBytes])
	seal := []byte("SHSEALED\x88\x77\x66\x55\x44\x33\x22\x11")
	seal = append(seal, leChecksum(seal)...)
	require.Equal(t, seal, p[sealAt:sealAt+sealBytes])
	h, err := decodeVolumeHeader(p)
	require.NoError(t, err)
	require.Equal(t, volumeHeader{generation: 0x1122334455667788, serial: 5, sealed: true}, h)
	p[sealAt+8]++
	h, err = decodeVolumeHeader(p)
	require.NoError(t, err)
	require.False(t, h.sealed, "the seal of another generation")

	r := recordHeader{generation: 2, seq: 3, off: blockBytes, mod: 4, size: 6, sum: 0x0a0b0c0d, key: "a/b"}
	q := make([]byte, 100)
	r.encode(q)
	front := []byte("SHRC\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00" +
		"\x04\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x0d\x0c\x0b\x0a\x03\x00\x00\x00")
	sum := objstore.Checksum(front[:4], front[8:], []byte("a/b"))
	front = binary.LittleEndian.AppendUint32(front, sum)
	require.Equal(t, append(front, "a/b"...), q[:recordHeaderBytes+3])
	got, ok := decodeRecordHeader(q, 2, blockBytes, 3*blockBytes)
	require.True(t, ok)
	require.Equal(t, r, got)
	copy(q[deadAt:], "DEAD")
	got, ok = decodeRecordHeader(q, 0, blockBytes, 3*blockBytes)
	require.True(t, ok)
	require.True(t, got.dead)
	for _, wrong := range []struct{ generation, off, size int64 }{{3, blockBytes, 3 * blockBytes}, {2, 2 * blockBytes, 3 * blockBytes}, {2, blockBytes, blockBytes}} {
		_, ok = decodeRecordHeader(q, uint64(wrong.generation), wrong.off, wrong.size)
		require.False(t, ok, "%v", wrong)
	}
}
