package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// scope is a choice of partitions, by topic. Topics without partitions stand for all of theirs; the empty scope for
// everything.
type scope map[string][]int32

// parseScope reads TOPIC and TOPIC:PARTITION,... . A topic name has no colon.
func parseScope(words []string) (scope, error) {
	s := scope{}
	for _, word := range words {
		topic, list, some := strings.Cut(word, ":")
		if topic == "" {
			return nil, fmt.Errorf("topic %q: want TOPIC or TOPIC:PARTITION,PARTITION", word)
		}
		if had, twice := s[topic]; twice && (len(had) == 0 || !some) {
			return nil, fmt.Errorf("topic %q: %s is named twice", word, topic)
		}
		if !some {
			s[topic] = nil
			continue
		}
		for text := range strings.SplitSeq(list, ",") {
			n, err := strconv.ParseInt(text, 10, 32)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("topic %q: %q is not a partition number", word, text)
			}
			s[topic] = append(s[topic], int32(n))
		}
	}
	return s, nil
}

// has tells whether a partition is chosen.
func (s scope) has(topic string, partition int32) bool {
	if len(s) == 0 {
		return true
	}
	ps, ok := s[topic]
	return ok && (len(ps) == 0 || slices.Contains(ps, partition))
}

// topics are those named, sorted.
func (s scope) topics() []string {
	var out []string
	for t := range s {
		out = append(out, t)
	}
	slices.Sort(out)
	return out
}
