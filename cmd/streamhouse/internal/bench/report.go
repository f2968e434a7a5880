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
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	// Writes to a tabwriter are kept until Flush, which tells of the first that failed.
	fmt.Fprintf(w, "%s · topic %s · %d partitions", r.Test, r.Topic, r.Partitions)
	if r.Producers > 0 {
		fmt.Fprintf(w, " · %d B records · %d producer(s) · acks=%s", r.RecordBytes, r.Producers, r.Acks)
		if r.Idempotent {
			fmt.Fprint(w, " idempotent")
		}
		fmt.Fprintf(w, " · %s", r.Codec)
		if r.TargetRate > 0 {
			fmt.Fprintf(w, " · %.0f records/s", r.TargetRate)
		}
	}
	fmt.Fprint(w, "\n\n")
	fmt.Fprintln(t, "\trecords\tMB\tseconds\trecords/s\tMB/s\t")
	for _, f := range []struct {
		name string
		*Flow
	}{{"produced", r.Produced}, {"consumed", r.Consumed}} {
		if f.Flow != nil {
			fmt.Fprintf(t, "%s\t%d\t%.1f\t%.2f\t%.0f\t%.1f\t\n",
				f.name, f.Records, float64(f.Bytes)/1e6, f.Seconds, f.RecordsPerSecond, f.MBPerSecond)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	if r.AckLatency == nil && r.EndToEndLatency == nil {
		return nil
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "latency, ms\tmean\tp50\tp90\tp99\tp99.9\tmax\tsamples\t")
	for _, l := range []struct {
		name string
		*Latency
	}{{"acknowledged", r.AckLatency}, {"end to end", r.EndToEndLatency}} {
		if l.Latency != nil {
			fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t\n",
				l.name, l.MeanMS, l.P50MS, l.P90MS, l.P99MS, l.P999MS, l.MaxMS, l.Samples)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
