package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster (key 60), versions 0–2: the brokers with their addresses on the listener the request came in by, and
// the controller, as in Metadata. Brokers that are fenced are not kept, so none are shown when asked for (version 2).
// There are no separate controllers: asking for them is MISMATCHED_ENDPOINT_TYPE, as Kafka's brokers answer.

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
	f := b.fleet()
	resp.ClusterID, resp.ControllerID = b.cfg.ClusterID, f.controller
	resp.ClusterAuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	for i := range f.nodes {
		n := kmsg.NewDescribeClusterResponseBroker()
		e := f.nodes[i].endpoint(r.conn.listener)
		n.NodeID, n.Host, n.Port, n.Rack = f.nodes[i].ID, e.Host, e.Port, f.nodes[i].rack()
		resp.Brokers = append(resp.Brokers, n)
	}
	return resp, nil
}
