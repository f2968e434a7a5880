package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Tracer chooses requests to follow.
type Tracer interface {
	// Begin is asked once for each Produce and Fetch, when it was read; nil: it is not followed. It is called
	// concurrently and must not block.
	Begin(r TracedRequest) Trace
}

// TracedRequest is what is known of a request before it is handled.
type TracedRequest struct {
	API      string // Kafka's name
	Version  int16
	ClientID string
	Received time.Time
}

// Trace follows one request. Its methods are called by one goroutine at a time and must not block.
type Trace interface {
	// ID is what the trace is found by.
	ID() string
	// Context is ctx, under which the log is asked for this request.
	Context(ctx context.Context) context.Context
	// Phase begins a phase, and ends the one before it. Only a few names there are.
	Phase(name string)
	// End is the last call.
	End(o TraceOutcome)
}

// TraceOutcome is how a followed request ended.
type TraceOutcome struct {
	// Topics and Partitions are those in a Produce request or a Fetch answer, Bytes the record bytes in it.
	Topics, Partitions, Bytes int
	// Topic is the name, where there is just one.
	Topic string
	// Code is the first error code in the answer.
	Code int16
	// Err is why there was no answer; [ErrUnanswered] where the client left before.
	Err error
}

// ErrUnanswered says that the connection ended before the answer: a consumer's end, most often, while its Fetch waited.
var ErrUnanswered = errors.New("the connection ended before the answer")

// Phases of requests.
const (
	phaseQueue  = "wait for earlier requests"
	phaseAppend = "append"
	phaseCommit = "wait for commit"
	phaseRead   = "read"
	phaseWait   = "wait for records"
	phaseSend   = "send"
)

// following is the trace of a request and what there is to tell of it. Nil for requests that nobody follows: its methods
// then do nothing.
type following struct {
	trace   Trace
	outcome TraceOutcome
}

// follow has a request traced, if the tracer chooses it.
func (b *Broker) follow(r *request) {
	if b.cfg.Tracer == nil {
		return
	}
	switch r.body.(type) {
	case *kmsg.ProduceRequest, *kmsg.FetchRequest:
	default:
		return
	}
	t := b.cfg.Tracer.Begin(TracedRequest{API: r.api.name, Version: r.version, ClientID: r.clientID, Received: r.received})
	if t == nil {
		return
	}
	r.trace = &following{trace: t, outcome: TraceOutcome{Err: ErrUnanswered}}
	if !r.api.pipelined {
		t.Phase(phaseQueue)
	}
}

func (f *following) phase(name string) {
	if f != nil {
		f.trace.Phase(name)
	}
}

func (f *following) context(ctx context.Context) context.Context {
	if f == nil {
		return ctx
	}
	return f.trace.Context(ctx)
}

func (f *following) id() string {
	if f == nil {
		return ""
	}
	return f.trace.ID()
}

// ready notes what is in the request and its answer, which is about to be sent if there is one.
func (f *following) ready(b *Broker, r *request, resp kmsg.Response, code int16) {
	if f == nil {
		return
	}
	o := &f.outcome
	o.Code = code
	type key struct {
		name string
		id   [16]byte
	}
	seen := make(map[key]bool)
	topic := func(name string, id [16]byte) {
		if seen[key{name, id}] {
			return // an answer has a topic again where partitions of several lie between each other
		}
		seen[key{name, id}] = true
		o.Topics++
		t, _ := b.findTopic(b.topics.load(), r.version >= 13, name, id)
		o.Topic = nameOf(t, name)
	}
	if req, ok := r.body.(*kmsg.ProduceRequest); ok {
		for i := range req.Topics {
			topic(req.Topics[i].Topic, req.Topics[i].TopicID)
			o.Partitions += len(req.Topics[i].Partitions)
			for j := range req.Topics[i].Partitions {
				o.Bytes += len(req.Topics[i].Partitions[j].Records)
			}
		}
	}
	if a, ok := resp.(*fetchAnswer); ok {
		for i := range a.Topics {
			topic(a.Topics[i].Topic, a.Topics[i].TopicID)
			o.Partitions += len(a.Topics[i].Partitions)
		}
		for _, slices := range a.Records {
			for _, s := range slices {
				o.Bytes += len(s)
			}
		}
	}
	if o.Topics != 1 {
		o.Topic = ""
	}
	if resp != nil {
		f.trace.Phase(phaseSend)
	}
}

// answered notes whether the answer was sent. left: it was not, since the connection ended.
func (f *following) answered(err error, left bool) {
	switch {
	case f == nil, left: // the outcome is still that of a request that has none
	default:
		f.outcome.Err = err
	}
}

// finish ends the trace.
func (f *following) finish() {
	if f != nil {
		f.trace.End(f.outcome)
	}
}
