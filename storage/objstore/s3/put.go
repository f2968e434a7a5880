package s3

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// Put implements [objstore.Store].
func (s *Store) Put(ctx context.Context, key string, body objstore.Body) error {
	if err := objstore.ValidateKey(key); err != nil {
		return fmt.Errorf("put object: %w", err)
	}
	if err := objstore.ValidateBody(body); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if err := s.writable(ctx, opPut); err != nil {
		return err
	}
	tainted := false // some attempt may have stored the object, or may yet
	err := s.run(ctx, opPut, key, body.Size, func(f *failure) { tainted = tainted || f.doubtful }, func(a *attempt) error {
		return s.putOnce(a, s.prefix+key, body)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, objstore.ErrChecksum) && objstore.Checksum(body.Slices...) == body.Checksum:
		// The bytes are right here and were not there: they changed on the way. Nothing of that attempt was stored.
		err = fmt.Errorf("put %s: the bytes changed on the way: %w", key, objstore.ErrUnavailable)
	case tainted && (errors.Is(err, objstore.ErrExists) || isConflict(err)):
		err = s.settle(ctx, key, body, err)
	}
	if err != nil && tainted && !objstore.InDoubt(err) && !errors.Is(err, objstore.ErrExists) {
		return fmt.Errorf("put %s: %w: %w", key, objstore.ErrInDoubt, err)
	}
	return err
}

// writable tells whether a call that changes something may begin.
func (s *Store) writable(ctx context.Context, op string) error {
	if err := s.ended(ctx, op); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return fmt.Errorf("%s object: %w", op, objstore.ErrReadOnly)
	}
	return nil
}

func isConflict(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusConflict
}

// putOnce sends body under name, the whole key, if nothing is there.
func (s *Store) putOnce(a *attempt, name string, body objstore.Body) error {
	_, err := s.calls.put(a.ctx, &sdk.PutObjectInput{
		Bucket:         &s.opts.Bucket,
		Key:            &name,
		Body:           a.send(body.Slices, body.Size),
		ContentLength:  &body.Size,
		ContentType:    aws.String("application/octet-stream"),
		IfNoneMatch:    aws.String("*"),
		ChecksumCRC32C: aws.String(encodeChecksum(body.Checksum)),
	})
	return err
}

// settle decides about refused, an answer that says that the key is taken, to an attempt after one in doubt.
func (s *Store) settle(ctx context.Context, key string, body objstore.Body, refused error) error {
	outcome, err := objstore.Settle(ctx, s, key, body.Size, body.Checksum)
	switch {
	case err != nil:
		return fmt.Errorf("put %s: %w: %w", key, objstore.ErrInDoubt, err)
	case outcome == objstore.Stored:
		s.opts.Hooks.Settled(true)
		return nil
	case outcome == objstore.Foreign:
		s.opts.Hooks.Settled(false)
		return fmt.Errorf("put %s: other bytes are there: %w", key, objstore.ErrExists)
	case errors.Is(refused, objstore.ErrExists):
		return fmt.Errorf("put %s: the object vanished: %w", key, objstore.ErrUnavailable)
	}
	return refused
}

// encodeChecksum is how S3 writes a CRC-32C: base64 of its four bytes, the highest first.
func encodeChecksum(sum uint32) string {
	return base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// decodeChecksum refuses what is not one of a whole object: checksums of parts end with a dash and their number.
func decodeChecksum(s string) (uint32, bool) {
	p, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(p) != 4 {
		return 0, false
	}
	return uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3]), true
}
