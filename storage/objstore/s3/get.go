package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// GetRange implements [objstore.Store].
func (s *Store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	if err := objstore.ValidateKey(key); err != nil {
		return fmt.Errorf("get object: %w", err)
	}
	if off < 0 {
		return fmt.Errorf("get %s: %w: offset %d", key, objstore.ErrInvalidRange, off)
	}
	if err := s.ended(ctx, opGet); err != nil || len(p) == 0 {
		return err
	}
	if off > math.MaxInt64-int64(len(p)) {
		off = math.MaxInt64 - int64(len(p)) // beyond any object as well
	}
	return s.run(ctx, opGet, key, int64(len(p)), nil, func(a *attempt) error {
		return s.getHedged(a, s.prefix+key, off, p)
	})
}

// getOnce fills p with one request.
func (s *Store) getOnce(a *attempt, name string, off int64, p []byte) error {
	last := off + int64(len(p)) - 1
	out, err := s.calls.get(a.ctx, &sdk.GetObjectInput{
		Bucket: &s.opts.Bucket,
		Key:    &name,
		Range:  aws.String("bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(last, 10)),
	})
	if err != nil {
		return err
	}
	defer out.Body.Close() //nolint:errcheck // read to its end, or given up
	total, err := checkRange(a.status, out, off, int64(len(p)))
	if err != nil {
		return err
	}
	if total >= 0 && total <= last {
		return &failure{err: &Error{
			Status: a.status, Detail: fmt.Sprintf("the object has %d bytes, %d to %d were asked for", total, off, last),
			kinds: []error{io.ErrUnexpectedEOF},
		}}
	}
	for n := 0; n < len(p); {
		m, err := out.Body.Read(p[n:])
		n += m
		a.received.Add(int64(m))
		a.progress(m)
		if err != nil && n < len(p) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			a.transportErr = err
			return err
		}
	}
	return nil
}

// checkRange refuses answers with other bytes than those asked for. total is the object's size, or -1 if it is not told.
func checkRange(status int, out *sdk.GetObjectOutput, off, n int64) (total int64, err error) {
	length := aws.ToInt64(out.ContentLength)
	if status == http.StatusOK && out.ContentRange == nil {
		// The whole object: from a server that knows no ranges, or because the range is the whole.
		if off == 0 && length == n {
			return n, nil
		}
		return 0, misread("the server sent %d bytes from the start instead of %d from %d: does it know Range?", length, n, off)
	}
	first, last, total, ok := parseContentRange(aws.ToString(out.ContentRange))
	switch {
	case !ok || first != off || last >= off+n:
		return 0, misread("the server sent the range %.60q instead of %d-%d", aws.ToString(out.ContentRange), off, off+n-1)
	case length != last-first+1:
		return 0, misread("the server sent a length of %d for the range %.60q", length, aws.ToString(out.ContentRange))
	case last < off+n-1 && total < 0:
		return last + 1, nil
	}
	return total, nil
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL", with total -1 for "*".
func parseContentRange(s string) (first, last, total int64, ok bool) {
	s, unit := strings.CutPrefix(s, "bytes ")
	bounds, size, slash := strings.Cut(s, "/")
	from, to, dash := strings.Cut(bounds, "-")
	if !unit || !slash || !dash {
		return 0, 0, 0, false
	}
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	total = -1
	var err3 error
	if size != "*" {
		total, err3 = strconv.ParseInt(size, 10, 64)
	}
	if errors.Join(err1, err2, err3) != nil || first < 0 || last < first || (total >= 0 && last >= total) {
		return 0, 0, 0, false
	}
	return first, last, total, true
}

// Head implements [objstore.Store]. From a server that tells no CRC-32C of the whole object it reads it.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	if err := objstore.ValidateKey(key); err != nil {
		return objstore.Info{}, fmt.Errorf("head object: %w", err)
	}
	info := objstore.Info{Key: key}
	err := s.run(ctx, opHead, key, 0, nil, func(a *attempt) error {
		name := s.prefix + key
		out, err := s.calls.head(a.ctx, &sdk.HeadObjectInput{
			Bucket: &s.opts.Bucket, Key: &name, ChecksumMode: types.ChecksumModeEnabled,
		})
		if err != nil {
			return err
		}
		if out.ContentLength == nil || *out.ContentLength < 0 {
			return misread("the server told no length")
		}
		info.Size, info.ModTime = *out.ContentLength, aws.ToTime(out.LastModified)
		info.Checksum, info.HasChecksum = decodeChecksum(aws.ToString(out.ChecksumCRC32C))
		return nil
	})
	if err == nil && !info.HasChecksum {
		info.Checksum, err = s.compute(ctx, key, info.Size)
		info.HasChecksum = err == nil
	}
	if err != nil {
		return objstore.Info{}, err
	}
	return info, nil
}

// computeBytes is how much of an object compute reads at a time.
const computeBytes = 1 << 20

// compute reads an object and returns its CRC-32C.
func (s *Store) compute(ctx context.Context, key string, size int64) (sum uint32, err error) {
	p := make([]byte, min(size, computeBytes))
	for off := int64(0); off < size; off += int64(len(p)) {
		p = p[:min(size-off, computeBytes)]
		if err := s.GetRange(ctx, key, off, p); err != nil {
			return 0, fmt.Errorf("compute checksum: %w", err)
		}
		sum = objstore.UpdateChecksum(sum, p)
	}
	return sum, nil
}

// getHedged is getOnce, with a second request beside it if it takes long.
func (s *Store) getHedged(a *attempt, name string, off int64, p []byte) error {
	size := int64(len(p))
	delay, ok := s.hedge.Delay(size)
	if !ok || s.opts.NoHedge || !s.pacer.calm(time.Now()) {
		return s.getTimed(a, name, off, p)
	}
	r := &race{first: a, result: make(chan error, 1)}
	timer := time.AfterFunc(delay, func() { s.second(r, name, off, size) })
	defer timer.Stop()
	err := s.getTimed(a, name, off, p)
	second := r.decide()
	if second == nil {
		return err
	}
	if err == nil || isFinal(s.classify(a, "", err)) {
		second.cancel(errHedged)
		return err
	}
	if hedged := <-r.result; hedged != nil {
		return err // of two failures the first is told
	}
	copy(p, r.bytes)
	a.transportErr = nil
	return nil
}

// isFinal tells whether no other request would be answered otherwise.
func isFinal(f *failure) bool { return f != nil && !f.again }

// getTimed is getOnce, whose duration is remembered.
func (s *Store) getTimed(a *attempt, name string, off int64, p []byte) error {
	err := s.getOnce(a, name, off, p)
	if err == nil {
		s.hedge.Took(int64(len(p)), time.Since(a.started))
	}
	return err
}

// second is the hedge. It reads into memory of its own: the first may still write to the caller's.
func (s *Store) second(r *race, name string, off, size int64) {
	select {
	case s.slots <- struct{}{}:
	default:
		return // as many requests as may be are under way: more would not help
	}
	defer func() { <-s.slots }()
	if !s.Calm() || !s.hedge.Take() { // the gate may have closed meanwhile
		return
	}
	a := s.begin(r.first.parent, opGet, size)
	a.hedge = true
	if !r.join(a) {
		a.end()
		return
	}
	r.bytes = make([]byte, size)
	err := s.getTimed(a, name, off, r.bytes)
	f := s.classify(a, "", err)
	if err == nil {
		r.first.cancel(errHedged)
	}
	r.result <- err
	a.end()
	s.report(a, f)
	s.opts.Hooks.Hedged(err == nil)
}
