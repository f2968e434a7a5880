package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId (key 22), versions 0–5.
//
// Behaviour: without a transactional id every request gets a new id with epoch 0, whatever id and epoch it names, as
// in Kafka: an idempotent producer bumps its epoch by itself (KIP-360) and asks only for a new id.
//
// Deviation: a transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED until there are transactions:
// clients report it at once, where coordinator errors would be retried for minutes.

func (b *Broker) initProducerID(ctx context.Context, r *request) (kmsg.Response, error) {
	req := r.body.(*kmsg.InitProducerIDRequest)
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.Version, resp.ProducerID, resp.ProducerEpoch = r.version, -1, -1
	switch {
	case req.TransactionalID != nil && *req.TransactionalID == "",
		(req.ProducerID == -1) != (req.ProducerEpoch == -1),
		req.ProducerID < -1, req.ProducerEpoch < -1:
		resp.ErrorCode = codeInvalidRequest
		return resp, nil
	case req.TransactionalID != nil:
		resp.ErrorCode = codeTransactionalIDAuth
		return resp, nil
	}
	id, err := b.cfg.Log.NextProducerID(ctx)
	if err != nil {
		// Not the codes of codeOf: this one, which Kafka answers too, is retried by clients as it is. After others the
		// Java client looks for the coordinator of a transactional id it does not have.
		resp.ErrorCode = codeCoordinatorLoading
		b.limited.warn("no producer id could be allocated", "error", err)
		return resp, nil
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp, nil
}
