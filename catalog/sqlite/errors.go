package sqlite

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"

	"github.com/streamhouse/streamhouse/catalog"
)

// ErrDamaged means that the file is not a catalog of this program, or its pages contradict each other. Nothing is repaired
// here; the operator has to restore a copy.
var ErrDamaged = errors.New("catalog file is damaged: restore it from a copy, or look at it with the sqlite3 shell's .recover")

// Primary result codes of SQLite; extended codes carry them in the low byte.
const (
	codePerm       = 3
	codeBusy       = 5
	codeLocked     = 6
	codeNoMem      = 7
	codeReadOnly   = 8
	codeInterrupt  = 9
	codeIOErr      = 10
	codeCorrupt    = 11
	codeFull       = 13
	codeCantOpen   = 14
	codeProtocol   = 15
	codeConstraint = 19
	codeNotADB     = 26
)

func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// translate turns SQLite's errors, and those of a context, into the contract's. Errors of the contract pass unchanged.
func translate(err error) error {
	switch {
	case err == nil, errors.Is(err, catalog.ErrUnavailable), errors.Is(err, catalog.ErrNoSpace), errors.Is(err, ErrDamaged):
		return err // translated before
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	}
	switch code(err) {
	case 0:
		return err
	case codeFull:
		return fmt.Errorf("%w: free some disk space: %w", catalog.ErrNoSpace, err)
	case codeCorrupt, codeNotADB:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case codePerm, codeBusy, codeLocked, codeNoMem, codeReadOnly, codeInterrupt, codeIOErr, codeCantOpen, codeProtocol:
		return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	default:
		return err
	}
}

// refusal tells whether err is an answer to one write alone, after which its transaction is still whole: an error of
// ours, or a constraint that undid only its statement. After any other error SQLite may have rolled everything back.
func refusal(err error) bool {
	c := code(err)
	return c == 0 || c == codeConstraint
}

// inDoubt is the answer to a write whose context ended while it was being applied.
func inDoubt(ctx context.Context) error {
	return fmt.Errorf("%w: the write may still be applied: %w", catalog.ErrUnavailable, context.Cause(ctx))
}
