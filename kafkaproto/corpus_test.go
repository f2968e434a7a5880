package kafkaproto

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// recorded is one frame a real client sent; see testdata/README.md.
type recorded struct {
	client, name string
	frame        []byte // with its length
}

func corpus(tb testing.TB) []recorded {
	tb.Helper()
	var out []recorded
	dir := os.DirFS("testdata")
	require.NoError(tb, fs.WalkDir(dir, "frames", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(dir, file)
		out = append(out, recorded{client: path.Base(path.Dir(file)), name: path.Base(file), frame: b})
		return err
	}))
	return out
}

// TestRecordedFrames: what real clients send is read, decoded and, encoded
// again, the very bytes they sent.
func TestRecordedFrames(t *testing.T) {
	apis := map[string]map[int16]bool{}
	for _, rec := range corpus(t) {
		t.Run(rec.client+"/"+rec.name, func(t *testing.T) {
			require.LessOrEqual(t, len(rec.frame), 16<<10)
			r := NewFrameReader(bytes.NewReader(rec.frame), FrameLimits{}, nil)
			frame, err := r.Next()
			require.NoError(t, err)
			require.Len(t, frame, int(binary.BigEndian.Uint32(rec.frame)))
			h, body, err := ParseRequest(frame)
			require.NoError(t, err)
			req, err := DecodeBody(h, body)
			require.NoError(t, err)
			require.Equal(t, body, req.AppendTo([]byte{}), "%s version %d", h.Name(), h.Version)
			if apis[rec.client] == nil {
				apis[rec.client] = map[int16]bool{}
			}
			apis[rec.client][h.Key] = true
		})
	}
	for _, client := range []string{"franz-go", "java", "kafka-python", "kafkajs", "librdkafka-confluent", "librdkafka-kcat"} {
		for _, key := range []kmsg.Key{
			kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.ApiVersions, kmsg.InitProducerID, kmsg.FindCoordinator,
			kmsg.JoinGroup, kmsg.SyncGroup, kmsg.LeaveGroup, kmsg.OffsetFetch, kmsg.OffsetCommit,
		} {
			require.True(t, apis[client][key.Int16()], "%s sent no %s", client, key.Name())
		}
		for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
			require.True(t, slices.ContainsFunc(corpus(t), func(r recorded) bool {
				matched, err := path.Match("00-Produce-v*-"+codec+".bin", r.name)
				return r.client == client && matched && err == nil
			}), "%s produced nothing with %s", client, codec)
		}
	}
}
