package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// Codecs are the compression types of Kafka, by the names all clients use.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Job is what a producer shall send: Count records of Seed to Topic, which
// exists and has Partitions partitions; record i goes to partition
// i % Partitions where the client can choose.
type Job struct {
	Bootstrap  string
	Topic      string
	Partitions int32
	Seed       uint32
	Count      int
	Codec      string
}

// Expected is what a topic must hold after a Job. Digests is nil when the
// client made up its payload; Total is always set. Timestamps says whether the
// digests cover them. Blurred are the digests for readers that take empty for
// null.
type Expected struct {
	Digests    record.Digests
	Blurred    record.Digests
	Timestamps bool
	Total      int64
}

// Producer sends a Job and returns once all of it is acknowledged.
type Producer interface {
	Name() string
	// Partitions is how many partitions a topic for this producer may have at
	// most, when it cannot choose them; 0 means any number.
	Partitions() int32
	Produce(ctx context.Context, job Job) (Expected, error)
}

// Range is a range of offsets of one partition, End excluded.
type Range struct{ Start, End int64 }

// Reader reads ranges of partitions and digests them. It fails when records
// fail to come, after half a minute without any.
type Reader interface {
	Name() string
	Read(ctx context.Context, bootstrap, topic string, ranges map[int32]Range) (record.Digests, error)
}

// Blurs says that a reader shows empty keys, values and header values as null.
func Blurs(r Reader) bool { return r.Name() == KafkaGo{}.Name() }

// Producers are all producers, in the order tables show them.
func Producers() []Producer {
	return []Producer{
		Kcat{},
		Franz{},
		Sarama{},
		KafkaGo{},
		JavaConsole{},
		JavaPerf{},
		Python{Client: "confluent-kafka"},
		Python{Client: "kafka-python"},
		KafkaJS{},
	}
}

// Readers are all readers.
func Readers() []Reader {
	return []Reader{
		Kcat{},
		Franz{},
		Sarama{},
		KafkaGo{},
		JavaConsole{},
		Python{Client: "confluent-kafka"},
		Python{Client: "kafka-python"},
	}
}

// expected computes what job leaves behind when every record is sent as
// variant(i) says.
func expected(job Job, timestamps bool, variant func(i int) record.Variant) Expected {
	g := record.New(job.Seed)
	sums, blurred := make(map[int32]*record.Summer, job.Partitions), make(map[int32]*record.Summer, job.Partitions)
	for p := range job.Partitions {
		sums[p], blurred[p] = record.NewSummer(), record.NewSummer()
	}
	for i := range job.Count {
		s, b := sums[int32(i)%job.Partitions], blurred[int32(i)%job.Partitions]
		r := g.Record(uint32(i), variant(i))
		s.Add(s.Next(), &r)
		r = r.EmptyAsNull()
		b.Add(b.Next(), &r)
	}
	out := Expected{Digests: digests(sums), Blurred: digests(blurred), Timestamps: timestamps, Total: int64(job.Count)}
	if !timestamps {
		out.Digests, out.Blurred = out.Digests.WithoutTimestamps(), out.Blurred.WithoutTimestamps()
	}
	return out
}

func digests(sums map[int32]*record.Summer) record.Digests {
	out := make(record.Digests, len(sums))
	for p, s := range sums {
		out[p] = s.Digest()
	}
	return out
}

// Root is the folder of this module, wherever a test of it runs.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "clients", "python", "gen.py")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}

// Installed is where scripts/clients put the clients.
func Installed() string { return filepath.Join(Root(), ".clients") }

// Run runs one program to its end and returns its standard output. An error
// carries the end of its standard error.
func Run(ctx context.Context, stdin io.Reader, name string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := stream(ctx, stdin, func(r io.Reader) error {
		_, err := out.ReadFrom(r)
		return err
	}, name, args...)
	return out.Bytes(), err
}

// stream runs one program and hands its standard output to read as it comes.
func stream(ctx context.Context, stdin io.Reader, read func(io.Reader) error, name string, args ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = stdin
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "NODE_PATH="+filepath.Join(Installed(), "node", "node_modules"))
	var errs tail
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open the output of %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s (is it installed? make clients): %w", name, err)
	}
	readErr := read(out)
	if readErr != nil {
		cancel() // it may be waiting for somebody to read
	}
	err = cmd.Wait()
	switch {
	case readErr != nil:
		return fmt.Errorf("read what %s wrote: %w; its errors: %s", name, readErr, errs.String())
	case err != nil:
		return fmt.Errorf("run %s: %w: %s", name, err, errs.String())
	}
	return nil
}

// tail keeps the last 4 KiB written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 4 << 10
	t.b = append(t.b, p...)
	if len(t.b) > keep {
		t.b = append(t.b[:0], t.b[len(t.b)-keep:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.b)) }

// script runs one of the Python or Node programs on spec and decodes its JSON
// answer into out, unless out is nil.
func script(ctx context.Context, interpreter, path string, spec map[string]any, out any) error {
	arg, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode the argument of %s: %w", path, err)
	}
	answer, err := Run(ctx, nil, interpreter, filepath.Join(Root(), "clients", path), string(arg))
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if len(bytes.TrimSpace(answer)) == 0 {
		return errors.New("no answer from " + path)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode the answer of %s: %w", path, err)
	}
	return nil
}

// feed writes records into a pipe for a program's standard input, off the
// caller's goroutine; closing the reader ends it.
func feed(write func(w *bytes.Buffer, i int), count int) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		var b bytes.Buffer
		for i := range count {
			write(&b, i)
			if b.Len() < 256<<10 {
				continue
			}
			if _, err := w.Write(b.Bytes()); err != nil {
				return
			}
			b.Reset()
		}
		_, err := w.Write(b.Bytes())
		w.CloseWithError(err)
	}()
	return r
}
