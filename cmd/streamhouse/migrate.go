package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/facts"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Bring the catalog's schema up to date, making it in an empty database."`
	Status migrateStatusCmd `cmd:"" help:"Show which migrations were applied."`
}

type migrateUpCmd struct {
	listingFlags
	facts.Flags
}

// Help is what --help shows below the summary.
func (*migrateUpCmd) Help() string {
	return `A broker does the same when it starts, so this is needed only where brokers use a role that may not change tables, or to
do it at a chosen time. With Postgres it can be done while brokers serve. The file of an embedded broker is migrated only
while that is stopped.`
}

// Run is kong's entry.
func (c *migrateUpCmd) Run(a *app) error {
	at, err := c.Resolve()
	if err != nil {
		return badUsage(err)
	}
	log := a.warnings()
	before, err := facts.Migrations(a.ctx, at, log)
	if err == nil {
		err = facts.Migrate(a.ctx, at, log)
	}
	if err != nil {
		return fmt.Errorf("migrate %s: %w", at, err)
	}
	after, err := facts.Migrations(a.ctx, at, log)
	if err != nil {
		return fmt.Errorf("migrate %s: %w", at, err)
	}
	p := &printer{w: a.stdout}
	done := 0
	for i := range after {
		if i < len(before) && before[i].Applied || !after[i].Applied {
			continue
		}
		done++
		if c.asJSON() {
			p.json(after[i])
		} else {
			p.printf("applied %s\n", after[i].Name)
		}
	}
	if done == 0 {
		say(a.stderr, "nothing to do: the schema is up to date\n")
	}
	return p.result()
}

type migrateStatusCmd struct {
	listingFlags
	facts.Flags
}

// Help is what --help shows below the summary.
func (*migrateStatusCmd) Help() string {
	return `Nothing is changed. The exit code is 1 when migrations wait to be applied, or when the schema was made by a newer version.`
}

// Run is kong's entry.
func (c *migrateStatusCmd) Run(a *app) error {
	at, err := c.Resolve()
	if err != nil {
		return badUsage(err)
	}
	list, err := facts.Migrations(a.ctx, at, a.warnings())
	if err != nil && len(list) == 0 {
		return fmt.Errorf("show the migrations of %s: %w", at, err)
	}
	waiting := 0
	for i := range list {
		if !list[i].Applied {
			waiting++
		}
	}
	var out error
	if c.asJSON() {
		p := &printer{w: a.stdout}
		for i := range list {
			p.json(list[i])
		}
		out = p.result()
	} else {
		out = a.table("VERSION\tMIGRATION\tAPPLIED", func(p *printer) {
			for _, m := range list {
				when := "no"
				if m.Applied {
					when = m.AppliedAt.Format(time.RFC3339)
				}
				p.printf("%d\t%s\t%s\n", m.Version, m.Name, when)
			}
		})
	}
	if waiting > 0 {
		out = errors.Join(out, fmt.Errorf("%d migrations wait: a broker applies them when it starts, or `streamhouse migrate up`", waiting))
	}
	return errors.Join(err, out)
}
