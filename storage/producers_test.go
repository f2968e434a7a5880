package storage

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func seqs(first, n int32) sent {
	last := first
	for range n - 1 {
		last = nextSeq(last)
	}
	return sent{first: first, last: last}
}

func TestProducerSequences(t *testing.T) {
	var ps producers
	send := func(id int64, epoch int16, s sent) (*sent, error) {
		dup, err := ps.check(id, epoch, s.first, s.last)
		if dup == nil && err == nil {
			ps.add(id, epoch, s, 1)
		}
		return dup, err
	}
	ok := func(epoch int16, s sent) {
		t.Helper()
		dup, err := send(7, epoch, s)
		require.NoError(t, err)
		require.Nil(t, dup)
	}
	ok(0, seqs(41, 2)) // an unknown producer may start anywhere
	ok(0, seqs(43, 3))
	dup, err := send(7, 0, seqs(41, 2))
	require.NoError(t, err)
	require.NotNil(t, dup)
	_, err = send(7, 0, seqs(47, 1))
	require.ErrorIs(t, err, ErrOutOfOrderSequence)
	_, err = send(7, 0, seqs(43, 2)) // same start, other length: not the same batch
	require.ErrorIs(t, err, ErrOutOfOrderSequence)
	for i := range int32(window) {
		ok(0, seqs(46+i, 1))
	}
	_, err = send(7, 0, seqs(43, 3)) // left the window
	require.ErrorIs(t, err, ErrOutOfOrderSequence)

	_, err = send(7, 1, seqs(5, 1))
	require.ErrorIs(t, err, ErrOutOfOrderSequence, "a new epoch starts at 0")
	ok(1, seqs(0, 1))
	_, err = send(7, 0, seqs(51, 1))
	require.ErrorIs(t, err, ErrInvalidProducerEpoch)

	ps.add(8, 0, sent{first: math.MaxInt32 - 1, last: math.MaxInt32}, 1)
	dup, err = ps.check(8, 0, 0, 4)
	require.NoError(t, err, "sequences wrap")
	require.Nil(t, dup)
	require.Equal(t, int32(1), seqs(math.MaxInt32, 3).last)
}

func TestProducersAreBoundedAndExpire(t *testing.T) {
	var ps producers
	for id := range int64(100) {
		ps.add(id, 0, seqs(0, 1), id)
	}
	flying := &flight{done: make(chan struct{})}
	ps.add(0, 0, sent{first: 1, last: 1, flight: flying}, 0)
	ps.trim(50, 1000)
	require.Len(t, ps.byID, 51)
	require.Contains(t, ps.byID, int64(0), "in flight")
	ps.trim(0, 20)
	require.LessOrEqual(t, len(ps.byID), 20)
	require.Contains(t, ps.byID, int64(99))
	require.Contains(t, ps.byID, int64(0))
	close(flying.done)
	ps.trim(50, 20)
	require.NotContains(t, ps.byID, int64(0))
}

func TestProducerSnapshot(t *testing.T) {
	var ps producers
	for id := range int64(50) {
		for i := range int32(id%7 + 1) {
			ps.add(id*1000, int16(id), sent{first: i, last: i, base: int64(i) + id}, id)
		}
	}
	b := ps.encode()
	got, err := decodeProducers(b)
	require.NoError(t, err)
	require.Equal(t, ps.byID, got.byID)
	require.Equal(t, b, got.encode())
	golden := filepath.Join("testdata", "producers.v1")
	if *update {
		require.NoError(t, os.WriteFile(golden, b, 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, want, b, "version 1 is written down")
	for i := range b {
		bad := append([]byte(nil), b...)
		bad[i] ^= 0x40
		_, err := decodeProducers(bad)
		require.ErrorIs(t, err, errSnapshot)
		_, err = decodeProducers(b[:i])
		if i > 0 {
			require.ErrorIs(t, err, errSnapshot)
		}
	}
	got, err = decodeProducers(nil)
	require.NoError(t, err)
	require.Nil(t, got.encode())
}
