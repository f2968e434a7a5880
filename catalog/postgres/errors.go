package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/streamhouse/streamhouse/catalog"
)

// ErrDamaged means that what the database holds contradicts itself or cannot be read. Nothing is repaired here; the
// operator has to restore a backup.
var ErrDamaged = errors.New("the catalog's database is damaged: restore it from a backup")

// SQLSTATE codes that are told apart.
const (
	codeDiskFull         = "53100"
	codeSerialization    = "40001"
	codeDeadlock         = "40P01"
	codeReadOnly         = "25006"
	codeIdleInTx         = "25P03"
	codeLockNotAvailable = "55P03"
	codeNotReady         = "55000"
	codePlanChanged      = "0A000"
	codeForeignKey       = "23503"
	codeUniqueViolation  = "23505"
	codeUndefinedTable   = "42P01"
	codeNoPrivilege      = "42501"
	codeNoDatabase       = "3D000"
)

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// contractErrors are answers of ours that pass unchanged.
var contractErrors = []error{
	catalog.ErrFenced, catalog.ErrSequence, catalog.ErrConflict, catalog.ErrInvalid, catalog.ErrTopicExists, catalog.ErrTopicCollision,
	catalog.ErrUnknownTopic, catalog.ErrPartitionCount, catalog.ErrVersionMismatch, catalog.ErrUnknownBroker, catalog.ErrNotExpired,
	catalog.ErrNotFound, catalog.ErrBrokerAlive, catalog.ErrUnavailable, catalog.ErrNoSpace, catalog.ErrClosed, ErrDamaged, ErrNewerSchema, ErrNoSchema,
}

func ours(err error) bool {
	for _, known := range contractErrors {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// translate turns the driver's errors, and those of a context, into the contract's. What is not a verdict of the server
// (a connection lost, a time-out) leaves open whether the statement was applied: catalog.ErrUnavailable.
func translate(ctx context.Context, err error) error {
	if err == nil || ours(err) {
		return err
	}
	state := sqlState(err)
	switch {
	case state == codeDiskFull:
		return fmt.Errorf("%w: free space on the database server: %w", catalog.ErrNoSpace, err)
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		return fmt.Errorf("%w: %w: %w", catalog.ErrUnavailable, ctx.Err(), err)
	case state == "" || unavailable(state):
		return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	}
	switch state[:2] {
	case "22": // text or numbers that Postgres does not take, such as a NUL byte
		return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	case "XX":
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// unavailable tells whether a SQLSTATE says something of the server's state, not of the statement.
func unavailable(state string) bool {
	switch state {
	case codeReadOnly, codeIdleInTx, codeLockNotAvailable, codeNotReady, codePlanChanged, codeNoDatabase, codeSerialization, codeDeadlock:
		return true
	}
	switch state[:2] {
	case "08", "28", "53", "57", "58": // connection, authorisation, resources, operator's intervention, system
		return true
	}
	return false
}

// lost tells whether the connection is gone, or the server behind it is about to be.
func lost(err error) bool {
	switch state := sqlState(err); {
	case ours(err):
		return false
	case state == "":
		return true
	default:
		return state[:2] == "08" || state[:3] == "57P" || state == codeReadOnly
	}
}

// rolledBack tells whether the server says that it undid everything and that trying again may work.
func rolledBack(err error) bool {
	switch sqlState(err) {
	case codeSerialization, codeDeadlock, codePlanChanged:
		return true
	}
	return false
}

func isParseError(err error) bool {
	_, is := errors.AsType[*pgconn.ParseConfigError](err)
	return is
}

// openError adds to an error of opening what the operator can do.
func openError(ctx context.Context, err error) error {
	var hint string
	switch state := sqlState(err); {
	case errors.Is(err, ErrUnsafe), errors.Is(err, ErrTooOld), ours(err):
		return err
	case isParseError(err):
		return err
	case state == codeNoDatabase:
		hint = "create it: CREATE DATABASE ... OWNER ..."
	case state == codeNoPrivilege:
		hint = "the role needs CREATE and USAGE on the first schema of its search_path, best by owning the database"
	case len(state) == 5 && state[:2] == "28":
		hint = "check user and password in the catalog's URL, and the server's pg_hba.conf"
	default:
		return translate(ctx, err)
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
