package wire_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// apis are the APIs of a broker without groups, and the versions Apache Kafka
// 4.3 speaks of them.
var apis = []struct {
	key      kmsg.Key
	min, max int16
}{
	{kmsg.Produce, 0, 13},
	{kmsg.Fetch, 4, 18},
	{kmsg.ListOffsets, 1, 11},
	{kmsg.Metadata, 0, 13},
	{kmsg.FindCoordinator, 0, 6},
	{kmsg.ApiVersions, 0, 4},
	{kmsg.CreateTopics, 2, 7},
	{kmsg.DeleteTopics, 1, 6},
	{kmsg.DeleteRecords, 0, 2},
	{kmsg.InitProducerID, 0, 5},
	{kmsg.OffsetForLeaderEpoch, 2, 4},
	{kmsg.DescribeACLs, 1, 3},
	{kmsg.DescribeConfigs, 1, 4},
	{kmsg.AlterConfigs, 0, 2},
	{kmsg.DescribeLogDirs, 1, 5},
	{kmsg.CreatePartitions, 0, 3},
	{kmsg.ElectLeaders, 0, 2},
	{kmsg.IncrementalAlterConfigs, 0, 1},
	{kmsg.AlterPartitionAssignments, 0, 1},
	{kmsg.ListPartitionReassignments, 0, 0},
	{kmsg.DescribeCluster, 0, 2},
	{kmsg.DescribeProducers, 0, 0},
	{kmsg.ListConfigResources, 0, 1},
	{kmsg.DescribeTopicPartitions, 0, 0},
}

// TestApiVersions asks in every version there is.
func TestApiVersions(t *testing.T) {
	broker := target.Get(t)
	for version := range int16(5) {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			req := kmsg.NewPtrApiVersionsRequest()
			req.Version = version
			req.ClientSoftwareName, req.ClientSoftwareVersion = "wire", "1.0"
			resp, err := dial(t, broker).do(req)
			require.NoError(t, err)
			r := resp.(*kmsg.ApiVersionsResponse)
			require.Zero(t, r.ErrorCode)
			requireTable(t, r)
		})
	}
}

// TestApiVersionsUnknown: a client that is newer than the broker asks in a
// version the broker does not know, and must be able to read the answer: it
// comes in version 0, with UNSUPPORTED_VERSION and the list.
func TestApiVersionsUnknown(t *testing.T) {
	broker := target.Get(t)
	for _, version := range []int16{5, 99, 32767} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			c := dial(t, broker)
			frame := binary.BigEndian.AppendUint16(nil, 18)
			frame = binary.BigEndian.AppendUint16(frame, uint16(version))
			frame = binary.BigEndian.AppendUint32(frame, 77)
			frame = append(frame, 0, 4, 'w', 'i', 'r', 'e',
				0,                      // no header tags
				0xfe, 0xdc, 0xba, 0, 1, // a body of the future
			)
			require.NoError(t, c.send(frame))
			answer, err := c.receive()
			require.NoError(t, err)
			b := kbin.Reader{Src: answer}
			require.EqualValues(t, 77, b.Int32())
			resp := kmsg.NewPtrApiVersionsResponse()
			require.NoError(t, resp.ReadFrom(b.Src))
			require.Equal(t, kerr.UnsupportedVersion.Code, resp.ErrorCode)
			require.Equal(t, b.Src, resp.AppendTo(nil))
			require.NotEmpty(t, resp.ApiKeys)
			var own *kmsg.ApiVersionsResponseApiKey
			for i := range resp.ApiKeys {
				if resp.ApiKeys[i].ApiKey == 18 {
					own = &resp.ApiKeys[i]
				}
			}
			require.NotNil(t, own, "the list must say which versions of ApiVersions there are")
			require.EqualValues(t, 4, own.MaxVersion)

			// The same connection goes on with a version both know.
			req := kmsg.NewPtrApiVersionsRequest()
			req.Version = 4
			req.ClientSoftwareName, req.ClientSoftwareVersion = "wire", "1.0"
			_, err = c.do(req)
			require.NoError(t, err)
		})
	}
}

