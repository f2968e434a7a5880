package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// endpoints is a flag that may be given several times.
type endpoints []string

func (e *endpoints) String() string     { return strings.Join(*e, ",") }
func (e *endpoints) Set(s string) error { *e = append(*e, strings.TrimSuffix(s, "/")); return nil }

// tracker asks for the lag of one group on the topic of the same name.
type tracker struct {
	admin *kadm.Client
	https endpoints
	name  string
}

// expect waits until all three places tell the lag: metrics follow a high watermark within a second.
func (t *tracker) expect(ctx context.Context, what string, want int64) error {
	asked := time.Now()
	for {
		api, err := t.fromAdmin(ctx)
		if err != nil {
			return fmt.Errorf("lag by the admin API: %w", err)
		}
		asJSON, err := t.fromEach(ctx, t.fromJSON)
		if err != nil {
			return fmt.Errorf("lag as JSON: %w", err)
		}
		gauges, err := t.fromEach(ctx, t.fromMetrics)
		if err != nil {
			return fmt.Errorf("lag in metrics: %w", err)
		}
		if api == want && asJSON == want && gauges == want {
			fmt.Printf("%-52s %10d %10d %10d\n", what, api, asJSON, gauges)
			return nil
		}
		if time.Since(asked) > 5*time.Second {
			return fmt.Errorf("%s: the lag should be %d; the admin API tells %d, JSON %d, metrics %d (-1: nobody tells)", what, want, api, asJSON, gauges)
		}
		time.Sleep(100 * time.Millisecond) // metrics have no event to wait for
	}
}

func (t *tracker) fromAdmin(ctx context.Context) (int64, error) {
	lags, err := t.admin.Lag(ctx, t.name)
	if err != nil {
		return 0, err
	}
	l := lags[t.name]
	return l.Lag.Total(), l.Error()
}

// fromEach asks one broker after the other: the coordinator of the group tells, the others do not know it.
func (t *tracker) fromEach(ctx context.Context, ask func(context.Context, string) (int64, error)) (int64, error) {
	total := int64(-1)
	for _, base := range t.https {
		n, err := ask(ctx, base)
		if err != nil {
			return 0, err
		}
		total = max(total, n)
	}
	return total, nil
}

func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}

func (t *tracker) fromJSON(ctx context.Context, base string) (int64, error) {
	resp, err := get(ctx, base+"/v1/groups/"+t.name+"/lag")
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusNotFound {
		return -1, nil
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", base, resp.Status)
	}
	var answer struct {
		TotalLag int64 `json:"total_lag"`
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.TotalLag, err
}

func (t *tracker) fromMetrics(ctx context.Context, base string) (int64, error) {
	resp, err := get(ctx, base+"/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	total := int64(-1)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, "streamhouse_consumer_lag_records{") || !strings.Contains(line, `group_id="`+t.name+`"`) {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", line, err)
		}
		total = max(total, 0) + int64(v)
	}
	return total, nil
}
