package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// GroupSummary is one group in the answer of GET /v1/groups.
type GroupSummary struct {
	Group string `json:"group"`
	// Kind is classic or consumer (KIP-848).
	Kind  string `json:"kind"`
	State string `json:"state"`
	// Members is how many the group has.
	Members int `json:"members"`
	// Coordinator is the broker id of the group's coordinator; -1 while there is none.
	Coordinator int32 `json:"coordinator"`
}

// GroupLag is the answer of GET /v1/groups/{group}/lag.
type GroupLag struct {
	Group string `json:"group"`
	State string `json:"state"`
	// TotalLag sums the lags that are known.
	TotalLag   int64          `json:"total_lag"`
	Partitions []PartitionLag `json:"partitions"`
}

// PartitionLag is where a group is in one partition. Null fields are not known: nothing is committed, the topic is gone, or
// nobody could tell just then.
type PartitionLag struct {
	Topic           string   `json:"topic"`
	Partition       int32    `json:"partition"`
	CommittedOffset *int64   `json:"committed_offset"`
	HighWatermark   *int64   `json:"high_watermark"`
	Lag             *int64   `json:"lag"`
	LagSeconds      *float64 `json:"lag_seconds"`
	// Member is the member id that owns the partition, or empty.
	Member string `json:"member"`
	// Position is the highest offset fetched by the group, where this broker knows it.
	Position *int64 `json:"position,omitempty"`
}

// ErrNoGroup is the error of a group that does not exist, and ErrNoName of a name that no group can have.
var (
	ErrNoGroup = errors.New("there is no such group")
	ErrNoName  = errors.New("no group can have this id")
)

// Groups is what /v1/groups asks. Both methods are called concurrently and answer for all groups of the cluster.
type Groups interface {
	// Groups lists groups with id > after, by id, at most limit. ErrNoName.
	Groups(ctx context.Context, after string, limit int) ([]GroupSummary, error)
	// GroupLag tells the lag of one group in the partitions that keep chooses. ErrNoGroup.
	GroupLag(ctx context.Context, group string, keep func(topic string, partition int32) bool) (GroupLag, error)
}

// Bounds of listing groups.
const (
	defaultGroups = 1000
	maxGroups     = 10_000
)

// apiError is the body of answers that are not 200.
type apiError struct {
	Error string `json:"error"`
}

func (s *Server) handleGroups(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/groups", func(w http.ResponseWriter, r *http.Request) {
		limit := defaultGroups
		if text := r.URL.Query().Get("limit"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > maxGroups {
				writeJSON(w, http.StatusBadRequest, apiError{fmt.Sprintf("limit %q: want a number from 1 to %d", text, maxGroups)})
				return
			}
			limit = n
		}
		after := r.URL.Query().Get("after")
		groups, err := s.opts.Groups.Groups(r.Context(), after, limit)
		switch {
		case errors.Is(err, ErrNoName):
			writeJSON(w, http.StatusBadRequest, apiError{fmt.Sprintf("after %q: %v", after, ErrNoName)})
			return
		case err != nil:
			s.failed(w, "list groups", err)
			return
		}
		if groups == nil {
			groups = []GroupSummary{}
		}
		writeJSON(w, http.StatusOK, map[string]any{"groups": groups})
	})
	mux.HandleFunc("GET /v1/groups/{group}/lag", func(w http.ResponseWriter, r *http.Request) {
		keep, err := chosen(r)
		if err != nil {
			writeJSON(w, http.StatusBadRequest, apiError{err.Error()})
			return
		}
		group := r.PathValue("group")
		lag, err := s.opts.Groups.GroupLag(r.Context(), group, keep)
		switch {
		case errors.Is(err, ErrNoGroup):
			writeJSON(w, http.StatusNotFound, apiError{fmt.Sprintf("there is no group %q", group)})
		case err != nil:
			s.failed(w, "lag of group "+strconv.Quote(group), err)
		default:
			if lag.Partitions == nil {
				lag.Partitions = []PartitionLag{}
			}
			writeJSON(w, http.StatusOK, lag)
		}
	})
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, apiError{"there is GET /v1/groups and GET /v1/groups/{group}/lag"})
	})
}

// chosen reads the filters of a request: topic may be repeated, partition is a list of numbers; both or either.
func chosen(r *http.Request) (func(string, int32) bool, error) {
	topics := make(map[string]bool)
	for _, t := range r.URL.Query()["topic"] {
		topics[t] = true
	}
	partitions := make(map[int32]bool)
	for _, list := range r.URL.Query()["partition"] {
		for text := range strings.SplitSeq(list, ",") {
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("partition %q: want numbers from 0, as 0 or 0,3", text)
			}
			partitions[int32(n)] = true
		}
	}
	return func(topic string, partition int32) bool {
		return (len(topics) == 0 || topics[topic]) && (len(partitions) == 0 || partitions[partition])
	}, nil
}

func (s *Server) failed(w http.ResponseWriter, what string, err error) {
	s.opts.Logger.Warn("cannot answer over HTTP", "what", what, "error", err)
	writeJSON(w, http.StatusServiceUnavailable, apiError{what + ": " + err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // a client that went away is not our failure
}
