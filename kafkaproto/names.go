package kafkaproto

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// RequestName is Kafka's name of an API, for logs and metrics. Every key nobody
// knows is "Unknown": what clients send must not make metric labels.
func RequestName(key int16) string {
	if key >= 0 && key <= kmsg.MaxKey {
		if name := kmsg.NameForKey(key); name != "" {
			return name
		}
	}
	return "Unknown"
}

// ErrorName is Kafka's name of an error code, such as NOT_LEADER_OR_FOLLOWER,
// for logs and metrics. 0 is NONE.
func ErrorName(code int16) string {
	switch code {
	case 0:
		return "NONE"
	// Renamed in Kafka after the list below was begun.
	case 6:
		return "NOT_LEADER_OR_FOLLOWER"
	}
	e := kerr.TypedErrorForCode(code)
	if e == nil || e.Code != code {
		return "ERROR_" + strconv.Itoa(int(code))
	}
	return e.Message
}
