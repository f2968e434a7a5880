package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
)

func groupFaults() []groupFault {
	return []groupFault{
		{name: "move-shards", short: true, run: moveShards, still: true},
		{name: "kill-coordinator", short: true, run: killCoordinator},
		{name: "kill-postgres", short: true, run: killPostgresOfGroups, still: true},
		{name: "stop-coordinator", run: stopCoordinator},
		{name: "freeze-coordinator", run: freezeCoordinator},
		{name: "cut-coordinator", run: cutCoordinator},
		{name: "restart-postgres", run: restartPostgresOfGroups, still: true},
		{name: "silence-postgres-long", run: silencePostgres},
		{name: "stop-postgres-long", run: stopPostgres, still: true},
		{name: "freeze-postgres-long", run: freezePostgresOfGroups},
	}
}

// outage is how long the catalog is away: three sessions of members.
const outage = 30 * time.Second

// killCoordinator kills it with SIGKILL. Members must go on at another before it comes back.
func killCoordinator(r *groupRound) error {
	pause(r.ctx, time.Duration(r.random.IntN(40))*time.Millisecond) // commits are at any point
	return r.victim.Kill()
}

// stopCoordinator stops it with SIGTERM.
func stopCoordinator(r *groupRound) error {
	took, err := r.victim.Stop()
	r.note("stopped in %s", took.Round(time.Millisecond))
	return err
}

// moveShards has it hand over the shards of the groups to another broker, and goes on running.
func moveShards(r *groupRound) error {
	to := r.Brokers[0]
	if to == r.victim {
		to = r.Brokers[1]
	}
	args := []string{"move", "leases", stack.GroupsTopic, "--to", strconv.Itoa(int(to.ID))}
	for _, g := range r.cast.groups {
		args = append(args, "--partition", strconv.Itoa(int(g.shard)))
	}
	out, err := r.Operate(r.ctx, args...)
	if err != nil {
		return fmt.Errorf("move: %w: %s", err, out)
	}
	return nil
}

// freezeCoordinator stops it with SIGSTOP until others have taken over, and lets it go on. It must not answer as a coordinator
// what it was asked meanwhile.
func freezeCoordinator(r *groupRound) error {
	asker, err := kgo.NewClient(kgo.SeedBrokers(r.victim.Addr), kgo.RequestTimeoutOverhead(time.Minute))
	if err != nil {
		return err
	}
	defer asker.Close()
	if err := asker.Ping(r.ctx); err != nil {
		return err
	}
	if err := r.victim.Freeze(); err != nil {
		return err
	}
	if err := r.cast.awaitBack(r.ctx, time.Now().Add(sessionTTL/2)); err != nil {
		return fmt.Errorf("while the coordinator is frozen: %w", err)
	}
	answered := make(chan error, 2)
	for _, g := range r.cast.groups {
		if g.state == "stable" {
			go func() { answered <- r.askDeposed(asker, g, g.deposedHeartbeat()) }()
			go func() { answered <- r.askDeposed(asker, g, g.deposedCommit(r.topic)) }()
		}
	}
	pause(r.ctx, 200*time.Millisecond)
	if err := r.victim.Thaw(); err != nil {
		return err
	}
	return errors.Join(<-answered, <-answered)
}

// deposedHeartbeat is a heartbeat of a member that is in order.
func (g *troupe) deposedHeartbeat() kmsg.Request {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = g.history.Group
	req.MemberID, req.Generation = g.classic[0].ID()
	return req
}

// deposedCommit is a commit of a member that is in order, of an offset that none sent.
func (g *troupe) deposedCommit(topic string) kmsg.Request {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Version = g.history.Group, 9
	req.MemberID, req.Generation = g.classic[0].ID()
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = 1 << 40
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// askDeposed asks who coordinates no longer.
func (r *groupRound) askDeposed(cl *kgo.Client, g *troupe, req kmsg.Request) error {
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	answer, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return nil // no answer is no wrong answer
	}
	var code int16
	switch resp := answer.(type) {
	case *kmsg.HeartbeatResponse:
		code = resp.ErrorCode
	case *kmsg.OffsetCommitResponse:
		code = resp.Topics[0].Partitions[0].ErrorCode
	}
	if code != kerr.NotCoordinator.Code && code != kerr.UnknownTopicID.Code {
		return fmt.Errorf("%s: a coordinator that was frozen answers %s: %w", g.history.Group, kmsg.Key(req.Key()).Name(), kerr.ErrorForCode(code))
	}
	r.note("thawed it says %v", kerr.ErrorForCode(code))
	return nil
}

// cutCoordinator cuts it silently from the catalog, until others have taken over.
func cutCoordinator(r *groupRound) error {
	r.victim.Postgres.Silence()
	if err := r.cast.awaitBack(r.ctx, time.Now().Add(sessionTTL)); err != nil {
		return fmt.Errorf("while the coordinator is cut from the catalog: %w", err)
	}
	r.victim.Postgres.Heal()
	return nil
}

// killPostgresOfGroups kills its main process with SIGKILL; it recovers from its log.
func killPostgresOfGroups(r *groupRound) error {
	if err := r.Postgres.Kill(); err != nil {
		return err
	}
	if full() {
		pause(r.ctx, time.Duration(r.random.IntN(5000))*time.Millisecond)
	}
	return r.Postgres.Up(r.ctx)
}

// restartPostgresOfGroups throws all brokers out and starts the server again.
func restartPostgresOfGroups(r *groupRound) error {
	if err := r.Postgres.Stop(); err != nil {
		return err
	}
	pause(r.ctx, time.Duration(r.random.IntN(5000))*time.Millisecond)
	return r.Postgres.Up(r.ctx)
}

// silencePostgres cuts all brokers silently from the catalog for half a minute.
func silencePostgres(r *groupRound) error {
	for _, b := range r.Brokers {
		b.Postgres.Silence()
	}
	pause(r.ctx, outage)
	for _, b := range r.Brokers {
		b.Postgres.Heal()
	}
	return nil
}

// stopPostgres stops the server for half a minute: connecting is refused.
func stopPostgres(r *groupRound) error {
	if err := r.Postgres.Stop(); err != nil {
		return err
	}
	pause(r.ctx, outage)
	return r.Postgres.Up(r.ctx)
}

// freezePostgresOfGroups lets the server hang for half a minute.
func freezePostgresOfGroups(r *groupRound) error {
	if err := r.Postgres.Freeze(); err != nil {
		return err
	}
	pause(r.ctx, outage)
	return r.Postgres.Thaw()
}
