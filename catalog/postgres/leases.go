package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

// places is partitions as two arrays, in the order in which rows are locked, each once.
type places struct {
	topics     [][16]byte
	partitions []int32
}

func placesOf(tps []catalog.TopicPartition) places {
	sorted := slices.Compact(slices.SortedFunc(slices.Values(tps), catalog.TopicPartition.Compare))
	p := places{make([][16]byte, len(sorted)), make([]int32, len(sorted))}
	for i, tp := range sorted {
		p.topics[i], p.partitions[i] = tp.Topic, tp.Partition
	}
	return p
}

// leaseColumns are those of a lease that somebody holds.
const leaseColumns = "l.topic, l.partition, l.holder, l.epoch, l.wanted"

func scanLease(r pgx.Rows) (l catalog.Lease, err error) {
	var wanted *int64
	err = r.Scan((*[16]byte)(&l.Topic), &l.Partition, (*int64)(&l.Holder), (*int32)(&l.Epoch), &wanted)
	if wanted != nil {
		l.Wanted = catalog.BrokerEpoch(*wanted)
	}
	return l, err
}

// heldSQL is those of some leases that a broker epoch holds, and locks the broker's row as [tx.guard] does, so that its
// commit waits for the standby: they are as durable as it is. No row says that the epoch is fenced; one without a lease, that
// it holds none of them. One snapshot serves both: nobody but the epoch itself, or its fence, takes a lease from it.
const heldSQL = "WITH guard AS MATERIALIZED (" + guardSQL + `), held AS (SELECT ` + leaseColumns + ` FROM catalog_leases l
		JOIN unnest($2::uuid[], $3::int[]) AS p (topic, partition) USING (topic, partition) WHERE l.holder = $1)
	SELECT l.* FROM guard LEFT JOIN held l ON true ORDER BY l.topic, l.partition`

