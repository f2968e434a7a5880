package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs (key 35), versions 1–5.
//
// Deviation: there is one "directory", the object store. A partition's size is its bytes in the store; capacity is
// unknown (-1).

const logDir = "streamhouse"

func (b *Broker) describeLogDirs(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DescribeLogDirsRequest)
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	resp.Version = r.version
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir, dir.TotalBytes, dir.UsableBytes = logDir, -1, -1
	dir.Topics = []kmsg.DescribeLogDirsResponseDirTopic{}
	im := b.topics.load()
	add := func(t *topic, partitions []int32) error {
		out := kmsg.NewDescribeLogDirsResponseDirTopic()
		out.Topic = t.Name
		for _, n := range partitions {
			if !t.has(n) {
				continue
			}
			size, err := b.cfg.Log.Size(ctx, t.partition(n))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				continue // not led here: another broker answers for it
			}
			p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			p.Partition, p.Size = n, size
			out.Partitions = append(out.Partitions, p)
		}
		if len(out.Partitions) > 0 {
			dir.Topics = append(dir.Topics, out)
		}
		return nil
	}
	if req.Topics == nil {
		for _, t := range im.sorted {
			if err := add(t, allPartitions(t)); err != nil {
				return nil, err
			}
		}
	}
	for i := range req.Topics {
		if t := im.byName[req.Topics[i].Topic]; t != nil {
			if err := add(t, req.Topics[i].Partitions); err != nil {
				return nil, err
			}
		}
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp, nil
}

func allPartitions(t *topic) []int32 {
	out := make([]int32, t.Partitions)
	for i := range out {
		out[i] = int32(i)
	}
	return out
}
