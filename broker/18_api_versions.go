package broker

import (
	"context"
	"regexp"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions (key 18), versions 0–4.
//
// Behaviour: the table in api.go. An unknown version is answered in version 0 with UNSUPPORTED_VERSION and the list.
// The answer's header has no tag section in any version. Features are finalised once what they stand for works.

const apiVersionsKey = 18

// groupVersion is the feature that stands for the group protocol of KIP-848.
const groupVersion = "group.version"

// softwareName is what KIP-511 allows as a client's name and version.
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func (b *Broker) apiVersions(_ context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.ApiVersionsRequest)
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = r.version
	switch {
	case r.unsupported:
		resp.ErrorCode = codeUnsupportedVersion
	case r.version >= 3 && (!softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion)):
		resp.ErrorCode = codeInvalidRequest
		return resp, nil
	}
	for _, a := range b.table {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.lowest(), a.max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	if b.groups != nil {
		if r.version >= 4 { // older clients cannot read one whose lowest version is 0
			supported := kmsg.NewApiVersionsResponseSupportedFeature()
			supported.Name, supported.MaxVersion = groupVersion, 1
			resp.SupportedFeatures = append(resp.SupportedFeatures, supported)
		}
		finalized := kmsg.NewApiVersionsResponseFinalizedFeature()
		finalized.Name, finalized.MinVersionLevel, finalized.MaxVersionLevel = groupVersion, 1, 1
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, finalized)
		resp.FinalizedFeaturesEpoch = 0
	}
	return resp, nil
}
