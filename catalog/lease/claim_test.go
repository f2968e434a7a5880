package lease_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
	"github.com/streamhouse/streamhouse/internal/bubble"
)

// TestAwaitID: the id of a living process is refused, that of a dead one or of one that ends soon is not.
func TestAwaitID(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 10, 1, 2, 3)
		s.pass(settling)
		mine := s.shared.Open()
		defer func() { require.NoError(t, mine.Close()) }()
		claim := func(id catalog.BrokerID) (time.Duration, error) {
			began := time.Now()
			err := lease.AwaitID(t.Context(), mine, mine, id, 15*time.Second)
			return time.Since(began), err
		}
		_, err := claim(4)
		require.NoError(t, err, "nobody had it")
		took, err := claim(2)
		require.ErrorIs(t, err, lease.ErrIDInUse)
		require.Equal(t, 15*time.Second, took)

		time.AfterFunc(3*time.Second, s.nodes[1].kill)
		n := s.nodes[1]
		go func() {
			<-n.ctx.Done()
			_ = n.link.Close()
		}()
		took, err = claim(2)
		require.NoError(t, err)
		require.Less(t, took, 4*time.Second)
		s.crash(n)
		took, err = claim(2)
		require.NoError(t, err)
		require.Zero(t, took)
	})
}

// TestTwins: of two processes of one id that began in the same moment the one that registered first is told to give way, and
// nobody else ever is: not after restarts, crashes or a lost epoch.
func TestTwins(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSim(t, 50, 1, 2, 3)
		s.pass(settling)
		n := s.nodes[0]
		s.crash(n)
		s.start(n.id)
		s.nodes[0].link.cutOff()
		s.pass(12 * time.Second) // it loses its epoch
		s.nodes[0].link.heal()
		s.pass(settling)
		require.Empty(t, s.superseded())

		first := s.node(2)
		twin := s.start(2)
		s.pass(2 * time.Second)
		require.Equal(t, []*node{first}, s.superseded())
		_ = s.drain(first)
		s.pass(settling)
		s.allLed("one went")
		require.NotZero(t, twin.Epoch())
		require.Len(t, s.superseded(), 1)
	})
}
