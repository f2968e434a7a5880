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
	case *kmsg.OffsetCommitResponse:
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				if c := a.Topics[i].Partitions[j].ErrorCode; c != 0 {
					return c
				}
			}
		}
	case *kmsg.OffsetDeleteResponse:
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
	case *kmsg.OffsetFetchResponse:
		return firstOffsetCode(a)
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
		if code, ok := firstGroupCode(resp); ok {
			return code
		}
		return firstSimpleCode(resp)
	}
	return codeNone
}

// firstOffsetCode is firstCode of OffsetFetch.
func firstOffsetCode(a *kmsg.OffsetFetchResponse) int16 {
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
	for i := range a.Groups {
		g := &a.Groups[i]
		if g.ErrorCode != 0 {
			return g.ErrorCode
		}
		for j := range g.Topics {
			for k := range g.Topics[j].Partitions {
				if c := g.Topics[j].Partitions[k].ErrorCode; c != 0 {
					return c
				}
			}
		}
	}
	return codeNone
}

// firstGroupCode is firstCode of other answers about groups; not ok if it is none.
func firstGroupCode(resp kmsg.Response) (code int16, ok bool) {
	switch a := resp.(type) {
	case *kmsg.JoinGroupResponse:
		return a.ErrorCode, true
	case *kmsg.SyncGroupResponse:
		return a.ErrorCode, true
	case *kmsg.HeartbeatResponse:
		return a.ErrorCode, true
	case *kmsg.LeaveGroupResponse:
		if a.ErrorCode != 0 {
			return a.ErrorCode, true
		}
		return firstOf(a.Members, func(m *kmsg.LeaveGroupResponseMember) int16 { return m.ErrorCode }), true
	case *kmsg.DescribeGroupsResponse:
		return firstOf(a.Groups, func(g *kmsg.DescribeGroupsResponseGroup) int16 { return g.ErrorCode }), true
	case *kmsg.ListGroupsResponse:
		return a.ErrorCode, true
	case *kmsg.DeleteGroupsResponse:
		return firstOf(a.Groups, func(g *kmsg.DeleteGroupsResponseGroup) int16 { return g.ErrorCode }), true
	case *kmsg.ConsumerGroupHeartbeatResponse:
		return a.ErrorCode, true
	case *kmsg.ConsumerGroupDescribeResponse:
		return firstOf(a.Groups, func(g *kmsg.ConsumerGroupDescribeResponseGroup) int16 { return g.ErrorCode }), true
	}
	return codeNone, false
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
