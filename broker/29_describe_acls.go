package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeAcls (key 29), versions 1–3: SECURITY_DISABLED, as Kafka without an authorizer.

func (b *Broker) describeACLs(_ context.Context, r *request) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeACLsResponse()
	resp.Version = r.version
	resp.ErrorCode, resp.ErrorMessage = codeSecurityDisabled, new("No Authorizer is configured on the broker")
	resp.Resources = []kmsg.DescribeACLsResponseResource{}
	return resp, nil
}
