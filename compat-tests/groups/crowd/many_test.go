package crowd_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/groups/light"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestManyGroups makes 10,000 groups, a tenth of them with a member, kills the broker, and finds everything as it was: offsets,
// generations and members.
func TestManyGroups(t *testing.T) {
	const groups, live, workers = 10_000, 1000, 100
	b, topic := broker(t, 10)
	before := b.Memory(t)
	name := func(i int) string { return fmt.Sprintf("many-%05d", i) }
	made := make([]*light.Classic, live)

	began := time.Now()
	c := newCrowd(t, b)
	var next atomic.Int64
	c.each(workers, func(_ context.Context, _ int, conn *light.Conn) error {
		for i := live + int(next.Add(1)) - 1; i < groups; i = live + int(next.Add(1)) - 1 {
			m := light.NewClassic(conn, "", name(i), topic, light.NewBoard(10))
			m.Generation = -1 // no member
			if err := commit(m, i); err != nil {
				return err
			}
		}
		return nil
	})
	c.each(live, func(ctx context.Context, i int, conn *light.Conn) error {
		m := light.NewClassic(conn, "", name(i), topic, light.NewBoard(10))
		m.Session = 5 * time.Minute
		if err := m.Join(ctx); err != nil {
			return err
		}
		made[i] = m
		return commit(m, i)
	})
	c.wg.Wait()
	require.NoError(t, c.ctx.Err())
	t.Logf("FIGURE %d groups, %d with a member, were made in %v, %d bytes of memory each", groups, live, time.Since(began), (b.Memory(t)-before)/groups)
	look(t, b, groups)

	b.Kill(t)
	ready := b.Restart(t)
	began = time.Now()
	var found atomic.Int64
	next.Store(0)
	again := newCrowd(t, b)
	again.each(workers, func(ctx context.Context, _ int, conn *light.Conn) error {
		for i := int(next.Add(1)) - 1; i < groups; i = int(next.Add(1)) - 1 {
			offset, err := committed(ctx, conn, name(i), topic, int32(i%10))
			if err != nil {
				return err
			}
			if offset != int64(i) {
				return fmt.Errorf("group %s has committed %d, want %d", name(i), offset, i)
			}
			found.Add(1)
		}
		return nil
	})
	again.each(live, func(_ context.Context, i int, conn *light.Conn) error {
		if err := made[i].Resume(conn); err != nil {
			return fmt.Errorf("group %s after the restart: %w", name(i), err)
		}
		return nil
	})
	again.wg.Wait()
	require.EqualValues(t, groups, found.Load())
	t.Logf("FIGURE killed with %d groups: ready after %v; all offsets and members found %v later; %d bytes of memory each",
		groups, ready, time.Since(began), (b.Memory(t)-before)/groups)
	look(t, b, groups)
}

// commit commits what is recognised later.
func commit(m *light.Classic, i int) error {
	for {
		code, err := m.Commit(int32(i%10), int64(i))
		if err != nil {
			return err
		}
		if code != kerr.CoordinatorLoadInProgress.Code && code != kerr.CoordinatorNotAvailable.Code {
			return kerr.ErrorForCode(code)
		}
	}
}

// committed is the committed offset of a group, once its coordinator has loaded.
func committed(ctx context.Context, conn *light.Conn, group, topic string, partition int32) (int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 8
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic, t.Partitions = topic, []int32{partition}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.Topics = group, append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	for {
		r, err := conn.Do(req)
		if err != nil {
			return 0, err
		}
		found := &r.(*kmsg.OffsetFetchResponse).Groups[0]
		switch found.ErrorCode {
		case 0:
			p := &found.Topics[0].Partitions[0]
			return p.Offset, kerr.ErrorForCode(p.ErrorCode)
		case kerr.CoordinatorLoadInProgress.Code, kerr.NotCoordinator.Code, kerr.CoordinatorNotAvailable.Code:
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
		default:
			return 0, kerr.ErrorForCode(found.ErrorCode)
		}
	}
}

// look lists all groups, and scrapes the metrics.
func look(t *testing.T, b *target.Broker, groups int) {
	t.Helper()
	admin := kadm.NewClient(b.Client(t))
	began := time.Now()
	all, err := admin.ListGroups(t.Context())
	require.NoError(t, err)
	require.Len(t, all, groups)
	listed := time.Since(began)

	began = time.Now()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.HTTP()+"/metrics", http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `streamhouse_consumer_lag_records{group_id="many-00`+strconv.Itoa(999)+`"`)
	t.Logf("FIGURE %d groups are listed in %v, and scraped in %v (%d KiB)", groups, listed, time.Since(began), len(text)>>10)
}
