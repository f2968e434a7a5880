// Package pages runs the commands of docs/quickstart.md, docs/cheatsheet.md, docs/testing.md and docs/observability.md, line by
// line, and asks a real Prometheus the queries of the last, so that the pages cannot rot. README's tour has a package of its own, tour.
//
// All run on one development stack from packages, on free ports that are put in place of those that the pages name. A page is
// read as its reader would: "streamhouse serve" is the first terminal, all else the second; "source" and "export" stay in
// force until the page ends. Each command must succeed and print what the table expects, some of them after a while: those that only ask
// are repeated for some seconds. A command without an entry fails the test, and so does an entry that no command matches.
//
// What is arranged around the commands: "go run ./cmd/streamhouse" is the built binary; a pgrep finds the test's broker and no other, an
// xdg-open fetches the page; groups do not wait for their first members; Prometheus scrapes each second.
//
// Commands that take minutes, or that another test runs, are listed with the reason and not run; the target of make, script or
// package that they name must exist.
package pages
