package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

// fleet is a catalog in Postgres with brokers that are only rows in it.
type fleet struct {
	t   *testing.T
	url string
	c   *postgres.Catalog
}

// newFleet makes a catalog and points commands at it.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, url: postgrestest.New(t)}
	c, err := postgres.Open(t.Context(), postgres.Options{URL: f.url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	f.c = c
	t.Setenv("STREAMHOUSE_CATALOG", f.url)
	return f
}

func (f *fleet) register(id catalog.BrokerID, ttl time.Duration) catalog.BrokerEpoch {
	f.t.Helper()
	b, err := f.c.RegisterBroker(f.t.Context(), catalog.Registration{
		ID: id, Incarnation: [16]byte{byte(id)}, Rack: fmt.Sprintf("zone-%d", id), TTL: ttl,
		Listeners: []catalog.Listener{{Name: "PLAINTEXT", Host: fmt.Sprintf("broker-%d", id), Port: 9092}},
	})
	require.NoError(f.t, err)
	return b.Epoch
}

// topic makes a topic whose partitions holder leads; 0: nobody.
func (f *fleet) topic(name string, partitions int32, holder catalog.BrokerEpoch) []catalog.TopicPartition {
	f.t.Helper()
	id := catalog.TopicID{1, byte(len(name)), name[0]}
	_, err := f.c.CreateTopic(f.t.Context(), catalog.TopicSpec{ID: id, Name: name, Partitions: partitions})
	require.NoError(f.t, err)
	var tps []catalog.TopicPartition
	for p := range partitions {
		tps = append(tps, catalog.TopicPartition{Topic: id, Partition: p})
	}
	if holder != 0 {
		_, err = f.c.AcquireLeases(f.t.Context(), holder, tps)
		require.NoError(f.t, err)
	}
	return tps
}

func (f *fleet) ask(asker catalog.BrokerEpoch, moves ...catalog.Move) {
	f.t.Helper()
	require.NoError(f.t, f.c.AskMoves(f.t.Context(), asker, moves))
}

func (f *fleet) lease(tp catalog.TopicPartition) catalog.Lease {
	f.t.Helper()
	set, err := f.c.LeaseSet(f.t.Context(), 0)
	require.NoError(f.t, err)
	for _, l := range set.Leases {
		if l.TopicPartition == tp {
			return l
		}
	}
	f.t.Fatalf("no lease of %s", tp)
	return catalog.Lease{}
}

// obey hands over what epoch is asked for, and what a draining broker should not have, until the test ends.
func (f *fleet) obey(epoch, others catalog.BrokerEpoch) {
	f.t.Helper()
	ctx, end := context.WithCancel(f.t.Context())
	var wg sync.WaitGroup
	f.t.Cleanup(func() { end(); wg.Wait() })
	once := func() error {
		brokers, err := f.c.ListBrokers(ctx)
		if err != nil {
			return err
		}
		draining := false
		for i := range brokers {
			draining = draining || brokers[i].Epoch == epoch && brokers[i].Draining
		}
		set, err := f.c.LeaseSet(ctx, 0)
		if err != nil {
			return err
		}
		for _, l := range set.Leases {
			to := l.Wanted
			if draining {
				to = others
			}
			if l.Holder == epoch && to != 0 {
				if _, err := f.c.MoveLeases(ctx, epoch, to, []catalog.HeldLease{{TopicPartition: l.TopicPartition, Epoch: l.Epoch}}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	wg.Go(func() {
		err := f.c.Listen(ctx, func(catalog.Announcement) {
			if err := once(); err != nil && ctx.Err() == nil {
				f.t.Errorf("obey: %v", err)
			}
		})
		if !errors.Is(err, context.Canceled) {
			f.t.Errorf("listen: %v", err)
		}
	})
}

// lines decodes JSON lines.
func lines[T any](t *testing.T, text string) (out []T) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	for dec.More() {
		var v T
		require.NoError(t, dec.Decode(&v))
		out = append(out, v)
	}
	return out
}

func TestBrokersAreShown(t *testing.T) {
	f := newFleet(t)
	r := exec(t, "", "brokers")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stderr, "no broker is registered")

	one, two, dead := f.register(1, time.Hour), f.register(2, 0), f.register(3, time.Hour)
	require.NoError(t, lease.EnsureInternal(t.Context(), f.c))
	tps := f.topic("orders", 4, one)
	_, err := f.c.AcquireLeases(t.Context(), one, []catalog.TopicPartition{lease.ControllerLease()})
	require.NoError(t, err)
	f.ask(two, catalog.Move{TopicPartition: tps[3], To: two})
	require.NoError(t, f.c.SetDraining(t.Context(), 2, true))
	_, err = f.c.Commit(t.Context(), dead, []catalog.TailEntry{{Epoch: dead, First: 1, Last: 1, Object: 1, Key: "k"}})
	require.NoError(t, err)
	require.NoError(t, f.c.FenceBroker(t.Context(), dead, catalog.FenceProvenDead))

	out := ok(t, "", "brokers")
	require.Regexp(t, `(?m)^1 +1 +alive +controller +zone-1 +5 +no +\S+s ago +PLAINTEXT=broker-1:9092$`, out)
	require.Regexp(t, `(?m)^2 +2 +expired +- +zone-2 +0 +yes `, out)
	require.Regexp(t, `(?m)^3 +3 +fenced +- `, out)
	all := lines[brokerDetails](t, ok(t, "", "brokers", "--format=json"))
	require.Len(t, all, 3)
	require.Equal(t, 5, all[0].Leases)
	require.Equal(t, 1, all[0].Leaving)
	require.Equal(t, 1, all[1].Coming)
	require.InDelta(t, 3600, all[0].HeartbeatAge+all[0].ExpiresIn, 0.001)
	require.EqualValues(t, 1, all[2].LastSequence)
	require.Equal(t, []listenerDetails{{"PLAINTEXT", "broker-1", 9092}}, all[0].Listeners)
}

func TestLeasesAreShown(t *testing.T) {
	f := newFleet(t)
	one, two := f.register(1, time.Hour), f.register(2, time.Hour)
	require.NoError(t, lease.EnsureInternal(t.Context(), f.c))
	tps := f.topic("orders", 3, one)
	f.topic("events", 2, 0)
	f.ask(two, catalog.Move{TopicPartition: tps[1], To: two})

	require.Regexp(t, `(?m)\A.*\nevents +0 +- +- +-1 +-\nevents +1 .*\norders +0 +1 +1 +0 +-\norders +1 +1 +1 +0 +2\norders +2 .*\n\z`, ok(t, "", "leases"))
	for _, c := range []struct {
		args []string
		want string // topic/partition
	}{
		{nil, "events/0 events/1 orders/0 orders/1 orders/2"},
		{[]string{"orders", "-p", "0,2"}, "orders/0 orders/2"},
		{[]string{"--free"}, "events/0 events/1"},
		{[]string{"--moving"}, "orders/1"},
		{[]string{"--broker=1", "-p", "0"}, "orders/0"},
		{[]string{"--broker=2"}, ""},
		{[]string{"__cluster_metadata"}, "__cluster_metadata/0"},
	} {
		var got []string
		for _, l := range lines[leaseDetails](t, ok(t, "", append([]string{"leases", "--json"}, c.args...)...)) {
			got = append(got, fmt.Sprintf("%s/%d", l.Topic, l.Partition))
		}
		require.Equal(t, c.want, strings.Join(got, " "), c.args)
	}
	require.Len(t, lines[leaseDetails](t, ok(t, "", "leases", "--json", "--internal")), 5+101)
	moving := lines[leaseDetails](t, ok(t, "", "leases", "--json", "--moving"))[0]
	require.EqualValues(t, 1, *moving.Broker)
	require.EqualValues(t, 2, *moving.Wanted)
	require.EqualValues(t, two, moving.WantedEpoch)

	out := ok(t, "", "leases", "--summary")
	require.Regexp(t, `(?m)^1 +1 +3 +0 +1 +1 +0$`, out)
	require.Regexp(t, `(?m)^2 +2 +0 +0 +0 +0 +1$`, out)
	require.Regexp(t, `(?m)^nobody +- +103 +101 +4 +0 +0$`, out)
	require.Len(t, lines[leaseSummary](t, ok(t, "", "leases", "-s", "--json")), 3)

	r := exec(t, "", "leases", "nope")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, `there is no topic "nope"`)
	r = exec(t, "", "leases", "--broker=9")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "no broker 9 is alive; there are: 1, 2")
}

func TestLeasesAreMoved(t *testing.T) {
	f := newFleet(t)
	one, two := f.register(1, time.Hour), f.register(2, time.Hour)
	tps := f.topic("orders", 3, one)
	f.obey(one, two)
	f.obey(two, one)

	require.Equal(t, "asked for 1 to be handed over to broker 2\nmoved 1\n", ok(t, "", "move", "leases", "orders", "-p", "1", "--to=2"))
	require.Equal(t, catalog.Lease{TopicPartition: tps[1], Holder: two, Epoch: 1}, f.lease(tps[1]))
	require.Equal(t, "1 led by broker 2 already\nasked for 2 to be handed over to broker 2\nmoved 2\n", ok(t, "", "move", "leases", "orders", "--to=2"))
	require.Equal(t, "3 led by broker 2 already\n", ok(t, "", "move", "leases", "orders", "--to=2"))

	require.Equal(t, "broker 2 is marked as draining\nbroker 2 leads nothing any more\n", ok(t, "", "move", "drain", "2"))
	require.Equal(t, one, f.lease(tps[0]).Holder)
	r := exec(t, "", "move", "leases", "orders", "--to=2")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "move undrain 2")
	r = exec(t, "", "move", "drain", "1")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "no other broker is there to take over")
	require.Equal(t, "broker 2 may lead partitions again\n", ok(t, "", "move", "undrain", "2"))
	require.Equal(t, "asked for 3 to be handed over to broker 2\nmoved 3\n", ok(t, "", "move", "leases", "orders", "--to=2"))
}

