package broker

import "github.com/twmb/franz-go/pkg/kmsg"

// firstCode is the first error in an answer, in its order: the status of the request for metrics.
func firstCode(resp kmsg.Response) int16 {
	switch a := resp.(type) {
	case *kmsg.ProduceResponse:
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	case *fetchAnswer:
		if a.ErrorCode != 0 {
			return a.ErrorCode
		}
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	case *kmsg.ListOffsetsResponse:
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	case *kmsg.OffsetForLeaderEpochResponse:
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	case *kmsg.DeleteRecordsResponse:
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	case *kmsg.DescribeProducersResponse:
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	case *kmsg.ElectLeadersResponse:
		if a.ErrorCode != 0 {
			return a.ErrorCode
		}
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	case *kmsg.AlterPartitionAssignmentsResponse:
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	default:
		return firstSimpleCode(resp)
	}
	return codeNone
}

// firstSimpleCode is firstCode of answers with errors at the top or per item.
func firstSimpleCode(resp kmsg.Response) int16 {
	switch a := resp.(type) {
	case *kmsg.MetadataResponse:
		return firstOf(a.Topics, func(t *kmsg.MetadataResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.CreateTopicsResponse:
		return firstOf(a.Topics, func(t *kmsg.CreateTopicsResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.DeleteTopicsResponse:
		return firstOf(a.Topics, func(t *kmsg.DeleteTopicsResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.CreatePartitionsResponse:
		return firstOf(a.Topics, func(t *kmsg.CreatePartitionsResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.DescribeConfigsResponse:
		return firstOf(a.Resources, func(r *kmsg.DescribeConfigsResponseResource) int16 { return r.ErrorCode })
	case *kmsg.AlterConfigsResponse:
		return firstOf(a.Resources, func(r *kmsg.AlterConfigsResponseResource) int16 { return r.ErrorCode })
	case *kmsg.IncrementalAlterConfigsResponse:
		return firstOf(a.Resources, func(r *kmsg.IncrementalAlterConfigsResponseResource) int16 { return r.ErrorCode })
	case *kmsg.DescribeTopicPartitionsResponse:
		return firstOf(a.Topics, func(t *kmsg.DescribeTopicPartitionsResponseTopic) int16 { return t.ErrorCode })
	case *kmsg.FindCoordinatorResponse:
		if a.ErrorCode != 0 {
			return a.ErrorCode
		}
		return firstOf(a.Coordinators, func(c *kmsg.FindCoordinatorResponseCoordinator) int16 { return c.ErrorCode })
	case *kmsg.ApiVersionsResponse:
		return a.ErrorCode
	case *kmsg.InitProducerIDResponse:
		return a.ErrorCode
	case *kmsg.DescribeACLsResponse:
		return a.ErrorCode
	case *kmsg.DescribeClusterResponse:
		return a.ErrorCode
	case *kmsg.ListConfigResourcesResponse:
		return a.ErrorCode
	}
	return codeNone
}

func firstOf[T any](items []T, code func(*T) int16) int16 {
	for i := range items {
		if c := code(&items[i]); c != 0 {
			return c
		}
	}
	return codeNone
}
