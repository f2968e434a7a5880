package metrics

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeGroups has one group.
type fakeGroups struct{ err error }

func (f fakeGroups) Groups(_ context.Context, after string, limit int) ([]GroupSummary, error) {
	if f.err != nil || after >= "reports" || limit < 1 {
		return nil, f.err
	}
	return []GroupSummary{{Group: "reports", Kind: "classic", State: "Stable", Members: 1, Coordinator: 3}}, nil
}

func (f fakeGroups) GroupLag(_ context.Context, group string, keep func(string, int32) bool) (GroupLag, error) {
	switch {
	case f.err != nil:
		return GroupLag{}, f.err
	case group != "a/b c":
		return GroupLag{}, ErrNoGroup
	}
	lag := GroupLag{Group: group, State: "Empty"}
	for p := range int32(3) {
		if keep("orders", p) {
			lag.Partitions = append(lag.Partitions, PartitionLag{Topic: "orders", Partition: p, CommittedOffset: new(int64(5)), LagSeconds: new(0.5)})
		}
	}
	return lag, nil
}

func TestGroupsOverHTTP(t *testing.T) {
	ask := func(g Groups, path string) (int, string) {
		t.Helper()
		s, err := NewServer(t.Context(), ServerOptions{Addr: "127.0.0.1:0", Metrics: New(Options{}), Groups: g})
		require.NoError(t, err)
		s.Start()
		defer func() { require.NoError(t, s.Shutdown(context.WithoutCancel(t.Context()))) }()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String()+path, http.NoBody)
		require.NoError(t, err)
		resp, err := new(http.Transport).RoundTrip(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		return resp.StatusCode, strings.TrimSpace(string(body))
	}
	for _, tt := range []struct {
		path string
		code int
		body string
	}{
		{"/v1/groups", 200, `{"groups":[{"group":"reports","kind":"classic","state":"Stable","members":1,"coordinator":3}]}`},
		{"/v1/groups?after=reports&limit=10", 200, `{"groups":[]}`},
		{"/v1/groups?limit=x", 400, `{"error":"limit \"x\": want a number from 1 to 10000"}`},
		{"/v1/groups?limit=10001", 400, `{"error":"limit \"10001\": want a number from 1 to 10000"}`},
		{"/v1/groups/a%2Fb%20c/lag?topic=orders&partition=1", 200, `{"group":"a/b c","state":"Empty","total_lag":0,"partitions":[` +
			`{"topic":"orders","partition":1,"committed_offset":5,"high_watermark":null,"lag":null,"lag_seconds":0.5,"member":""}]}`},
		{"/v1/groups/a%2Fb%20c/lag?topic=other", 200, `{"group":"a/b c","state":"Empty","total_lag":0,"partitions":[]}`},
		{"/v1/groups/a%2Fb%20c/lag?partition=1,-2", 400, `{"error":"partition \"-2\": want numbers from 0, as 0 or 0,3"}`},
		{"/v1/groups/none/lag", 404, `{"error":"there is no group \"none\""}`},
		{"/v1/nothing", 404, `{"error":"there is GET /v1/groups and GET /v1/groups/{group}/lag"}`},
	} {
		code, body := ask(fakeGroups{}, tt.path)
		require.Equal(t, tt.code, code, tt.path)
		require.Equal(t, tt.body, body, tt.path)
	}
	code, body := ask(fakeGroups{err: errors.New("the catalog is away")}, "/v1/groups/g/lag")
	require.Equal(t, 503, code)
	require.Contains(t, body, "the catalog is away")
}