// TestMovesThatNobodyDoes: the command says so, what was asked for stays asked for, and can be withdrawn.
func TestMovesThatNobodyDoes(t *testing.T) {
	f := newFleet(t)
	one, two := f.register(1, time.Hour), f.register(2, time.Hour)
	tps := f.topic("orders", 2, one)
	f.topic("free", 1, 0)

	require.Equal(t, "1 led by nobody: the next broker that looks takes them\nasked for 2 to be handed over to broker 2\n",
		ok(t, "", "move", "leases", "orders", "free", "--to=2", "--no-wait"))
	require.Equal(t, two, f.lease(tps[0]).Wanted)
	r := exec(t, "", "move", "leases", "orders", "--to=2", "--timeout=300ms")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "not done after 300ms, and still asked for: 2 of 2 are not handed over")
	require.Equal(t, "withdrew 1 requests\n", ok(t, "", "move", "cancel", "orders", "-p", "1"))
	require.Equal(t, "withdrew 1 requests\n", ok(t, "", "move", "cancel"))
	require.Zero(t, f.lease(tps[0]).Wanted)
	require.Equal(t, "withdrew 0 requests\n", ok(t, "", "move", "cancel"))

	r = exec(t, "", "move", "drain", "1", "--timeout=300ms")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "broker 1 still leads 2 partitions")

	for want, args := range map[string][]string{
		"no broker 7 is alive; there are: 1, 2":       {"leases", "orders", "--to=7"},
		`there is no topic "nope"`:                    {"leases", "nope", "--to=2"},
		"topic orders has partitions 0 to 1, not 2":   {"leases", "orders", "-p", "2", "--to=2"},
		"no broker 8 is alive":                        {"drain", "8"},
		"undrain broker 8: no broker 8 is alive":      {"undrain", "8"},
		`cancel moves: there is no topic "elsewhere"`: {"cancel", "elsewhere"},
	} {
		r := exec(t, "", append([]string{"move"}, args...)...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.stderr, want, args)
	}
	require.NoError(t, f.c.FenceBroker(t.Context(), one, catalog.FenceProvenDead))
	require.NoError(t, f.c.FenceBroker(t.Context(), two, catalog.FenceProvenDead))
	r = exec(t, "", "move", "drain", "1")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "no broker is registered with this catalog")
}

