package objstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/faulty"
	"github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/metered"
	"github.com/streamhouse/streamhouse/storage/objstore/retry"
	"github.com/streamhouse/streamhouse/storage/objstore/slow"
)

func TestChecksumIsThatOfTheConcatenation(t *testing.T) {
	require.EqualValues(t, 0xe3069283, objstore.Checksum([]byte("123456789"))) // the check value of CRC-32C
	require.EqualValues(t, 0xe3069283, objstore.Checksum([]byte("12"), nil, []byte("3456789")))
	require.EqualValues(t, 0xe3069283, objstore.UpdateChecksum(objstore.Checksum([]byte("1234")), []byte("56789")))
	body := objstore.NewBody([]byte("1234"), []byte("56789"))
	require.EqualValues(t, 9, body.Size)
	require.EqualValues(t, 0xe3069283, body.Checksum)
}

func FuzzValidateKey(f *testing.F) {
	for _, key := range []string{"a", "log/2026-01-01T00/p=1/0.1", "..", "a/../b", "/", "", "a//b", ".tmp/x", "a\x00", strings.Repeat("a/", 300)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		err := objstore.ValidateKey(key)
		if err != nil {
			require.ErrorIs(t, err, objstore.ErrInvalidKey)
			return
		}
		require.NotEmpty(t, key)
		require.LessOrEqual(t, len(key), objstore.MaxKeyBytes)
		for segment := range strings.SplitSeq(key, "/") {
			require.NotEmpty(t, segment)
			require.LessOrEqual(t, len(segment), objstore.MaxSegmentBytes)
			require.False(t, strings.HasPrefix(segment, "."))
		}
		require.False(t, strings.ContainsAny(key, "\\:*?\"<>|\x00 \n\t"))
	})
}

func TestRetriableAndInDoubt(t *testing.T) {
	for _, test := range []struct {
		err                error
		retriable, inDoubt bool
	}{
		{nil, false, false},
		{objstore.ErrExists, false, false},
		{objstore.ErrNotFound, false, true}, // no Put answers it; in doubt is the safe side
		{objstore.ErrNoSpace, true, false},
		{objstore.ErrInvalidKey, false, false},
		{objstore.ErrInvalidBody, false, false},
		{objstore.ErrChecksum, false, false},
		{objstore.ErrReadOnly, false, false},
		{objstore.ErrUnavailable, true, true},
		{objstore.ErrClosed, false, true},
		{context.Canceled, false, true},
		{context.DeadlineExceeded, false, true},
		{io.ErrUnexpectedEOF, false, true},
		{fmt.Errorf("%w: %w", objstore.ErrUnavailable, context.DeadlineExceeded), true, true}, // a timeout of the store's own
		{fmt.Errorf("%w: %w", objstore.ErrInDoubt, objstore.ErrNoSpace), true, true},
		{errors.New("something of the backend's"), true, true},
	} {
		require.Equal(t, test.retriable, objstore.Retriable(test.err), "%v", test.err)
		require.Equal(t, test.inDoubt, objstore.InDoubt(test.err), "%v", test.err)
		if test.err != nil {
			wrapped := fmt.Errorf("put x: %w", test.err)
			require.Equal(t, test.retriable, objstore.Retriable(wrapped))
			require.Equal(t, test.inDoubt, objstore.InDoubt(wrapped))
		}
	}
}

func TestDeleteErrorTellsTheFirstAndHowMany(t *testing.T) {
	err := error(&objstore.DeleteError{Left: []string{"a", "b"}, Err: objstore.ErrUnavailable})
	require.ErrorIs(t, err, objstore.ErrUnavailable)
	require.Contains(t, err.Error(), "2 left, the first is a")
	require.NotPanics(t, func() { _ = (&objstore.DeleteError{}).Error() })
}

// headless is a store whose Head knows no checksum, or fails.
type headless struct {
	objstore.Store

	err error
}

func (h headless) Head(ctx context.Context, key string) (objstore.Info, error) {
	info, err := h.Store.Head(ctx, key)
	info.HasChecksum, info.Checksum = false, 0
	return info, errors.Join(err, h.err)
}

func TestSettleNeverGuesses(t *testing.T) {
	s := memory.New()
	body := objstore.NewBody([]byte("abc"))
	body2 := objstore.NewBody([]byte("abcd"))
	require.NoError(t, s.Put(t.Context(), "k", body))

	_, err := objstore.Settle(t.Context(), headless{Store: s}, "k", body.Size, body.Checksum)
	require.Error(t, err, "equal length is not enough")
	require.True(t, objstore.Retriable(err))

	outcome, err := objstore.Settle(t.Context(), headless{Store: s}, "k", body2.Size, body2.Checksum)
	require.NoError(t, err)
	require.Equal(t, objstore.Foreign, outcome)

	outcome, err = objstore.Settle(t.Context(), headless{s, objstore.ErrUnavailable}, "k", body.Size, body.Checksum)
	require.ErrorIs(t, err, objstore.ErrUnavailable)
	require.Zero(t, outcome)
	require.Equal(t, []string{"unknown", "stored", "absent", "foreign"},
		[]string{outcome.String(), objstore.Stored.String(), objstore.Absent.String(), objstore.Foreign.String()})
}

// pressed is a store whose backend may ask to slow down.
type pressed struct {
	objstore.Store

	calm bool
}

func (p *pressed) Calm() bool { return p.calm }

func TestCalmIsPassedOn(t *testing.T) {
	for name, wrap := range map[string]func(objstore.Store) objstore.Store{
		"faulty":  func(s objstore.Store) objstore.Store { return faulty.New(s, nil) },
		"metered": func(s objstore.Store) objstore.Store { return metered.New(s, metered.Hooks{}) },
		"retry":   func(s objstore.Store) objstore.Store { return retry.New(s, retry.Policy{}) },
		"slow":    func(s objstore.Store) objstore.Store { return slow.New(s, slow.Latency{}) },
	} {
		t.Run(name, func(t *testing.T) {
			inner := &pressed{Store: memory.New(), calm: true}
			outer := wrap(inner)
			require.True(t, objstore.Calm(outer))
			inner.calm = false
			require.False(t, objstore.Calm(outer))
			require.True(t, objstore.Calm(wrap(memory.New())), "a store that does not know")
		})
	}
}
