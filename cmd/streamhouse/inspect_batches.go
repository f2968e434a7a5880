package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage/segment"
	"github.com/streamhouse/streamhouse/storage/verify"
)

// batchInfo is a line of JSON of a batch.
type batchInfo struct {
	Type          string `json:"type"` // "batch"
	TopicID       string `json:"topic_id"`
	Partition     int32  `json:"partition"`
	Base          int64  `json:"base_offset"`
	Last          int64  `json:"last_offset"`
	Pos           int64  `json:"position"`
	Len           int    `json:"bytes"`
	Records       int32  `json:"records"`
	Codec         string `json:"compression"`
	LeaderEpoch   int32  `json:"leader_epoch"`
	MaxTimestamp  int64  `json:"max_timestamp"`
	LogAppendTime bool   `json:"log_append_time,omitempty"`
	ProducerID    int64  `json:"producer_id"`
	ProducerEpoch int16  `json:"producer_epoch"`
	BaseSequence  int32  `json:"base_sequence"`
	Transactional bool   `json:"transactional,omitempty"`
	Control       bool   `json:"control,omitempty"`
	ChecksumOK    bool   `json:"checksum_ok"`
}

// recordInfo is a line of JSON of a record. Of a field and its _base64 twin at most one is there; neither means null.
type recordInfo struct {
	Type        string       `json:"type"` // "record"
	TopicID     string       `json:"topic_id"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   int64        `json:"timestamp"`
	Key         *string      `json:"key,omitempty"`
	KeyBase64   *string      `json:"key_base64,omitempty"`
	Value       *string      `json:"value,omitempty"`
	ValueBase64 *string      `json:"value_base64,omitempty"`
	Headers     []headerInfo `json:"headers,omitempty"`
}

type headerInfo struct {
	Key         string  `json:"key"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 *string `json:"value_base64,omitempty"`
}

// batches shows the batches, and with --records the records, of extents, one by one as they are read.
func (n *inspector) batches(ctx context.Context, s *source, name string, extents []segment.FooterExtent) error {
	var errs []error
	for i := range extents {
		x := &extents[i]
		if !n.c.JSON {
			topic := n.names[x.Topic]
			if topic == "" {
				topic = x.Topic.String()
			}
			n.p.printf("\n%s, partition %d, offsets %d–%d\n", topic, x.Partition, x.Base, x.End-1)
		}
		pos := x.Pos
		for b, err := range verify.Batches(ctx, s, name, *x) {
			if err == nil {
				err = n.batch(x, pos, b)
				pos += int64(len(b))
			}
			if err != nil {
				errs = append(errs, err)
			}
			if n.p.err != nil || ctx.Err() != nil {
				return errors.Join(append(errs, ctx.Err())...)
			}
		}
	}
	return errors.Join(errs...)
}

func (n *inspector) batch(x *segment.FooterExtent, pos int64, b []byte) error {
	h, err := recordbatch.ParseHeader(b)
	if err != nil {
		return err
	}
	info := batchInfo{
		Type: "batch", TopicID: x.Topic.String(), Partition: x.Partition, Base: h.BaseOffset, Last: h.LastOffset(), Pos: pos,
		Len: len(b), Records: h.NumRecords, Codec: h.Compression().String(), LeaderEpoch: h.LeaderEpoch,
		MaxTimestamp: h.MaxTimestamp, LogAppendTime: h.LogAppendTime(), ProducerID: h.ProducerID,
		ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence, Transactional: h.IsTransactional(),
		Control: h.IsControl(), ChecksumOK: recordbatch.ChecksumOK(b),
	}
	if n.c.JSON {
		n.p.json(info)
	} else {
		n.showBatch(&info)
	}
	if !n.c.Records {
		return nil
	}
	for r, err := range recordbatch.Records(b, 0) {
		if err != nil {
			return fmt.Errorf("read the records of the batch at offset %d: %w", h.BaseOffset, err)
		}
		at := h.FirstTimestamp + r.TimestampDelta
		if h.LogAppendTime() {
			at = h.MaxTimestamp
		}
		n.record(x, h.BaseOffset+int64(r.OffsetDelta), at, &r)
		if n.p.err != nil {
			return nil // told at the end
		}
	}
	return nil
}

func (n *inspector) showBatch(b *batchInfo) {
	n.p.printf("  batch %d–%d at byte %d: %d bytes, %d records, %s, %s", b.Base, b.Last, b.Pos, b.Len, b.Records, b.Codec, timeText(b.MaxTimestamp))
	if b.LogAppendTime {
		n.p.printf(" (append time)")
	}
	if b.ProducerID >= 0 {
		n.p.printf(", producer %d epoch %d sequence %d", b.ProducerID, b.ProducerEpoch, b.BaseSequence)
	}
	if b.Transactional {
		n.p.printf(", transactional")
	}
	if b.Control {
		n.p.printf(", control")
	}
	if !b.ChecksumOK {
		n.p.printf(", CHECKSUM WRONG")
	}
	n.p.printf("\n")
}

func (n *inspector) record(x *segment.FooterExtent, offset, at int64, r *recordbatch.Record) {
	if !n.c.JSON {
		n.p.printf("    %d  %s  %s  %s", offset, timeText(at), quoted(r.Key), quoted(r.Value))
		for _, h := range r.Headers {
			n.p.printf("  %s=%s", quoted([]byte(h.Key)), quoted(h.Value))
		}
		n.p.printf("\n")
		return
	}
	info := recordInfo{Type: "record", TopicID: x.Topic.String(), Partition: x.Partition, Offset: offset, Timestamp: at}
	info.Key, info.KeyBase64 = textOf(r.Key)
	info.Value, info.ValueBase64 = textOf(r.Value)
	for _, h := range r.Headers {
		hi := headerInfo{Key: h.Key}
		hi.Value, hi.ValueBase64 = textOf(h.Value)
		info.Headers = append(info.Headers, hi)
	}
	n.p.json(info)
}

// maxQuoted is how many bytes of a key or value are shown as text; JSON has them all.
const maxQuoted = 80

func quoted(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) > maxQuoted:
		return fmt.Sprintf("%q… (%d bytes)", b[:maxQuoted], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// textOf gives bytes as text, or in base64 where text would lose some.
func textOf(b []byte) (text, b64 *string) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return nil, &s
}
