package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/streamhouse/streamhouse/catalog"
)

// moveSQL moves leases and grows the version of the lease set if there were any. The version is counted last: the sum needs
// all of them.
const moveSQL = `WITH moved AS (
		UPDATE catalog_leases l SET holder = $2, epoch = l.epoch + 1, wanted = NULL
		FROM unnest($3::uuid[], $4::int[], $5::int[]) AS p (topic, partition, epoch)
		WHERE l.topic = p.topic AND l.partition = p.partition AND l.epoch = p.epoch AND l.holder = $1 RETURNING ` + leaseColumns + `),
	counted AS (UPDATE catalog_counters SET value = value + 1 WHERE name = 'leases_version' AND (SELECT count(*) FROM moved) > 0)
	SELECT * FROM moved`

// MoveLeases implements [catalog.Fleet]. It waits for a commit of the giver that is under way. Nobody can write to the
// partitions meanwhile, so it takes three round trips, on connections that are open and know the statements: guards and
// update are sent together, and what was updated in spite of a guard is rolled back.
func (c *Catalog) MoveLeases(ctx context.Context, epoch, to catalog.BrokerEpoch, leases []catalog.HeldLease) ([]catalog.Lease, error) {
	if err := catalog.CheckMoveLeases(epoch, to); err != nil {
		return nil, fmt.Errorf("move leases: %w", err)
	}
	var out []catalog.Lease
	var topics [][16]byte
	var partitions, epochs []int32
	for _, l := range slices.SortedFunc(slices.Values(leases), func(a, b catalog.HeldLease) int { return a.Compare(b.TopicPartition) }) {
		topics, partitions, epochs = append(topics, l.Topic), append(partitions, l.Partition), append(epochs, int32(l.Epoch))
	}
	err := c.write(ctx, c.urgent, fmt.Sprintf("move leases from broker epoch %d to %d", epoch, to), func(t *tx) (err error) {
		out = nil
		var calls pgx.Batch
		if epoch < to { // rows are locked in the order of epochs
			calls.Queue(guardAloneSQL, int64(epoch))
			calls.Queue(guardSQL, int64(to))
		} else {
			calls.Queue(guardSQL, int64(to))
			calls.Queue(guardAloneSQL, int64(epoch))
		}
		calls.Queue(moveSQL, int64(epoch), int64(to), topics, partitions, epochs)
		answers := t.SendBatch(t.ctx, &calls)
		defer func() {
			if closeErr := answers.Close(); err == nil {
				err = closeErr
			}
		}()
		var given, received error
		if epoch < to {
			given, received = guarded(epoch, answers.QueryRow()), guarded(to, answers.QueryRow())
		} else {
			received, given = guarded(to, answers.QueryRow()), guarded(epoch, answers.QueryRow())
		}
		switch {
		case given != nil:
			return given
		case ours(received):
			return fmt.Errorf("the receiver: %w", catalog.ErrUnknownBroker)
		case received != nil:
			return received
		}
		rows, err := answers.Query()
		if err != nil {
			return err
		}
		return each(rows, func(r pgx.Rows) error {
			l, err := scanLease(r)
			out = append(out, l)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// AskMoves implements [catalog.Fleet].
func (c *Catalog) AskMoves(ctx context.Context, asker catalog.BrokerEpoch, moves []catalog.Move) error {
	if err := catalog.CheckMoves(moves); err != nil {
		return fmt.Errorf("ask for moves: %w", err)
	}
	moves = slices.SortedFunc(slices.Values(moves), func(a, b catalog.Move) int { return a.Compare(b.TopicPartition) })
	topics, partitions, to := make([][16]byte, len(moves)), make([]int32, len(moves)), make([]int64, len(moves))
	for i, m := range moves {
		topics[i], partitions[i], to[i] = m.Topic, m.Partition, int64(m.To)
	}
	return c.write(ctx, c.general, "ask for moves", func(t *tx) error {
		if err := t.guard(asker); err != nil {
			return err
		}
		n, err := t.exec(`UPDATE catalog_leases l SET wanted = nullif(m.receiver, 0)
			FROM unnest($1::uuid[], $2::int[], $3::bigint[]) AS m (topic, partition, receiver)
			WHERE l.topic = m.topic AND l.partition = m.partition AND l.holder <> m.receiver AND l.wanted IS DISTINCT FROM nullif(m.receiver, 0)
			AND (m.receiver = 0 OR EXISTS (SELECT 1 FROM catalog_brokers b WHERE b.epoch = m.receiver AND NOT b.fenced))`, topics, partitions, to)
		if err != nil {
			return err
		}
		return t.leasesChanged(n)
	})
}

// SetDraining implements [catalog.Fleet].
func (c *Catalog) SetDraining(ctx context.Context, id catalog.BrokerID, draining bool) error {
	return c.write(ctx, c.general, fmt.Sprintf("mark broker %d as draining: %t", id, draining), func(t *tx) error {
		known, err := t.one("SELECT 1 FROM catalog_brokers WHERE id = $1 AND NOT fenced LIMIT 1", []any{new(int)}, int32(id))
		if err != nil {
			return err
		}
		if !known {
			return catalog.ErrUnknownBroker
		}
		var n int64
		if draining {
			n, err = t.exec("INSERT INTO catalog_draining (id, since) VALUES ($1, catalog_now($2)) ON CONFLICT DO NOTHING", int32(id), t.c.time.parameter())
		} else {
			n, err = t.exec("DELETE FROM catalog_draining WHERE id = $1", int32(id))
		}
		if err != nil {
			return err
		}
		if n == 0 { // an earlier try may have done it
			return t.vouch()
		}
		return t.leasesChanged(n)
	})
}

const readMergesSQL = "SELECT " + tailColumns + " FROM catalog_tail WHERE epoch = $1 AND merge > 0 AND merge > $2 ORDER BY epoch, merge LIMIT $3"

// ReadMerges implements [catalog.Fleet].
func (c *Catalog) ReadMerges(ctx context.Context, epoch catalog.BrokerEpoch, after int64, limit int) ([]catalog.TailEntry, error) {
	return collect(ctx, c, "read hot merges", readMergesSQL, scanTail, int64(epoch), after, limited(limit))
}