// heldLeases returns those of the leases that the epoch holds, in one round trip: who takes over what was handed over waits
// for it, and nobody can write meanwhile.
func (c *Catalog) heldLeases(ctx context.Context, op string, epoch catalog.BrokerEpoch, asked places) ([]catalog.Lease, error) {
	var out []catalog.Lease
	err := c.statement(ctx, c.urgent, op, func(ctx context.Context) error {
		out = nil
		rows, err := c.urgent.Query(ctx, heldSQL, int64(epoch), asked.topics, asked.partitions)
		if err != nil {
			return err
		}
		fenced := true
		err = each(rows, func(r pgx.Rows) error {
			fenced = false
			if r.RawValues()[0] == nil {
				return nil
			}
			l, err := scanLease(r)
			out = append(out, l)
			return err
		})
		if err == nil && fenced {
			return fmt.Errorf("broker epoch %d: %w", epoch, catalog.ErrFenced)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// AcquireLeases implements [catalog.Leases]. It is one round trip when all that is asked for is held; else guard, update and
// read are sent together, and what was updated in spite of the guard is rolled back.
func (c *Catalog) AcquireLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) ([]catalog.Lease, error) {
	const (
		take  = "UPDATE catalog_leases l SET holder = $1, epoch = l.epoch + 1 FROM (SELECT topic, partition FROM catalog_leases"
		match = " l JOIN unnest($2::uuid[], $3::int[]) AS p (topic, partition) USING (topic, partition)"
		lock  = " ORDER BY topic, partition FOR NO KEY UPDATE"
		end   = ") f WHERE l.topic = f.topic AND l.partition = f.partition"
		read  = "SELECT " + leaseColumns + " FROM catalog_leases"
		ours  = " WHERE l.holder = $1 ORDER BY l.topic, l.partition"
	)
	asked := placesOf(partitions)
	op := fmt.Sprintf("acquire leases for broker epoch %d", epoch)
	takeSQL, readSQL, args := take+" WHERE holder IS NULL"+lock+end, read+" l"+ours, []any{int64(epoch)}
	if partitions != nil {
		if held, err := c.heldLeases(ctx, op, epoch, asked); err != nil || len(held) == len(asked.topics) {
			return held, err
		}
		takeSQL, readSQL, args = take+match+" WHERE l.holder IS NULL"+lock+" OF l"+end, read+match+ours, append(args, asked.topics, asked.partitions)
	}
	var out []catalog.Lease
	err := c.write(ctx, c.general, op, func(t *tx) (err error) {
		var taken int64
		if out, taken, err = t.acquire(epoch, takeSQL, readSQL, args); err != nil {
			return err
		}
		return t.leasesChanged(taken)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// acquire has the broker's row guarded, free leases taken and those that are held read, in one round trip.
func (t *tx) acquire(epoch catalog.BrokerEpoch, takeSQL, readSQL string, args []any) (out []catalog.Lease, taken int64, err error) {
	var calls pgx.Batch
	calls.Queue(guardSQL, int64(epoch))
	calls.Queue(takeSQL, args...)
	calls.Queue(readSQL, args...)
	answers := t.SendBatch(t.ctx, &calls)
	defer func() {
		if closeErr := answers.Close(); err == nil {
			err = closeErr
		}
	}()
	if err := guarded(epoch, answers.QueryRow()); err != nil {
		return nil, 0, err
	}
	tag, err := answers.Exec()
	if err != nil {
		return nil, 0, err
	}
	rows, err := answers.Query()
	if err != nil {
		return nil, 0, err
	}
	err = each(rows, func(r pgx.Rows) error {
		l, err := scanLease(r)
		out = append(out, l)
		return err
	})
	return out, tag.RowsAffected(), err
}

func (t *tx) leasesChanged(n int64) error {
	if n == 0 {
		return nil
	}
	return t.bumpLeases()
}

// ReleaseLeases implements [catalog.Leases]. It waits for a commit of the epoch that is under way.
func (c *Catalog) ReleaseLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) error {
	asked := placesOf(partitions)
	return c.write(ctx, c.general, fmt.Sprintf("release leases of broker epoch %d", epoch), func(t *tx) error {
		if err := t.guardAlone(epoch); err != nil {
			return err
		}
		released, err := t.exec(`UPDATE catalog_leases l SET holder = NULL, wanted = NULL FROM unnest($2::uuid[], $3::int[]) AS p (topic, partition)
			WHERE l.topic = p.topic AND l.partition = p.partition AND l.holder = $1`, int64(epoch), asked.topics, asked.partitions)
		if err != nil {
			return err
		}
		return t.leasesChanged(released)
	})
}

// LeaseSet implements [catalog.Leases]. Version and leases come from one snapshot.
func (c *Catalog) LeaseSet(ctx context.Context, version int64) (catalog.LeaseSet, error) {
	const all = `SELECT v.value, l.topic, l.partition, l.holder, l.epoch, l.wanted FROM catalog_counters v
		LEFT JOIN catalog_leases l ON v.value <> $1 WHERE v.name = 'leases_version' ORDER BY l.topic, l.partition`
	var set catalog.LeaseSet
	err := c.read(ctx, "read the leases", all, []any{version}, func() { set = catalog.LeaseSet{} }, func(r pgx.Rows) error {
		var topic *[16]byte
		var partition, epoch *int32
		var holder, wanted *int64
		if err := r.Scan(&set.Version, &topic, &partition, &holder, &epoch, &wanted); err != nil || topic == nil {
			return err
		}
		l := catalog.Lease{TopicPartition: catalog.TopicPartition{Topic: *topic, Partition: *partition}, Epoch: catalog.LeaseEpoch(*epoch)}
		if holder != nil {
			l.Holder = catalog.BrokerEpoch(*holder)
		}
		if wanted != nil {
			l.Wanted = catalog.BrokerEpoch(*wanted)
		}
		set.Leases = append(set.Leases, l)
		return nil
	})
	if err != nil {
		return catalog.LeaseSet{}, err
	}
	return set, nil
}
