package coordinator

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The hashes are Java's: new String(id).hashCode().
func TestShardOfIsKafkas(t *testing.T) {
	const shards = 50
	for id, hash := range map[string]int64{
		"":                   0,
		"abc":                96354,
		"hello":              99162322,
		"console-consumer-1": 35782224,
		"analytics":          -1693017210,
		"my-group":           -1906497762,
		"polygenelubricants": 0, // its hash is Integer.MIN_VALUE, which has no absolute value
		"\U0001F600":         1772899,
		"größe":              98762257,
	} {
		want := hash
		if want < 0 {
			want = -want
		}
		require.EqualValues(t, want%shards, ShardOf(id, shards), id)
	}
}
