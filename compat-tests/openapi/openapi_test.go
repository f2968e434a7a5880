package openapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/compat-tests/chaos/stack"
	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

const (
	groupsPath = "/v1/groups"
	lagPath    = "/v1/groups/{group}/lag"
)

// document is the OpenAPI file, and what of it was asked.
type document struct {
	*openapi3.T
	t     *testing.T
	asked map[string]bool // "path status", "path ?parameter"
}

func load(t *testing.T) *document {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join(client.Root(), "..", "docs", "openapi.yaml"))
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	return &document{T: doc, t: t, asked: map[string]bool{}}
}

// ask sends a request to a path of the document, and checks the answer. What the document refuses to be asked must be refused
// by the broker, and nothing else with 400.
func (d *document) ask(addr, path, group string, query url.Values) (int, []byte) {
	d.t.Helper()
	item := d.Paths.Find(path)
	require.NotNil(d.t, item, path)
	at := url.URL{Scheme: "http", Host: addr, RawQuery: query.Encode()}
	at.Path = strings.ReplaceAll(path, "{group}", group)
	at.RawPath = strings.ReplaceAll(path, "{group}", url.PathEscape(group))
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, at.String(), http.NoBody)
	require.NoError(d.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(d.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(d.t, err)

	in := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: map[string]string{"group": group}, QueryParams: query,
		Route: &routers.Route{Spec: d.T, Path: path, PathItem: item, Method: http.MethodGet, Operation: item.Get},
	}
	refused := openapi3filter.ValidateRequest(d.t.Context(), in)
	require.Equal(d.t, refused != nil, resp.StatusCode == http.StatusBadRequest, "%s: the broker says %d %s, the document %v", at.String(), resp.StatusCode, body, refused)
	require.NoError(d.t, openapi3filter.ValidateResponse(d.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}), "%s: %s", at.String(), body)
	d.asked[fmt.Sprintf("%s %d", path, resp.StatusCode)] = true
	for name := range query {
		d.asked[path+" ?"+name] = true
	}
	return resp.StatusCode, body
}

// get is ask of something that is there.
func (d *document) get(addr, path, group string, query url.Values, into any) {
	d.t.Helper()
	status, body := d.ask(addr, path, group, query)
	require.Equal(d.t, http.StatusOK, status, "%s", body)
	require.NoError(d.t, json.Unmarshal(body, into))
}

// complete fails for what is in the document and was not asked.
func (d *document) complete() {
	d.t.Helper()
	for path, item := range d.Paths.Map() {
		require.Equal(d.t, map[string]*openapi3.Operation{http.MethodGet: item.Get}, item.Operations(), path)
		for status := range item.Get.Responses.Map() {
			require.True(d.t, d.asked[path+" "+status], "%s is documented to answer %s, and never did here", path, status)
		}
		for _, p := range item.Get.Parameters {
			require.True(d.t, p.Value.In == openapi3.ParameterInPath || d.asked[path+" ?"+p.Value.Name], "%s was not asked with %s", path, p.Value.Name)
		}
	}
}

// state is what /v1/groups says of a group.
type state struct {
	Group, Kind, State string
	Members            int
}

type listing struct{ Groups []state }

type lag struct {
	State      string
	TotalLag   int64 `json:"total_lag"`
	Partitions []struct {
		Topic           string
		Partition       int32
		CommittedOffset *int64 `json:"committed_offset"`
		Lag, Position   *int64
		Member          string
	}
}