func TestMigrations(t *testing.T) {
	url := postgrestest.Shared(t).Empty(t)
	t.Setenv("STREAMHOUSE_CATALOG", url)
	r := exec(t, "", "brokers")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "`streamhouse migrate up`")
	r = exec(t, "", "migrate", "status")
	require.Equal(t, exitFailed, r.code)
	require.Regexp(t, `(?m)^1 +\S+\.sql +no$`, r.out)
	require.Contains(t, r.stderr, "`streamhouse migrate up`")
	require.Regexp(t, `\Aapplied \S+\.sql\n`, ok(t, "", "migrate", "up"))
	require.Regexp(t, `(?m)^1 +\S+\.sql +20`, ok(t, "", "migrate", "status"))
	require.Equal(t, exitOK, exec(t, "", "brokers").code)
	r = exec(t, "", "migrate", "up")
	require.Equal(t, exitOK, r.code)
	require.Contains(t, r.stderr, "nothing to do")

	dir, _ := stoppedBroker(t)
	t.Setenv("STREAMHOUSE_CATALOG", "")
	require.Regexp(t, `"version":1,"name":"\S+","applied":true`, ok(t, "", "migrate", "status", "--json", "--data-dir", dir))
	r = exec(t, "", "migrate", "up", "--data-dir", dir)
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stderr, "nothing to do")
}

func TestCommandsOnCatalogsThatAreNotThere(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"brokers"}, {"leases"}, {"migrate", "status"}, {"migrate", "up"}, {"restore", "--yes"},
	} {
		r := exec(t, "", append(args, "--data-dir", dir)...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.stderr, "there is no catalog (is --data-dir or --catalog right?)", args)
		r = exec(t, "", append(args, "--catalog=memory:")...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, "gone with its process", args)
		r = exec(t, "", append(args, "--catalog=postgres://nobody:secret@127.0.0.1:1/x")...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.stderr, "connect", args)
		require.NotContains(t, r.stderr, "secret", args)
	}
	require.NoFileExists(t, filepath.Join(dir, "catalog.db"))
	r := exec(t, "", "move", "drain", "1", "--data-dir", dir)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "an embedded catalog has one broker")
	for want, args := range map[string][]string{
		"--free with --broker":   {"leases", "--free", "--moving"},
		"leave the filters out":  {"leases", "--summary", "orders"},
		"missing flags: --to=ID": {"move", "leases", "orders"},
		`"<broker>"`:             {"move", "drain"},
	} {
		r := exec(t, "", args...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, want, args)
	}
}
