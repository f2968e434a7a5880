package stack

import (
	"context"
	"fmt"
)

// Lease is a row of the view partition_leases, with what tells a restarted
// broker from the one before.
type Lease struct {
	Topic     string
	Partition int32
	Broker    int32 // -1: nobody
	Holder    int64 // broker epoch
	Epoch     int32
}

// Leases reads who leads what, from the catalog itself.
func (s *Stack) Leases(ctx context.Context) ([]Lease, error) {
	conn, err := s.Postgres.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) // it answered
	rows, err := conn.Query(ctx, `SELECT topic, partition, coalesce(broker_id, -1), coalesce(broker_epoch, 0), lease_epoch
		FROM partition_leases ORDER BY topic, partition`)
	if err != nil {
		return nil, fmt.Errorf("read the leases: %w", err)
	}
	defer rows.Close()
	var out []Lease
	for rows.Next() {
		var l Lease
		if err := rows.Scan(&l.Topic, &l.Partition, &l.Broker, &l.Holder, &l.Epoch); err != nil {
			return nil, fmt.Errorf("read the leases: %w", err)
		}
		out = append(out, l)
	}
	return out, rows.Err()
}

// Epochs are the broker epochs that are not fenced.
func (s *Stack) Epochs(ctx context.Context) (epochs []int64, err error) {
	conn, err := s.Postgres.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) // it answered
	if err := conn.QueryRow(ctx, "SELECT array_agg(broker_epoch) FROM brokers WHERE NOT fenced").Scan(&epochs); err != nil {
		return nil, fmt.Errorf("read the broker epochs: %w", err)
	}
	return epochs, nil
}

// Commits is how many commits of log objects the database shows.
func (s *Stack) Commits(ctx context.Context) (n int64, err error) {
	conn, err := s.Postgres.Connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx) // it answered
	err = conn.QueryRow(ctx, "SELECT sum(last_sequence) FROM catalog_brokers").Scan(&n)
	return n, err
}

// Leader is the broker that leads a partition, as the catalog says.
func (s *Stack) Leader(ctx context.Context, topic string, partition int32) (*Broker, error) {
	leases, err := s.Leases(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if l.Topic == topic && l.Partition == partition {
			return s.Broker(l.Broker)
		}
	}
	return nil, fmt.Errorf("nobody knows partition %d of %s", partition, topic)
}

// controllerTopic is the internal topic whose leader is the controller.
const controllerTopic = "__cluster_metadata"

// Controller is the broker that balances. With one broker that takes no part in
// leases it is that.
func (s *Stack) Controller(ctx context.Context) (*Broker, error) {
	leases, err := s.Leases(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if l.Topic == controllerTopic {
			return s.Broker(l.Broker)
		}
	}
	return s.Brokers[0], nil
}

// GroupsTopic is the internal topic whose partitions are the coordinator shards of groups, and groupShards their number.
const (
	GroupsTopic = "__consumer_offsets"
	groupShards = 50
)

// ShardOf is the shard of a group, by Kafka's hash of its id, which is ASCII.
func ShardOf(group string) int32 {
	var h int32
	for _, c := range []byte(group) {
		h = 31*h + int32(c)
	}
	return max(h, -h, 0) % groupShards // of the smallest number there is no -h: 0
}

// Coordinated counts the groups that each broker coordinates, as the catalog says.
func (s *Stack) Coordinated(ctx context.Context, groups []string) (map[int32]int, error) {
	leases, err := s.Leases(ctx)
	if err != nil {
		return nil, err
	}
	count := map[int32]int{}
	for _, l := range leases {
		for _, g := range groups {
			if l.Topic == GroupsTopic && l.Partition == ShardOf(g) {
				count[l.Broker]++
			}
		}
	}
	return count, nil
}
