package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// boards are all dashboards.
func boards() []board { return []board{overview(), brokerInternals(), consumerGroups(), cost()} }

// Files returns the JSON of each dashboard under the name of its file.
func Files() (map[string][]byte, error) {
	out := make(map[string][]byte)
	for _, b := range boards() {
		d, err := build(b)
		if err != nil {
			return nil, err
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false) // thresholds in queries stay readable
		enc.SetIndent("", "  ")
		if err := enc.Encode(d); err != nil {
			return nil, fmt.Errorf("write dashboard %s: %w", b.file, err)
		}
		out[b.file+".json"] = text.Bytes()
	}
	return out, nil
}
