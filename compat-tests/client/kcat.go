package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// Kcat is kcat, that is librdkafka as Debian ships it.
type Kcat struct{}

// Name implements Producer and Reader.
func (Kcat) Name() string { return "kcat" }

// Partitions implements Producer.
func (Kcat) Partitions() int32 { return 0 }

// kcatRuns is in how many parts a job is cut, because kcat fixes headers, and
// whether empty means null, for a whole run.
const kcatRuns = 4

func kcatVariant(job Job, i int) record.Variant {
	run := i * kcatRuns / job.Count
	v := record.Variant{Text: true, Nulls: record.NullsOnly, FixedHeaders: true, HeadersOf: uint32(run)*7 + 2}
	if run%2 == 1 {
		v.Nulls = record.EmptyOnly
	}
	return v
}

// Produce implements Producer: one run of kcat per part of the job and
// partition, lines on its standard input.
func (Kcat) Produce(ctx context.Context, job Job) (Expected, error) {
	g := record.New(job.Seed)
	for first := 0; first < job.Count; {
		v := kcatVariant(job, first)
		end := first + 1
		for end < job.Count && kcatVariant(job, end) == v {
			end++
		}
		for p := range int(job.Partitions) {
			if err := kcatRun(ctx, job, g, v, p, first, end); err != nil {
				return Expected{}, err
			}
		}
		first = end
	}
	return expected(job, false, func(i int) record.Variant { return kcatVariant(job, i) }), nil
}

func kcatRun(ctx context.Context, job Job, g *record.Generator, v record.Variant, partition, first, end int) error {
	args := []string{
		"-P", "-b", job.Bootstrap, "-t", job.Topic, "-p", strconv.Itoa(partition), "-K", `\t`,
		"-X", "compression.codec=" + job.Codec, "-X", "enable.idempotence=true",
	}
	if v.Nulls == record.NullsOnly {
		args = append(args, "-Z")
	}
	for _, h := range g.Record(v.HeadersOf, v).Headers {
		if h.Value == nil {
			args = append(args, "-H", h.Key)
		} else {
			args = append(args, "-H", h.Key+"="+string(h.Value))
		}
	}
	in := feed(func(b *bytes.Buffer, i int) {
		if i += first; i%int(job.Partitions) != partition {
			return
		}
		r := g.Record(uint32(i), v)
		// No separator means no key. Where null cannot be told from empty anyway
		// (-Z), the separator stays, because kcat skips lines that are empty.
		if r.Key != nil || v.Nulls == record.NullsOnly {
			b.Write(r.Key)
			b.WriteByte('\t')
		}
		b.Write(r.Value)
		b.WriteByte('\n')
	}, end-first)
	defer in.Close()
	_, err := Run(ctx, in, "kcat", args...)
	return err
}

// Read implements Reader. Lengths come before bytes, so that any byte may be in
// keys and values; header values hold no comma, equals sign, line feed or NUL.
func (Kcat) Read(ctx context.Context, bootstrap, topic string, ranges map[int32]Range) (record.Digests, error) {
	sums := map[int32]*record.Summer{}
	for p, rng := range ranges {
		s := record.NewSummer()
		sums[p] = s
		if rng.End <= rng.Start {
			continue
		}
		err := stream(ctx, nil, func(r io.Reader) error { return parseKcat(r, s) }, "kcat",
			"-C", "-q", "-b", bootstrap, "-t", topic, "-p", strconv.Itoa(int(p)),
			"-o", strconv.FormatInt(rng.Start, 10), "-c", strconv.FormatInt(rng.End-rng.Start, 10), "-e",
			"-X", "check.crcs=true", "-X", "topic.auto.offset.reset=error",
			"-f", `%o %T %K %S %k%s%h\n`)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
	}
	return digests(sums), nil
}

func parseKcat(in io.Reader, s *record.Summer) error {
	r := bufio.NewReaderSize(in, 1<<20)
	for {
		var n [4]int64 // offset, timestamp, key length, value length
		for i := range n {
			word, err := r.ReadString(' ')
			if errors.Is(err, io.EOF) && i == 0 && word == "" {
				return nil
			}
			if err != nil {
				return fmt.Errorf("record after %d: %w", s.Next()-1, err)
			}
			if n[i], err = strconv.ParseInt(word[:len(word)-1], 10, 64); err != nil {
				return fmt.Errorf("record after %d: %w", s.Next()-1, err)
			}
		}
		rec := record.Record{Timestamp: n[1]}
		var err error
		if rec.Key, err = readBytes(r, n[2]); err != nil {
			return err
		}
		if rec.Value, err = readBytes(r, n[3]); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("headers of %d: %w", n[0], err)
		}
		if line = line[:len(line)-1]; line != "" {
			for h := range strings.SplitSeq(line, ",") {
				name, value, ok := strings.Cut(h, "=")
				if !ok {
					return fmt.Errorf("record %d has a header without value: %q", n[0], h)
				}
				header := record.Header{Key: name, Value: []byte(value)}
				if value == "NULL" {
					header.Value = nil
				}
				rec.Headers = append(rec.Headers, header)
			}
		}
		s.Add(n[0], &rec)
	}
}

// readBytes reads n bytes; -1 is null. The limit is far above any record of the
// generator: a larger length means that the output was misread.
func readBytes(r io.Reader, n int64) ([]byte, error) {
	const limit = 64 << 20
	if n < 0 {
		return nil, nil
	}
	if n > limit {
		return nil, errors.New("length out of range: " + strconv.FormatInt(n, 10))
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
