package group

import (
	"encoding/json"
	"fmt"
)

// stateVersion is that of the JSON in the rows of groups and members. It goes up when an older broker could not read what a newer
// one writes; fields that an older one may ignore do not change it.
const stateVersion = 1

// classicState is Group.State of a classic group.
type classicState struct {
	Version int `json:"v"`
}

// classicMemberState is GroupMember.State of a member of a classic group.
type classicMemberState struct {
	Version         int             `json:"v"`
	SessionMillis   int32           `json:"session_timeout_ms"`
	RebalanceMillis int32           `json:"rebalance_timeout_ms"`
	Protocols       []protocolState `json:"protocols"`
	Assignment      []byte          `json:"assignment,omitempty"`
}

type protocolState struct {
	Name     string `json:"name"`
	Metadata []byte `json:"metadata,omitempty"`
}

// encodeState makes the JSON of a row. What it is given always encodes: structs of numbers, strings and bytes.
func encodeState(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("group: encode state: %v", err))
	}
	return b
}

// decodeState reads the JSON of a row into a struct, and refuses versions it does not know.
func decodeState(b []byte, into any, version *int) error {
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("decode state: %w", err)
	}
	if *version < 1 || *version > stateVersion {
		return fmt.Errorf("state has version %d, this broker knows up to %d: was it written by a newer one?", *version, stateVersion)
	}
	return nil
}
