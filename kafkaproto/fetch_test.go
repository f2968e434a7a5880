package kafkaproto

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// randomFetch makes a response with records in pieces and, for kmsg, in one.
func randomFetch(rng *rand.Rand, version int16) (*FetchResponse, *kmsg.FetchResponse) {
	resp := &FetchResponse{}
	fill(rng, reflect.ValueOf(&resp.FetchResponse).Elem())
	resp.Version = version
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			if rng.IntN(2) == 0 {
				p.DivergingEpoch = kmsg.NewFetchResponseTopicPartitionDivergingEpoch()
			}
			if rng.IntN(2) == 0 {
				p.CurrentLeader = kmsg.NewFetchResponseTopicPartitionCurrentLeader()
			}
			if rng.IntN(2) == 0 {
				p.SnapshotID = kmsg.NewFetchResponseTopicPartitionSnapshotID()
			}
		}
	}
	whole := resp.FetchResponse
	whole.Topics = append([]kmsg.FetchResponseTopic(nil), whole.Topics...)
	for i := range whole.Topics {
		parts := append([]kmsg.FetchResponseTopicPartition(nil), whole.Topics[i].Partitions...)
		for j := range parts {
			var pieces [][]byte
			switch rng.IntN(4) {
			case 0: // what RecordBatches says
			case 1:
				pieces, parts[j].RecordBatches = [][]byte{}, []byte{}
			default:
				for range 1 + rng.IntN(4) {
					pieces = append(pieces, bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(300)))
				}
				parts[j].RecordBatches = append([]byte{}, bytes.Join(pieces, nil)...)
			}
			resp.Records = append(resp.Records, pieces)
		}
		whole.Topics[i].Partitions = parts
	}
	return resp, &whole
}

func TestEncodeFetchIsKmsgs(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for version := int16(MinFetchVersion); version <= MaxFetchVersion; version++ {
		for range 200 {
			resp, whole := randomFetch(rng, version)
			want := AppendResponse(nil, 9, whole)
			e, err := EncodeFetch(9, version, resp)
			require.NoError(t, err)
			require.EqualValues(t, len(want), e.Size())
			var got bytes.Buffer
			n, err := e.Buffers.WriteTo(&got)
			require.NoError(t, err)
			require.Equal(t, e.Size(), n)
			require.True(t, bytes.Equal(want, got.Bytes()), "version %d:\nwant %x\ngot  %x", version, want, got.Bytes())
			e.Release()
		}
	}
	require.EqualValues(t, MaxFetchVersion, kmsg.NewPtrFetchResponse().MaxVersion())
}

func oneFetch(pieces ...[]byte) *FetchResponse {
	resp := &FetchResponse{Records: [][][]byte{pieces}}
	p := kmsg.NewFetchResponseTopicPartition()
	p.RecordBatches = []byte{}
	resp.Topics = []kmsg.FetchResponseTopic{{Topic: "t", Partitions: []kmsg.FetchResponseTopicPartition{p}}}
	return resp
}

func TestEncodeFetchCopiesNoRecords(t *testing.T) {
	a, b := []byte("first"), []byte("second")
	e, err := EncodeFetch(1, 12, oneFetch(a, nil, b))
	require.NoError(t, err)
	defer e.Release()
	require.Len(t, e.Buffers, 4, "metadata, two pieces, metadata")
	require.Same(t, &a[0], &e.Buffers[1][0])
	require.Same(t, &b[0], &e.Buffers[2][0])
}

func TestEncodeFetchRefuses(t *testing.T) {
	for _, v := range []int16{-1, 3, 19} {
		_, err := EncodeFetch(1, v, oneFetch())
		require.ErrorIs(t, err, ErrUnsupportedVersion)
	}
	more := oneFetch()
	more.Records = append(more.Records, nil)
	_, err := EncodeFetch(1, 12, more)
	require.Error(t, err)

	mib := make([]byte, 1<<20)
	huge := make([][]byte, 2048)
	for i := range huge {
		huge[i] = mib
	}
	for _, v := range []int16{4, 18} {
		_, err = EncodeFetch(1, v, oneFetch(huge...))
		require.Error(t, err)
		_, err = EncodeFetch(1, v, oneFetch(append(huge[:2047:2047], mib[:len(mib)-10])...))
		require.Error(t, err, "%d bytes with the metadata", math.MaxInt32)
	}
}

func BenchmarkEncodeFetch(b *testing.B) {
	resp := &FetchResponse{}
	piece := make([]byte, 64<<10)
	t := kmsg.FetchResponseTopic{Topic: "a-topic"}
	for range 100 {
		p := kmsg.NewFetchResponseTopicPartition()
		t.Partitions = append(t.Partitions, p)
		resp.Records = append(resp.Records, [][]byte{piece, piece})
	}
	resp.Topics = append(resp.Topics, t)
	b.ReportAllocs()
	for b.Loop() {
		e, err := EncodeFetch(1, 12, resp)
		if err != nil {
			b.Fatal(err)
		}
		e.Release()
	}
}

func TestEncodeFetchAllocations(t *testing.T) {
	resp := oneFetch(make([]byte, 1000), make([]byte, 1000))
	resp.Topics[0].Partitions[0].CurrentLeader.LeaderID = 5
	got := testing.AllocsPerRun(200, func() {
		e, err := EncodeFetch(1, 17, resp)
		if err != nil {
			t.Fatal(err)
		}
		e.Release()
	})
	if got > pooledAllocations {
		t.Errorf("%.1f allocations a response, want at most %d", got, pooledAllocations)
	}
}
