package s3

import (
	"context"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// List implements [objstore.Store]. Objects whose keys no Put would take are not shown: others' objects, and the
// markers that consoles make for folders.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (objects []objstore.Info, more bool, err error) {
	if err := s.ended(ctx, opList); err != nil {
		return nil, false, err
	}
	if limit <= 0 || limit > objstore.MaxList {
		limit = objstore.MaxList
	}
	if !canPrefix(prefix) {
		return nil, false, nil
	}
	from := startAfter(after)
	switch {
	case from <= prefix:
		from = "" // all keys under the prefix are after it, except that the prefix may itself be a key
	case !strings.HasPrefix(from, prefix):
		return nil, false, nil
	}
	for {
		page, last, truncated, err := s.listPage(ctx, prefix, from, limit-len(objects))
		if err != nil {
			return nil, false, err
		}
		for _, info := range page {
			if info.Key > after {
				objects = append(objects, info)
			}
		}
		if !truncated || len(objects) >= limit {
			return objects, truncated, nil
		}
		from = last
	}
}

// listPage is one page: the objects that are ours, and the last key of all.
func (s *Store) listPage(ctx context.Context, prefix, from string, limit int) (page []objstore.Info, last string, truncated bool, err error) {
	err = s.run(ctx, opList, prefix, 0, nil, func(a *attempt) error {
		input := &sdk.ListObjectsV2Input{
			Bucket: &s.opts.Bucket, Prefix: aws.String(s.prefix + prefix), MaxKeys: aws.Int32(int32(limit)),
			EncodingType: types.EncodingTypeUrl, // others' keys may have bytes that XML has not
		}
		if from != "" {
			input.StartAfter = aws.String(s.prefix + from)
		}
		out, err := s.calls.list(a.ctx, input)
		if err != nil {
			return err
		}
		page, last, err = s.readPage(out, prefix, from, limit)
		truncated = aws.ToBool(out.IsTruncated)
		if err == nil && truncated && last == "" {
			return misread("an empty page says that there are more")
		}
		return err
	})
	return page, last, truncated, err
}

// readPage checks that a page is one: a body that is not a listing decodes to nothing at all, which would say that there
// are no objects.
func (s *Store) readPage(out *sdk.ListObjectsV2Output, prefix, from string, limit int) (page []objstore.Info, last string, err error) {
	if out.IsTruncated == nil {
		return nil, "", misread("the answer is no listing")
	}
	if out.KeyCount != nil && int(*out.KeyCount) != len(out.Contents) {
		return nil, "", misread("the listing has %d of %d keys", len(out.Contents), *out.KeyCount)
	}
	if len(out.Contents) > limit {
		return nil, "", misread("the listing has %d keys, %d were asked for", len(out.Contents), limit)
	}
	page = make([]objstore.Info, 0, len(out.Contents))
	for i := range out.Contents {
		o := &out.Contents[i]
		name := aws.ToString(o.Key)
		if out.EncodingType == types.EncodingTypeUrl {
			if name, err = url.QueryUnescape(name); err != nil {
				return nil, "", misread("the key %.200q is not escaped as asked", aws.ToString(o.Key))
			}
		}
		key, ours := strings.CutPrefix(name, s.prefix)
		if !ours || !strings.HasPrefix(key, prefix) || (last != "" && key <= last) || (from != "" && key <= from) {
			return nil, "", misread("the listing of %.200q after %.200q has %.200q at the wrong place", s.prefix+prefix, s.prefix+from, name)
		}
		last = key
		if o.Size == nil || *o.Size < 0 {
			return nil, "", misread("the listing tells no size of %.200q", name)
		}
		if objstore.ValidateKey(key) == nil {
			page = append(page, objstore.Info{Key: key, Size: *o.Size, ModTime: aws.ToTime(o.LastModified)})
		}
	}
	return page, last, nil
}

// canPrefix tells whether some valid key starts with prefix. Servers that keep objects in folders do not all agree on
// what "..", "//" or bytes outside of text mean.
func canPrefix(prefix string) bool {
	if prefix == "" {
		return true
	}
	if strings.HasSuffix(prefix, "/") {
		return objstore.ValidateKey(prefix[:len(prefix)-1]) == nil && len(prefix) < objstore.MaxKeyBytes
	}
	return objstore.ValidateKey(prefix) == nil
}

// alphabet is what keys are made of, in ascending order. No segment starts with the two characters of notFirst.
const (
	alphabet = "-./0123456789=ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
	notFirst = "./"
)

// startAfter turns any string into one with the same valid keys after it that has no ".." or "//" and no character but
// those of the alphabet and "~": servers refuse some of what List allows. "~" sorts behind the alphabet.
func startAfter(after string) string {
	for i := range len(after) {
		first := i == 0 || after[i-1] == '/'
		allowed := func(c byte) bool {
			return strings.IndexByte(alphabet, c) >= 0 && (!first || strings.IndexByte(notFirst, c) < 0)
		}
		c := after[i]
		if allowed(c) {
			continue
		}
		// Of the keys that agree with after up to here, those that go on with less than c are before it.
		for below := c; below > 0; below-- {
			if allowed(below - 1) {
				return after[:i] + string(rune(below-1)) + "~"
			}
		}
		return after[:i]
	}
	return after[:min(len(after), objstore.MaxKeyBytes+1)]
}
