package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// probeName starts with a dot, so it is no key of the contract and List leaves it out.
const probeName = ".streamhouse-probe"

const probeText = "StreamHouse puts this object twice when a broker starts, to see that the server refuses the second.\n"

// probe asks the server for what the contract rests on. The probe's object stays: the next probe is one request.
func (s *Store) probe(ctx context.Context) error {
	if s.opts.ReadOnly {
		_, _, err := s.List(ctx, "", "", 1)
		return err
	}
	for range 2 {
		err := s.probeOnce(ctx)
		switch {
		case errors.Is(err, objstore.ErrExists):
			return nil
		case err != nil:
			e, ok := errors.AsType[*Error](err)
			if ok && (e.Status == http.StatusNotImplemented || e.Code == "NotImplemented") {
				return fmt.Errorf("%w: %w", ErrNoConditionalPut, err)
			}
			return err
		}
	}
	return fmt.Errorf("%w: it overwrote %s%s; use a server or a version that has it", ErrNoConditionalPut, s.prefix, probeName)
}

func (s *Store) probeOnce(ctx context.Context) error {
	body := objstore.NewBody([]byte(probeText))
	return s.run(ctx, opPut, probeName, body.Size, nil, func(a *attempt) error {
		return s.putOnce(a, s.prefix+probeName, body)
	})
}
