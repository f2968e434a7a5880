package members

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Link is how a member reaches the coordinator of its group, as clients do: it asks one broker after the other who that is, and
// keeps to it until it is unreachable or says that it is not. Each call is one request, tried once. Safe for concurrent use.
type Link struct {
	group   string
	seeds   []string
	timeout time.Duration
	history *History

	mu          sync.Mutex
	clients     map[string]*kgo.Client // by address
	coordinator string                 // its address; empty: not known
	next        int                    // seed to ask next
}

// NewLink returns a link of a group. An answer that takes longer than timeout, beyond what a request itself allows for, counts
// as lost.
func NewLink(h *History, seeds []string, timeout time.Duration) *Link {
	return &Link{group: h.Group, seeds: seeds, timeout: timeout, history: h, clients: map[string]*kgo.Client{}}
}

// errNoCoordinator: nobody knows the coordinator now.
var errNoCoordinator = errors.New("nobody knows the coordinator")

// findPatience is how long one broker may take to say who the coordinator is.
const findPatience = 2 * time.Second

// versions are the last that name topics by name, and one group or key.
func versions() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9)
	v.SetMaxKeyVersion(kmsg.OffsetFetch.Int16(), 7)
	v.SetMaxKeyVersion(kmsg.FindCoordinator.Int16(), 3)
	return v
}

// Close hangs up.
func (l *Link) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for addr, cl := range l.clients {
		cl.Close()
		delete(l.clients, addr)
	}
}

func (l *Link) client(addr string) (*kgo.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cl := l.clients[addr]; cl != nil {
		return cl, nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MaxVersions(versions()), kgo.DialTimeout(min(l.timeout, 2*time.Second)),
		kgo.RequestTimeoutOverhead(l.timeout), kgo.ClientID("chaos"))
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", addr, err)
	}
	l.clients[addr] = cl
	return cl, nil
}

// hangUp ends the connections to a broker, so that nothing waits behind a request that was given up.
func (l *Link) hangUp(addr string) {
	l.mu.Lock()
	cl := l.clients[addr]
	delete(l.clients, addr)
	l.mu.Unlock()
	if cl != nil {
		cl.Close()
	}
}

func (l *Link) ask(ctx context.Context, addr string, req kmsg.Request) (kmsg.Response, error) {
	cl, err := l.client(addr)
	if err != nil {
		return nil, err
	}
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		l.hangUp(addr)
	}
	return resp, err
}

// Coordinator is the address of the coordinator; it asks who that is if it does not know.
func (l *Link) Coordinator(ctx context.Context) (string, error) {
	l.mu.Lock()
	at, seed := l.coordinator, l.seeds[l.next%len(l.seeds)]
	l.mu.Unlock()
	if at != "" {
		return at, nil
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey = l.group
	asking, cancel := context.WithTimeout(ctx, findPatience)
	defer cancel()
	answer, err := l.ask(asking, seed, req)
	resp, ok := answer.(*kmsg.FindCoordinatorResponse)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || !ok {
		l.next++
		return "", fmt.Errorf("%w: %w", errNoCoordinator, err)
	}
	l.history.code("link", kmsg.FindCoordinator, resp.ErrorCode)
	if resp.ErrorCode != 0 {
		l.next++
		return "", fmt.Errorf("%w: %w", errNoCoordinator, kerr.ErrorForCode(resp.ErrorCode))
	}
	l.coordinator = net.JoinHostPort(resp.Host, strconv.Itoa(int(resp.Port)))
	return l.coordinator, nil
}

// lost forgets that the coordinator is at an address. Another broker is asked next.
func (l *Link) lost(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.coordinator == addr {
		l.coordinator = ""
		l.next++
	}
}

// do sends one request to the coordinator. With an error it is not known whether it was done.
func (l *Link) do(ctx context.Context, req kmsg.Request) (resp kmsg.Response, from string, err error) {
	from, err = l.Coordinator(ctx)
	if err != nil {
		return nil, "", err
	}
	resp, err = l.ask(ctx, from, req)
	if err != nil {
		l.lost(from)
	}
	return resp, from, err
}

// heed forgets the coordinator if a code says that it is none.
func (l *Link) heed(from string, code int16) {
	switch code {
	case kerr.NotCoordinator.Code, kerr.CoordinatorNotAvailable.Code:
		l.lost(from)
	}
}

// ReadCommitted asks for the committed offsets of a topic once, and has the history judge them.
func (l *Link) ReadCommitted(ctx context.Context, watcher, topic string, partitions int32) error {
	acked := l.history.acknowledged()
	offsets, err := l.Committed(ctx, watcher, topic, partitions)
	if err == nil {
		l.history.read(watcher, acked, offsets)
	}
	return err
}

// Committed asks for the committed offsets of a topic once; -1: none.
func (l *Link) Committed(ctx context.Context, watcher, topic string, partitions int32) (map[int32]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = l.group
	t := kmsg.NewOffsetFetchRequestTopic()
	t.Topic = topic
	for p := range partitions {
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	answer, from, err := l.do(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := answer.(*kmsg.OffsetFetchResponse)
	if !ok || len(resp.Topics) != 1 && resp.ErrorCode == 0 {
		return nil, fmt.Errorf("not an answer of OffsetFetch: %+v", answer)
	}
	codes := []int16{resp.ErrorCode}
	out := map[int32]int64{}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			codes = append(codes, p.ErrorCode)
			out[p.Partition] = p.Offset
		}
	}
	for _, code := range codes {
		if code != 0 {
			l.history.code(watcher, kmsg.OffsetFetch, code)
			l.heed(from, code)
			return nil, kerr.ErrorForCode(code)
		}
	}
	return out, nil
}
