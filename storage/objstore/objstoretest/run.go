package objstoretest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Open returns a new, empty store.
type Open func() objstore.Store

// suite is one test and its store.
type suite struct {
	*testing.T

	store objstore.Store
}

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"PutThenRead", (*suite).testPutThenRead},
		{"PutEmpty", (*suite).testPutEmpty},
		{"PutManySlices", (*suite).testPutManySlices},
		{"PutIfAbsent", (*suite).testPutIfAbsent},
		{"PutRace", (*suite).testPutRace},
		{"PutsOfManyKeysAtOnce", (*suite).testPutsAtOnce},
		{"PutIsAtomicForReaders", (*suite).testPutAtomic},
		{"PutRefusesWrongBodies", (*suite).testPutWrongBodies},
		{"PutRetainsNothing", (*suite).testPutRetainsNothing},
		{"InvalidKeys", (*suite).testInvalidKeys},
		{"KeysThroughObjects", (*suite).testKeysThroughObjects},
		{"RangeEdges", (*suite).testRangeEdges},
		{"NotFound", (*suite).testNotFound},
		{"HeadIsAuthoritative", (*suite).testHead},
		{"Settle", (*suite).testSettle},
		{"ListOrder", (*suite).testListOrder},
		{"ListPages", (*suite).testListPages},
		{"ListPrefixAndAfter", (*suite).testListPrefixAndAfter},
		{"ListWhileChanging", (*suite).testListWhileChanging},
		{"DeleteIsIdempotent", (*suite).testDelete},
		{"DeleteManyInOneCall", (*suite).testDeleteMany},
		{"DeleteThenPutAgain", (*suite).testDeleteThenPut},
		{"DeleteWhileReading", (*suite).testDeleteWhileReading},
		{"ContextEnded", (*suite).testContextEnded},
		{"ContextEndsDuringPut", (*suite).testContextEndsDuringPut},
		{"Closed", (*suite).testClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			s := open()
			defer func() { require.NoError(t, s.Close()) }()
			test.run(&suite{T: t, store: s})
		})
	}
}

// random returns n bytes that depend on seed alone.
func random(seed uint64, n int) []byte {
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 1})
	p := make([]byte, n)
	_, _ = src.Read(p) // never fails
	return p
}

// split cuts p into slices of varying length, empty ones among them.
func split(p []byte, seed uint64, most int) [][]byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	var slices [][]byte
	for len(p) > 0 {
		n := min(rng.IntN(most+1), len(p))
		slices = append(slices, p[:n:n])
		p = p[n:]
	}
	return append(slices, nil)
}

// ended tells whether done is closed.
func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func put(t *suite, s objstore.Store, key string, data []byte) {
	t.Helper()
	require.NoError(t, s.Put(t.Context(), key, objstore.NewBody(data)))
}

func requireContent(t *suite, s objstore.Store, key string, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	require.NoError(t, s.GetRange(t.Context(), key, 0, got))
	require.True(t, bytes.Equal(want, got), "content of %s differs", key)
	info, err := s.Head(t.Context(), key)
	require.NoError(t, err)
	require.EqualValues(t, len(want), info.Size)
	require.True(t, info.HasChecksum)
	require.Equal(t, objstore.Checksum(want), info.Checksum)
	require.Equal(t, key, info.Key)
}

// listAll pages through everything under prefix.
func listAll(ctx context.Context, s objstore.Store, prefix string, limit int) ([]string, error) {
	var keys []string
	after := ""
	for {
		page, more, err := s.List(ctx, prefix, after, limit)
		if err != nil {
			return nil, err
		}
		for _, info := range page {
			keys = append(keys, info.Key)
		}
		if !more {
			return keys, nil
		}
		if len(page) == 0 {
			return nil, errors.New("an empty page says that there are more")
		}
		after = page[len(page)-1].Key
	}
}
