package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOutageIsToldNowAndThen: a pulse a second does not fill the log.
func TestOutageIsToldNowAndThen(t *testing.T) {
	var o outage
	at := time.Now()
	_, ended := o.ended(at)
	require.False(t, ended, "there was none")
	for range 2 {
		said := 0
		for range 100 {
			at = at.Add(time.Second)
			if o.failed(at) {
				said++
			}
		}
		require.Equal(t, 4, said, "at 0, 30, 60 and 90 s")
		at = at.Add(time.Second)
		lasted, ended := o.ended(at)
		require.True(t, ended)
		require.Equal(t, 100*time.Second, lasted)
		_, ended = o.ended(at)
		require.False(t, ended, "told once")
	}
}
