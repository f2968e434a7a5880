package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what a test found. Its JSON form is stable: fields are added, not changed.
type Result struct {
	Test        string  `json:"test"`
	Topic       string  `json:"topic"`
	Partitions  int     `json:"partitions"`
	RecordBytes int     `json:"record_bytes,omitempty"`
	Producers   int     `json:"producers,omitempty"`
	Consumers   int     `json:"consumers,omitempty"`
	Acks        string  `json:"acks,omitempty"`
	Idempotent  bool    `json:"idempotent,omitempty"`
	Codec       Codec   `json:"codec,omitempty"`
	LingerMS    float64 `json:"linger_ms,omitempty"`
	TargetRate  float64 `json:"target_records_per_second,omitempty"`

	Produced *Flow `json:"produced,omitempty"`
	Consumed *Flow `json:"consumed,omitempty"`

	AckLatency      *Latency `json:"ack_latency,omitempty"`
	EndToEndLatency *Latency `json:"end_to_end_latency,omitempty"`
	DeliveryLatency *Latency `json:"delivery_latency,omitempty"`
}

// Flow is what went one way, after the warm-up.
type Flow struct {
	Records          int64   `json:"records"`
	Bytes            int64   `json:"bytes"`
	Seconds          float64 `json:"seconds"`
	RecordsPerSecond float64 `json:"records_per_second"`
	MBPerSecond      float64 `json:"mb_per_second"`
}

// Latency is a distribution in milliseconds.
type Latency struct {
	Samples int64   `json:"samples"`
	MeanMS  float64 `json:"mean_ms"`
	P50MS   float64 `json:"p50_ms"`
	P90MS   float64 `json:"p90_ms"`
	P99MS   float64 `json:"p99_ms"`
	P999MS  float64 `json:"p99_9_ms"`
	MaxMS   float64 `json:"max_ms"`
}

func newResult(test string, o *Options) *Result {
	r := &Result{Test: test, Topic: o.Topic, Partitions: o.Partitions}
	if test != "consume" {
		r.RecordBytes, r.Producers, r.Acks, r.Idempotent = o.RecordBytes, o.Producers, o.Acks.String(), o.Idempotent
		r.Codec, r.TargetRate = o.Codec, o.Rate
		r.LingerMS = float64(o.Linger) / float64(time.Millisecond)
	}
	if test != "produce" {
		r.Consumers = o.Consumers
	}
	return r
}

func flow(records, bytes int64, d time.Duration) *Flow {
	s := max(d.Seconds(), 1e-9)
	return &Flow{
		Records: records, Bytes: bytes, Seconds: s,
		RecordsPerSecond: float64(records) / s, MBPerSecond: float64(bytes) / 1e6 / s,
	}
}

func summarize(h *hdrhistogram.Histogram) *Latency {
	if h.TotalCount() == 0 {
		return nil
	}
	ms := func(us int64) float64 { return float64(us) / 1e3 }
	return &Latency{
		Samples: h.TotalCount(), MeanMS: math.Round(h.Mean()) / 1e3, MaxMS: ms(h.Max()),
		P50MS: ms(h.ValueAtQuantile(50)), P90MS: ms(h.ValueAtQuantile(90)),
		P99MS: ms(h.ValueAtQuantile(99)), P999MS: ms(h.ValueAtQuantile(99.9)),
	}
}

// WriteJSON writes the result as one JSON object on one line.
func (r *Result) WriteJSON(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(r); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// WriteTable writes the result for a person.
func (r *Result) WriteTable(w io.Writer) error {
	out := &text{w: w}
	out.printf("%s · topic %s · %d partitions", r.Test, r.Topic, r.Partitions)
	if r.Producers > 0 {
		out.printf(" · %d B records · %d producer(s) · acks=%s", r.RecordBytes, r.Producers, r.Acks)
		if r.Idempotent {
			out.printf(" idempotent")
		}
		out.printf(" · %s", r.Codec)
		if r.TargetRate > 0 {
			out.printf(" · %.0f records/s", r.TargetRate)
		}
	}
	out.printf("\n\n")
	out.table(func(t *text) {
		t.printf("\trecords\tMB\tseconds\trecords/s\tMB/s\t\n")
		t.flow("produced", r.Produced)
		t.flow("consumed", r.Consumed)
	})
	if r.AckLatency != nil || r.EndToEndLatency != nil {
		out.printf("\n")
		out.table(func(t *text) {
			t.printf("latency, ms\tmean\tp50\tp90\tp99\tp99.9\tmax\tsamples\t\n")
			t.latency("acknowledged", r.AckLatency)
			t.latency("end to end", r.EndToEndLatency)
			t.latency("from acknowledged to consumer", r.DeliveryLatency)
		})
	}
	if out.err != nil {
		return fmt.Errorf("write result: %w", out.err)
	}
	return nil
}

// text writes, and keeps the first error.
type text struct {
	w   io.Writer
	err error
}

func (t *text) printf(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

// table writes rows whose cells end in tabs, aligned to the right.
func (t *text) table(rows func(*text)) {
	tab := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	inner := &text{w: tab, err: t.err}
	rows(inner)
	if inner.err == nil {
		inner.err = tab.Flush()
	}
	t.err = inner.err
}

func (t *text) flow(name string, f *Flow) {
	if f != nil {
		t.printf("%s\t%d\t%.1f\t%.2f\t%.0f\t%.1f\t\n",
			name, f.Records, float64(f.Bytes)/1e6, f.Seconds, f.RecordsPerSecond, f.MBPerSecond)
	}
}

func (t *text) latency(name string, l *Latency) {
	if l != nil {
		t.printf("%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t\n",
			name, l.MeanMS, l.P50MS, l.P90MS, l.P99MS, l.P999MS, l.MaxMS, l.Samples)
	}
}
