package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/streamhouse/streamhouse/catalog"
)

func leaseOf(r row) catalog.Lease {
	var l catalog.Lease
	copy(l.Topic[:], r.blob(0))
	l.Partition, l.Holder, l.Epoch = int32(r.int(1)), catalog.BrokerEpoch(r.int(2)), catalog.LeaseEpoch(r.int(3))
	return l
}

// topicGroup is some partitions of one topic, as a JSON list for json_each: a statement per topic is much quicker
// than one per partition.
type topicGroup struct {
	id         catalog.TopicID
	partitions string
}

func byTopic(tps []catalog.TopicPartition) []topicGroup {
	sorted := slices.Compact(slices.SortedFunc(slices.Values(tps), catalog.TopicPartition.Compare))
	var groups []topicGroup
	for len(sorted) > 0 {
		id := sorted[0].Topic
		list := []byte{'['}
		n := 0
		for ; n < len(sorted) && sorted[n].Topic == id; n++ {
			if n > 0 {
				list = append(list, ',')
			}
			list = strconv.AppendInt(list, int64(sorted[n].Partition), 10)
		}
		groups = append(groups, topicGroup{id, string(append(list, ']'))})
		sorted = sorted[n:]
	}
	return groups
}

// AcquireLeases implements [catalog.Leases].
func (c *Catalog) AcquireLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) ([]catalog.Lease, error) {
	var out []catalog.Lease
	groups := byTopic(partitions)
	err := c.write(ctx, fmt.Sprintf("acquire leases for broker epoch %d", epoch), func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		note := func(r row) error {
			out = append(out, leaseOf(r))
			return nil
		}
		var taken int64
		if partitions == nil {
			n, err := t.exec("UPDATE leases SET holder = ?, epoch = epoch + 1 WHERE holder IS NULL", int64(epoch))
			if err != nil {
				return err
			}
			taken = n
			const held = "SELECT topic, partition, holder, epoch FROM leases WHERE holder = ? ORDER BY topic, partition"
			if err := t.query(t.whole, held, note, int64(epoch)); err != nil {
				return err
			}
		}
		for _, g := range groups {
			n, err := t.exec(`UPDATE leases SET holder = ?, epoch = epoch + 1
				WHERE holder IS NULL AND topic = ? AND partition IN (SELECT value FROM json_each(?))`, int64(epoch), g.id[:], g.partitions)
			if err != nil {
				return err
			}
			taken += n
			err = t.query(t.whole, `SELECT topic, partition, holder, epoch FROM leases
				WHERE holder = ? AND topic = ? AND partition IN (SELECT value FROM json_each(?)) ORDER BY partition`,
				note, int64(epoch), g.id[:], g.partitions)
			if err != nil {
				return err
			}
		}
		return t.leasesChanged(taken)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (t *tx) leasesChanged(n int64) error {
	if n == 0 {
		return nil
	}
	_, err := t.bump("leases_version", 1)
	return err
}

// ReleaseLeases implements [catalog.Leases].
func (c *Catalog) ReleaseLeases(ctx context.Context, epoch catalog.BrokerEpoch, partitions []catalog.TopicPartition) error {
	groups := byTopic(partitions)
	return c.write(ctx, fmt.Sprintf("release leases of broker epoch %d", epoch), func(t *tx) error {
		if err := t.guard(epoch); err != nil {
			return err
		}
		var released int64
		for _, g := range groups {
			n, err := t.exec(`UPDATE leases SET holder = NULL
				WHERE holder = ? AND topic = ? AND partition IN (SELECT value FROM json_each(?))`, int64(epoch), g.id[:], g.partitions)
			if err != nil {
				return err
			}
			released += n
		}
		return t.leasesChanged(released)
	})
}

// LeaseSet implements [catalog.Leases].
func (c *Catalog) LeaseSet(ctx context.Context, version int64) (catalog.LeaseSet, error) {
	var set catalog.LeaseSet
	err := c.read(ctx, "read the leases", func(db *conn) (err error) {
		if set.Version, err = db.counter("leases_version"); err != nil || set.Version == version {
			return err
		}
		const all = "SELECT topic, partition, holder, epoch FROM leases ORDER BY topic, partition"
		return db.query(ctx, all, func(r row) error {
			set.Leases = append(set.Leases, leaseOf(r))
			return nil
		})
	})
	if err != nil {
		return catalog.LeaseSet{}, err
	}
	return set, nil
}
