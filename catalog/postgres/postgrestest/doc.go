// Package postgrestest runs a private Postgres for tests: real ones, not imitations. Nothing is skipped when Postgres is
// not installed; the test fails and says what to install.
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		c, err := postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t)})
//		...
//	}
//
// [New] makes a migrated, empty database in a server that all tests of the process share, without fsync, for speed.
// [Start] runs a server of one's own, which can be stopped, killed and started again.
//
// The binaries are looked for in PATH and where packages put them. Servers listen on a free port of 127.0.0.1, keep their
// files in a temporary folder, run as the user postgres or nobody when the tests run as root (Postgres refuses to run as
// root), and die with the test process.
package postgrestest
