package recordio

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// timeLayout is RFC 3339 with the milliseconds Kafka keeps.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// jsonRecord is a record in JSON. Of a field and its _base64 twin at most one is there; neither means null.
type jsonRecord struct {
	Topic       string       `json:"topic,omitempty"`
	Partition   *int32       `json:"partition,omitempty"`
	Offset      *int64       `json:"offset,omitempty"`
	Timestamp   string       `json:"timestamp,omitempty"`
	Key         *string      `json:"key,omitempty"`
	KeyBase64   *string      `json:"key_base64,omitempty"`
	Value       *string      `json:"value,omitempty"`
	ValueBase64 *string      `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         string  `json:"key"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 *string `json:"value_base64,omitempty"`
}

// encodeText returns b as text, or in base64 where text would lose bytes.
func encodeText(b []byte) (text, b64 *string) {
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

func decodeText(name string, text, b64 *string) ([]byte, error) {
	switch {
	case text != nil && b64 != nil:
		return nil, fmt.Errorf("%s and %s_base64 are both there: keep one", name, name)
	case text != nil:
		return append(make([]byte, 0, len(*text)), *text...), nil // never nil: empty is not null
	case b64 != nil:
		b, err := base64.StdEncoding.DecodeString(*b64)
		if err != nil {
			return nil, fmt.Errorf("%s_base64: %w", name, err)
		}
		if b == nil {
			b = []byte{}
		}
		return b, nil
	}
	return nil, nil
}

func appendJSON(dst []byte, r *kgo.Record) []byte {
	j := jsonRecord{
		Topic: r.Topic, Partition: &r.Partition, Offset: &r.Offset,
		Timestamp: r.Timestamp.UTC().Format(timeLayout),
	}
	j.Key, j.KeyBase64 = encodeText(r.Key)
	j.Value, j.ValueBase64 = encodeText(r.Value)
	for _, h := range r.Headers {
		jh := jsonHeader{Key: h.Key}
		jh.Value, jh.ValueBase64 = encodeText(h.Value)
		j.Headers = append(j.Headers, jh)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(j); err != nil {
		// Strings, numbers and lists of them always encode.
		return append(dst, "{}\n"...)
	}
	return append(dst, b.Bytes()...)
}

func parseJSON(line []byte) (*kgo.Record, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var j jsonRecord
	if err := dec.Decode(&j); err != nil {
		return nil, fmt.Errorf("parse JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("parse JSON: more than one value in the line")
	}
	r := &kgo.Record{Partition: -1}
	if j.Partition != nil {
		if *j.Partition < 0 {
			return nil, fmt.Errorf("partition %d: cannot be negative", *j.Partition)
		}
		r.Partition = *j.Partition
	}
	var err error
	if r.Key, err = decodeText("key", j.Key, j.KeyBase64); err != nil {
		return nil, err
	}
	if r.Value, err = decodeText("value", j.Value, j.ValueBase64); err != nil {
		return nil, err
	}
	for _, h := range j.Headers {
		v, err := decodeText("header value", h.Value, h.ValueBase64)
		if err != nil {
			return nil, err
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: v})
	}
	if j.Timestamp != "" {
		if r.Timestamp, err = time.Parse(time.RFC3339Nano, j.Timestamp); err != nil {
			return nil, fmt.Errorf("timestamp: %w", err)
		}
	}
	return r, nil
}
