package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster (key 60), versions 0–2. There are no separate controllers: asking for them is
// MISMATCHED_ENDPOINT_TYPE, as Kafka's brokers answer.

func (b *Broker) describeCluster(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.DescribeClusterRequest)
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.Version = r.version
	resp.EndpointType = 1
	resp.ControllerID = -1
	resp.ClusterAuthorizedOperations = notAsked
	resp.Brokers = []kmsg.DescribeClusterResponseBroker{}
	if r.version >= 1 && req.EndpointType != 1 {
		resp.ErrorCode, resp.ErrorMessage = codeUnsupportedEndpointType, new("Unsupported endpoint type.")
		if req.EndpointType == 2 {
			resp.ErrorCode, resp.ErrorMessage = codeMismatchedEndpointType, new("The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
		}
		return resp, nil
	}
	resp.ClusterID, resp.ControllerID = b.cfg.ClusterID, b.cfg.NodeID
	resp.ClusterAuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	e := b.endpoint(r.conn.listener)
	n := kmsg.NewDescribeClusterResponseBroker()
	n.NodeID, n.Host, n.Port, n.Rack = b.cfg.NodeID, e.Host, e.Port, b.rack()
	resp.Brokers = append(resp.Brokers, n)
	return resp, nil
}
