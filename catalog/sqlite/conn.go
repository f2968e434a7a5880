package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	"modernc.org/sqlite"
)

// conn is one SQLite connection used straight through its driver, by one goroutine at a time. database/sql would add
// a goroutine and some dozen allocations to each statement, and its pool fits neither one writer nor readers that
// must be read-only. Statements are prepared once and kept.
type conn struct {
	raw driver.Conn
	// whole is the context of every statement: they are short and run to their end. Interrupting one would take the
	// transaction of a whole group with it, and the driver would start a goroutine per statement to watch for that.
	whole context.Context
	stmts map[string]driver.Stmt
	args  []driver.NamedValue
	bound int64 // what was written, roughly: bytes of blobs and texts bound, 1 KiB a statement, 256 B a row
}

// openConn opens a connection to the file. mode is SQLite's: rwc, rw or ro.
func openConn(path, mode string, pragmas ...string) (*conn, error) {
	raw, err := (&sqlite.Driver{}).Open(dsn(path, mode))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, translate(err))
	}
	c := &conn{raw: raw, whole: context.Background(), stmts: make(map[string]driver.Stmt)}
	for _, p := range pragmas {
		if err := c.once("PRAGMA " + p); err != nil {
			return nil, errors.Join(fmt.Errorf("set %s on %s: %w", p, path, translate(err)), raw.Close())
		}
	}
	return c, nil
}

func dsn(path, mode string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=" + mode
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	clear(c.stmts)
	return errors.Join(append(errs, c.raw.Close())...)
}

// prepared returns the kept statement of a query. Queries are constants of this package, so they are few.
func (c *conn) prepared(query string) (driver.Stmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	s, err := c.raw.Prepare(query)
	if err != nil {
		return nil, fmt.Errorf("prepare %q: %w", query, err)
	}
	c.stmts[query] = s
	return s, nil
}

func (c *conn) named(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	c.bound += 1 << 10
	for i, a := range args {
		switch v := a.(type) {
		case []byte:
			c.bound += int64(len(v))
		case string:
			c.bound += int64(len(v))
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// exec runs a statement and returns how many rows it changed. Arguments are int64, string, []byte or nil.
func (c *conn) exec(query string, args ...any) (int64, error) {
	s, err := c.prepared(query)
	if err != nil {
		return 0, err
	}
	named := c.named(args)
	res, err := s.(driver.StmtExecContext).ExecContext(c.whole, named)
	clear(named) // keeps no caller's bytes alive
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	c.bound += n << 8
	return n, err
}

// once runs a statement that is not worth keeping.
func (c *conn) once(query string) error {
	s, err := c.raw.Prepare(query)
	if err != nil {
		return err
	}
	_, err = s.(driver.StmtExecContext).ExecContext(c.whole, nil)
	return errors.Join(err, s.Close())
}

// query calls each for every row. each must not use the same query again, nor keep the row. ctx is looked at now and
// then; queries here are short, so they are not interrupted.
func (c *conn) query(ctx context.Context, query string, each func(row) error, args ...any) (err error) {
	s, err := c.prepared(query)
	if err != nil {
		return err
	}
	named := c.named(args)
	rows, err := s.(driver.StmtQueryContext).QueryContext(c.whole, named) //nolint:contextcheck // see whole; ctx is looked at below
	clear(named)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	r := make(row, len(rows.Columns()))
	for n := 1; ; n++ {
		if err := rows.Next(r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := each(r); err != nil {
			return err
		}
	}
}

// one is query for at most one row. It reports whether there was one.
func (c *conn) one(query string, get func(row), args ...any) (bool, error) {
	found := false
	err := c.query(c.whole, query, func(r row) error {
		if !found {
			get(r)
		}
		found = true
		return nil
	}, args...)
	return found, err
}

// row is one result row. Tables are STRICT, so a column has the type the schema says, or is null.
type row []driver.Value

func (r row) int(i int) int64 { v, _ := r[i].(int64); return v }

func (r row) text(i int) string { v, _ := r[i].(string); return v }

// blob returns bytes that belong to the caller: the driver copied them.
func (r row) blob(i int) []byte { v, _ := r[i].([]byte); return v }

func (r row) null(i int) bool { return r[i] == nil }

// blob makes nil an empty blob: nil would be null.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