// member joins a group and reads until it has seen n records.
func member(t *testing.T, b *target.Broker, group, topic string, n int, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl := b.Client(t, append(opts, kgo.ClientID(group), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for got := 0; got < n; {
		fs := cl.PollFetches(ctx)
		require.NoError(t, fs.Err())
		got += fs.NumRecords()
	}
	require.NoError(t, cl.CommitUncommittedOffsets(ctx))
	return cl
}

// joining sends a JoinGroup and does not go on with it.
func joining(t *testing.T, cl *kgo.Client, group string) {
	t.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = group, "consumer", 60_000, 60_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	req.Protocols = append(req.Protocols, p)
	ctx := t.Context()
	resp, err := req.RequestWith(ctx, cl)
	require.NoError(t, err)
	req.MemberID = resp.MemberID // MEMBER_ID_REQUIRED
	go func() { _, _ = req.RequestWith(ctx, cl) }()
}

// scrape asks for the metrics, and does not read them.
func scrape(t *testing.T, addr string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}

func TestAnswersAreWhatTheDocumentSays(t *testing.T) {
	d := load(t)
	b := target.Start(t, "--group-initial-rebalance-delay", "0s")
	cl := b.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	adm := kadm.NewClient(cl)
	orders, other := b.Topic(t, "orders", 3, nil), b.Topic(t, "other", 1, nil)
	for i := range 30 {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: orders, Partition: int32(i % 3), Value: []byte("v")}).FirstErr())
	}
	http := b.HTTP()
	d.ask(http, "/health", "", nil)
	d.ask(http, "/ready", "", nil)
	var none listing
	d.get(http, groupsPath, "", nil, &none)
	require.Empty(t, none.Groups)

	next := context.WithValue(t.Context(), "opt_in_kafka_next_gen_balancer_beta", true) //nolint:revive,staticcheck // franz-go's own key
	member(t, b, "classic", orders, 30)
	member(t, b, "modern", orders, 30, kgo.WithContext(next))
	member(t, b, "left", orders, 30).Close()
	var offsets kadm.Offsets
	offsets.AddOffset(orders, 1, 4, -1)
	require.NoError(t, adm.CommitAllOffsets(t.Context(), "only/offsets öäü", offsets))
	joining(t, cl, "joining")

	want := []state{
		{"classic", "classic", "Stable", 1},
		{"joining", "classic", "CompletingRebalance", 1},
		{"left", "classic", "Empty", 0},
		{"modern", "consumer", "Stable", 1},
		{"only/offsets öäü", "classic", "Empty", 0},
	}
	var all listing
	require.Eventually(t, func() bool {
		all = listing{}
		d.get(http, groupsPath, "", nil, &all)
		return slices.Equal(want, all.Groups)
	}, 30*time.Second, 100*time.Millisecond, "want %v", want)
	var some listing
	d.get(http, groupsPath, "", url.Values{"limit": {"2"}}, &some)
	require.Equal(t, want[:2], some.Groups)
	d.get(http, groupsPath, "", url.Values{"after": {some.Groups[1].Group}, "limit": {"2"}}, &some)
	require.Equal(t, want[2:4], some.Groups)
	d.get(http, groupsPath, "", url.Values{"after": {"z"}}, &some)
	require.Empty(t, some.Groups)
	for _, limit := range []string{"0", "-1", "10001", "many", "1.5"} {
		d.ask(http, groupsPath, "", url.Values{"limit": {limit}})
	}

	scrape(t, http) // who reads for which group is looked at soon after members come and go, and then
	of := func(group string, query url.Values) (l lag) {
		t.Helper()
		d.get(http, lagPath, group, query, &l)
		return l
	}
	for _, group := range []string{"classic", "modern", "left", "joining"} {
		l := of(group, nil)
		require.Zero(t, l.TotalLag)
		if group != "joining" {
			require.Len(t, l.Partitions, 3, group)
		}
		for _, p := range l.Partitions {
			require.Equal(t, group != "left", p.Member != "")
			require.Equal(t, group != "left", p.Position != nil, group)
		}
	}
	l := of("only/offsets öäü", nil)
	require.Len(t, l.Partitions, 1)
	require.EqualValues(t, 6, *l.Partitions[0].Lag)
	require.Nil(t, l.Partitions[0].Position, "nobody reads for it")
	require.EqualValues(t, 6, l.TotalLag)
	require.Len(t, of("classic", url.Values{"topic": {orders}}).Partitions, 3)
	require.Len(t, of("classic", url.Values{"topic": {other, orders}}).Partitions, 3)
	require.Empty(t, of("classic", url.Values{"topic": {other}}).Partitions)
	require.Len(t, of("classic", url.Values{"topic": {orders}, "partition": {"0,2"}}).Partitions, 2)
	require.Len(t, of("classic", url.Values{"partition": {"1"}}).Partitions, 1)
	for _, partition := range []string{"x", "-1", "1,", "1,x"} {
		d.ask(http, lagPath, "classic", url.Values{"partition": {partition}})
	}
	status, _ := d.ask(http, lagPath, "nobody", nil)
	require.Equal(t, 404, status)

	d.unavailable()
	d.complete()
}

// unavailable asks a broker whose catalog is away.
func (d *document) unavailable() {
	d.t.Helper()
	s := stack.Start(d.t, stack.Options{Brokers: 1})
	require.NoError(d.t, s.Postgres.Stop())
	defer func() {
		require.NoError(d.t, s.Postgres.Up(context.WithoutCancel(d.t.Context())))
		require.NoError(d.t, s.Brokers[0].AwaitReady(context.WithoutCancel(d.t.Context()), time.Minute))
	}()
	for _, path := range []string{"/ready", groupsPath, lagPath} {
		require.Eventually(d.t, func() bool { // while it still trusts its leases, it knows that a group is not there
			status, _ := d.ask(s.Brokers[0].HTTP, path, "g", nil)
			return status == http.StatusServiceUnavailable
		}, time.Minute, 100*time.Millisecond, path)
	}
}

// TestRoutesAreDocumented compares the routes that the server has with the document.
func TestRoutesAreDocumented(t *testing.T) {
	d := load(t)
	var routes []string
	for _, file := range []string{"server.go", "v1.go"} {
		source, err := os.ReadFile(filepath.Join(client.Root(), "..", "metrics", file))
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`mux\.Handle(?:Func)?\("(?:GET )?([^"]*)"`).FindAllStringSubmatch(string(source), -1) {
			switch {
			case m[1] == "/{$}", m[1] == "/metrics", strings.HasPrefix(m[1], "/debug/pprof/"): // for people, Prometheus, and who debugs
			case m[1] == "/v1/": // says what there is
			default:
				routes = append(routes, m[1])
			}
		}
	}
	require.Len(t, routes, 4)
	var documented []string
	for path := range d.Paths.Map() {
		documented = append(documented, path)
	}
	require.ElementsMatch(t, routes, documented)
}
