package storage

import (
	"context"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// Requests of the store are told to Hooks.Requested by the topics they were made for: an object holds batches of many, so
// its PUT is shared among them by bytes. Who makes a request says on whose behalf in the context, which also the block
// cache passes on to the GETs that it makes for a reader.

// portion is a topic's part of an object, in bytes.
type portion struct {
	topic catalog.TopicID
	bytes int64
}

type portionsKey struct{}

// onBehalf has the requests that are made under the context told as those of a topic.
func (e *Engine) onBehalf(ctx context.Context, topic catalog.TopicID) context.Context {
	if e.cfg.Hooks.Requested == nil {
		return ctx
	}
	return context.WithValue(ctx, portionsKey{}, []portion{{topic: topic, bytes: 1}})
}

// onBehalfOfAll has the requests that are made under the context shared by those who have batches in an object.
func (e *Engine) onBehalfOfAll(ctx context.Context, ix *segment.Index) context.Context {
	if e.cfg.Hooks.Requested == nil {
		return ctx
	}
	var parts []portion
	for i := range ix.Extents { // sorted by partition
		x := &ix.Extents[i]
		if n := len(parts); n == 0 || parts[n-1].topic != x.TopicPartition.Topic {
			parts = append(parts, portion{topic: x.TopicPartition.Topic})
		}
		parts[len(parts)-1].bytes += x.Len
	}
	return context.WithValue(ctx, portionsKey{}, parts)
}

// onBehalfOfFooter is onBehalfOfAll for an object of which the footer is known.
func (e *Engine) onBehalfOfFooter(ctx context.Context, f *segment.Footer) context.Context {
	if e.cfg.Hooks.Requested == nil {
		return ctx
	}
	var parts []portion
	for i := range f.Len() {
		x := f.Extent(i)
		if n := len(parts); n == 0 || parts[n-1].topic != x.TopicPartition.Topic {
			parts = append(parts, portion{topic: x.TopicPartition.Topic})
		}
		parts[len(parts)-1].bytes += x.Len
	}
	return context.WithValue(ctx, portionsKey{}, parts)
}

// accountedStore tells a hook of each PUT and GET, by topic.
type accountedStore struct {
	objstore.Store

	requested func(op string, topic catalog.TopicID, share, bytes float64)
}

// The operations of Hooks.Requested.
const (
	requestPut = "put"
	requestGet = "get"
)

// Calm implements [objstore.Calmer]: it is as the wrapped store says.
func (s *accountedStore) Calm() bool { return objstore.Calm(s.Store) }

// Put implements [objstore.Store].
func (s *accountedStore) Put(ctx context.Context, key string, body objstore.Body) error {
	err := s.Store.Put(ctx, key, body)
	s.tell(ctx, requestPut, body.Size, err)
	return err
}

// GetRange implements [objstore.Store].
func (s *accountedStore) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	err := s.Store.GetRange(ctx, key, off, p)
	s.tell(ctx, requestGet, int64(len(p)), err)
	return err
}

// tell counts a request also when it failed: it was made. Its bytes count if they got through.
func (s *accountedStore) tell(ctx context.Context, op string, bytes int64, err error) {
	if err != nil {
		bytes = 0
	}
	parts, _ := ctx.Value(portionsKey{}).([]portion)
	total := int64(0)
	for _, p := range parts {
		total += p.bytes
	}
	if total == 0 {
		s.requested(op, catalog.TopicID{}, 1, float64(bytes))
		return
	}
	for _, p := range parts {
		share := float64(p.bytes) / float64(total)
		s.requested(op, p.topic, share, share*float64(bytes))
	}
}