func requireTable(t *testing.T, r *kmsg.ApiVersionsResponse) {
	t.Helper()
	got := map[int16][2]int16{}
	for _, k := range r.ApiKeys {
		require.NotContains(t, got, k.ApiKey, "listed twice")
		got[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
	}
	for _, api := range apis {
		require.Equal(t, [2]int16{api.min, api.max}, got[api.key.Int16()], "versions of %s", api.key.Name())
	}
}

// TestEveryVersionIsAnswered sends the emptiest request of every version and
// expects an answer that decodes in that version, to the last byte.
func TestEveryVersionIsAnswered(t *testing.T) {
	broker := target.Get(t)
	for _, api := range apis {
		for version := max(api.min, map[kmsg.Key]int16{kmsg.Produce: 3}[api.key]); version <= api.max; version++ {
			t.Run(fmt.Sprintf("%s/v%d", api.key.Name(), version), func(t *testing.T) {
				req := kmsg.RequestForKey(api.key.Int16())
				kmsg.Request.SetVersion(req, version)
				prepare(req)
				_, err := dial(t, broker).do(req)
				require.NoError(t, err)
			})
		}
	}
}

// prepare fills in what the emptiest request would be refused, or not be
// answered, without.
func prepare(req kmsg.Request) {
	if d, ok := req.(interface{ Default() }); ok {
		d.Default()
	}
	switch r := req.(type) {
	case *kmsg.ProduceRequest:
		r.Acks = -1
	case *kmsg.FetchRequest:
		r.ReplicaID, r.MaxBytes, r.SessionEpoch = -1, 1<<20, -1
		r.ReplicaState.ID = -1
	case *kmsg.ListOffsetsRequest:
		r.ReplicaID = -1
	case *kmsg.MetadataRequest:
		r.Topics = []kmsg.MetadataRequestTopic{}
	case *kmsg.ApiVersionsRequest:
		r.ClientSoftwareName, r.ClientSoftwareVersion = "wire", "1.0"
	case *kmsg.OffsetForLeaderEpochRequest:
		r.ReplicaID = -2
	case *kmsg.DescribeACLsRequest:
		r.ResourceType, r.ResourcePatternType, r.Operation, r.PermissionType = 1, 1, 1, 1
	case *kmsg.DescribeTopicPartitionsRequest:
		r.ResponsePartitionLimit = 100
	case *kmsg.DescribeClusterRequest:
		r.EndpointType = 1
	}
}

// TestProduceAndFetchEveryVersion makes a real client speak each version of the
// two requests that matter most, with topic names and with topic ids.
func TestProduceAndFetchEveryVersion(t *testing.T) {
	broker := target.Get(t)
	for _, api := range []struct {
		key      kmsg.Key
		min, max int16
	}{{kmsg.Produce, 3, 13}, {kmsg.Fetch, 4, 18}} {
		for version := api.min; version <= api.max; version++ {
			t.Run(fmt.Sprintf("%s/v%d", api.key.Name(), version), func(t *testing.T) {
				topic := broker.Topic(t, "versions", 1, nil)
				versions := kversion.Stable()
				versions.SetMaxKeyVersion(api.key.Int16(), version)
				cl := broker.Client(t, kgo.MaxVersions(versions), kgo.ConsumeTopics(topic),
					kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(topic))
				for _, value := range []string{"one", "two"} {
					require.NoError(t, cl.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr())
				}
				var got []string
				for len(got) < 2 {
					fetches := cl.PollFetches(t.Context())
					require.NoError(t, fetches.Err())
					fetches.EachRecord(func(r *kgo.Record) {
						require.EqualValues(t, len(got), r.Offset)
						got = append(got, string(r.Value))
					})
				}
				require.Equal(t, []string{"one", "two"}, got)
			})
		}
	}
}
