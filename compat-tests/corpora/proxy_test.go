package corpora_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// maxKept is the longest frame kept, in bytes with its length.
	maxKept = 16 << 10
	// maxForwarded bounds what is believed of a length.
	maxForwarded = 64 << 20
)

// kind is what one frame is kept of: a file of the corpus.
type kind struct {
	client       string
	key, version int16
	codec        string // of a Produce
}

func (k kind) file() string {
	name := fmt.Sprintf("%02d-%s-v%d", k.key, kmsg.NameForKey(k.key), k.version)
	if k.codec != "" {
		name += "-" + k.codec
	}
	return filepath.Join(k.client, name+".bin")
}

// recorder is the proxy. Clients run one after another, so that a connection
// belongs to the one that runs when it is accepted.
type recorder struct {
	addr     string // where it listens
	upstream string // the broker
	mu       struct {
		sync.Mutex
		client  string
		frames  map[kind][]byte
		batches map[string][]byte // record batches by client and codec
		conns   []net.Conn
	}
}

// listen opens the proxy on a free port; the broker is told of it before it is
// started, and set in upstream before a client is.
func listen(t *testing.T) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &recorder{addr: l.Addr().String()}
	r.mu.frames, r.mu.batches = map[kind][]byte{}, map[string][]byte{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			client := r.mu.client
			r.mu.conns = append(r.mu.conns, c)
			r.mu.Unlock()
			serving.Go(func() { r.serve(c, client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, c := range r.mu.conns {
			c.Close()
		}
		r.mu.Unlock()
		serving.Wait()
	})
	return r
}

// serve copies requests frame by frame and answers as they come, until either
// side closes.
func (r *recorder) serve(down net.Conn, client string) {
	defer down.Close()
	up, err := net.Dial("tcp", r.upstream)
	if err != nil {
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(down, up) // either end may close first
		down.Close()
	})
	_ = r.requests(bufio.NewReader(down), up, client)
	up.Close()
	answers.Wait()
}

func (r *recorder) requests(down io.Reader, up io.Writer, client string) error {
	for {
		frame := make([]byte, 4, 512)
		if _, err := io.ReadFull(down, frame); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(frame))
		if n > maxForwarded {
			return errors.New("no frame of this protocol")
		}
		frame = slices.Grow(frame, n)[:4+n]
		if _, err := io.ReadFull(down, frame[4:]); err != nil {
			return err
		}
		r.keep(client, frame)
		if _, err := up.Write(frame); err != nil {
			return err
		}
	}
}

// keep keeps a frame if it is the longest of its kind.
func (r *recorder) keep(client string, frame []byte) {
	if client == nobody || len(frame) > maxKept || len(frame) < 12 {
		return
	}
	k := kind{client: client, key: int16(binary.BigEndian.Uint16(frame[4:])), version: int16(binary.BigEndian.Uint16(frame[6:]))}
	var batch []byte
	if k.key == kmsg.Produce.Int16() {
		k.codec, batch = records(frame)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.frames[k]) < len(frame) {
		r.mu.frames[k] = frame
	}
	if name := client + "-" + k.codec; len(r.mu.batches[name]) < len(batch) {
		r.mu.batches[name] = batch
	}
}

// records returns the codec, and whether the batch is transactional, as one
// word, and the longest run of batches of a Produce; "unread" if it cannot be
// read.
func records(frame []byte) (codec string, batch []byte) {
	req := kmsg.NewPtrProduceRequest()
	req.Version = int16(binary.BigEndian.Uint16(frame[6:]))
	b := kbin.Reader{Src: frame[12:]}
	b.NullableString() // the client's id
	if req.IsFlexible() {
		kmsg.SkipTags(&b)
	}
	if b.Complete() != nil || req.ReadFrom(b.Src) != nil {
		return "unread", nil
	}
	for _, topic := range req.Topics {
		for _, p := range topic.Partitions {
			if len(p.Records) > len(batch) {
				batch = p.Records
			}
		}
	}
	const atMagic, atAttributes = 16, 21
	if len(batch) < atAttributes+2 || batch[atMagic] != 2 {
		return "old", nil
	}
	codec = "unknown"
	attributes := binary.BigEndian.Uint16(batch[atAttributes:])
	if names := []string{"none", "gzip", "snappy", "lz4", "zstd"}; int(attributes&7) < len(names) {
		codec = names[attributes&7]
	}
	if attributes&0x10 != 0 {
		codec += "-transactional"
	}
	return codec, slices.Clone(batch)
}

// nobody is who runs when frames are not to be kept.
const nobody = ""

// as says who runs now.
func (r *recorder) as(client string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.client = client
}

// write writes the corpus below root, the repository. Files of clients already
// there are replaced only if replace is set.
func (r *recorder) write(t *testing.T, root string, replace bool) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	put := func(path string, b []byte) {
		if _, err := os.Stat(path); err == nil && !replace || len(b) == 0 {
			return
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, b, 0o644))
	}
	for _, k := range slices.SortedFunc(maps.Keys(r.mu.frames), func(a, b kind) int { return strings.Compare(a.file(), b.file()) }) {
		put(filepath.Join(root, "kafkaproto", "testdata", "frames", k.file()), r.mu.frames[k])
		t.Logf("%5d bytes %s", len(r.mu.frames[k]), k.file())
	}
	for name, b := range r.mu.batches {
		put(filepath.Join(root, "kafkaproto", "recordbatch", "testdata", "batches", name+".bin"), b)
	}
}
