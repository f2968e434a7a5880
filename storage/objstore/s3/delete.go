package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// maxDelete is how many keys one request may have.
const maxDelete = 1000

// Delete implements [objstore.Store], with one request per 1,000 keys.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	if err := objstore.ValidateKeys(keys); err != nil {
		return fmt.Errorf("delete objects: %w", err)
	}
	if err := s.writable(ctx, opDelete); err != nil {
		return err
	}
	keys = slices.Clone(keys)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	var left []string
	var first error
	for batch := range slices.Chunk(keys, maxDelete) {
		remaining, err := s.deleteBatch(ctx, batch)
		if err != nil && first == nil {
			first = err
		}
		left = append(left, remaining...)
	}
	if first != nil {
		return &objstore.DeleteError{Left: left, Err: first}
	}
	return nil
}

// deleteBatch returns the keys that may be left, and the first error, if not all are gone. Each attempt asks only for
// what the one before has left.
func (s *Store) deleteBatch(ctx context.Context, keys []string) (left []string, err error) {
	left = keys
	var refused *failure // by the server, for one key and for good
	var given []string
	err = s.run(ctx, opDelete, "", 0, nil, func(a *attempt) error {
		objects := make([]types.ObjectIdentifier, len(left))
		for i, key := range left {
			objects[i].Key = aws.String(s.prefix + key)
		}
		out, err := s.calls.remove(a.ctx, &sdk.DeleteObjectsInput{
			// Not quiet: only what the answer names is gone. A body that is no answer at all names nothing.
			Bucket: &s.opts.Bucket, Delete: &types.Delete{Objects: objects},
		})
		if err != nil {
			return err
		}
		gone := make(map[string]bool, len(out.Deleted))
		for i := range out.Deleted {
			gone[aws.ToString(out.Deleted[i].Key)] = true
		}
		var again *failure
		for i := range out.Errors {
			f := s.classifyKey(a, &out.Errors[i])
			name := aws.ToString(out.Errors[i].Key)
			switch {
			case errors.Is(f.err, objstore.ErrNotFound), errors.Is(f.err, objstore.ErrInvalidKey):
				gone[name] = true // a key the server cannot hold is one it does not hold
			case f.again && again == nil:
				again = f
			case !f.again:
				if refused == nil {
					refused = f
				}
				if !gone[name] {
					gone[name] = true
					given = append(given, name)
				}
			}
		}
		left = slices.DeleteFunc(slices.Clone(left), func(key string) bool { return gone[s.prefix+key] })
		switch {
		case len(left) == 0:
			return nil
		case again != nil:
			return again
		}
		return misread("the answer does not name %d of %d keys", len(left), len(objects))
	})
	left = slices.Clone(left)
	if err == nil {
		left = nil
	}
	for _, name := range given {
		left = append(left, name[len(s.prefix):])
	}
	if refused != nil {
		err = refused.err
	}
	return left, err
}

// classifyKey is classify for one key of an answer that came.
func (s *Store) classifyKey(a *attempt, e *types.Error) *failure {
	f := &failure{err: &Error{Op: a.op, Key: clip(aws.ToString(e.Key))}}
	switch aws.ToString(e.Code) { // there is a code but no status
	case "AccessDenied":
		f.err.Status = http.StatusForbidden
	case "InternalError", "ServiceUnavailable":
		f.err.Status = http.StatusInternalServerError
	}
	s.classifyAnswer(f, a, &smithy.GenericAPIError{Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)})
	return f
}
