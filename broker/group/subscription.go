package group

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/streamhouse/streamhouse/broker/group/assignor"
)

// subscription is what members subscribe to; those that subscribe to the same share it.
type subscription struct {
	key     string
	names   []string // sorted, each once
	regex   string   // empty: none
	pattern *regexp.Regexp
	matched []string // topics that pattern matches, of the group's seen topics; sorted
	members int
}

// subscriptionKey is the same for equal subscriptions only: topic names have no NUL.
func subscriptionKey(names []string, regex string) string {
	return strings.Join(names, "\x00") + "\x00\x00" + regex
}

// Bounds of a regular expression, ours: one of few bytes can take megabytes when it is compiled (".{1000}" again and again), for each
// member its own.
const (
	maxRegexBytes        = 4096
	maxRegexInstructions = 10_000
)

// compilePattern compiles an RE2 expression so that it has to match the whole of a topic's name, as SubscribedTopicRegex does.
func compilePattern(regex string) (*regexp.Regexp, error) {
	if len(regex) > maxRegexBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(regex), maxRegexBytes)
	}
	// The expression itself has to be one: "a)(b" is none, although "(?:a)(b)" would be.
	parsed, err := syntax.Parse(regex, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if n := len(prog.Inst); n > maxRegexInstructions {
		return nil, fmt.Errorf("it takes %d instructions, more than %d", n, maxRegexInstructions)
	}
	return regexp.Compile(`\A(?:` + regex + `)\z`)
}

// subscribe returns the subscription to names (which it may keep) and a regular expression, with one more member. An expression
// that is none is an error.
func (c *consumer) subscribe(names []string, regex string) (*subscription, error) {
	slices.Sort(names)
	names = slices.Compact(names)
	key := subscriptionKey(names, regex)
	sub := c.subs[key]
	if sub == nil {
		sub = &subscription{key: key, names: names, regex: regex}
		if regex != "" {
			var err error
			if sub.pattern, err = compilePattern(regex); err != nil {
				return nil, err
			}
			sub.matched = c.matching(sub.pattern, c.seen.Names())
		}
		c.subs[key] = sub
	}
	sub.members++
	return sub, nil
}

// release takes a member off a subscription.
func (c *consumer) release(sub *subscription) {
	if sub.members--; sub.members == 0 {
		delete(c.subs, sub.key)
	}
}

// matching returns those of names that a pattern matches. Internal topics are nobody's to consume by a pattern: Kafka's
// coordinator gives them to members, and its classic clients leave them out (exclude.internal.topics).
func (c *consumer) matching(pattern *regexp.Regexp, names []string) []string {
	var out []string
	for _, name := range names {
		if !pattern.MatchString(name) {
			continue
		}
		if t, ok := c.seen.ByName(name); ok && !t.Internal {
			out = append(out, name)
		}
	}
	return out
}

// has says whether a topic is subscribed to.
func (sub *subscription) has(topic string) bool {
	_, named := slices.BinarySearch(sub.names, topic)
	if named {
		return true
	}
	_, matched := slices.BinarySearch(sub.matched, topic)
	return matched
}

// each calls f for each topic of the subscription that exists; those named and matched come twice.
func (sub *subscription) each(topics Topics, f func(Topic)) {
	for _, names := range [][]string{sub.names, sub.matched} {
		for _, name := range names {
			if t, ok := topics.ByName(name); ok {
				f(t)
			}
		}
	}
}

// refresh brings what is subscribed to up to the present topics, and says whether topics, or their partitions, were added or are
// gone: then a new target is needed.
//
// Patterns are tried on new names only. So a topic that is made costs each group one walk over the names of topics, and not one for
// each pattern of its members; therefore it needs no interval (Kafka's is 10 s), and group.consumer.regex.refresh.interval.ms, by
// which Kafka notices changed ACLs, has nothing to do.
func (c *consumer) refresh() (changed bool) {
	if now := c.g.topics; c.seen.Version() != now.Version() {
		before := c.seen.Names()
		c.seen = now
		added := missing(now.Names(), before)
		gone := missing(before, now.Names())
		for _, sub := range c.subs {
			if sub.pattern == nil {
				continue
			}
			sub.matched = slices.DeleteFunc(sub.matched, func(name string) bool {
				_, ok := slices.BinarySearch(gone, name)
				return ok
			})
			if more := c.matching(sub.pattern, added); len(more) > 0 {
				sub.matched = append(sub.matched, more...)
				slices.Sort(sub.matched)
			}
		}
	}
	c.stale = false
	hash := c.subscribedHash()
	changed = hash != c.topicsHash
	c.topicsHash = hash
	return changed
}

// missing returns what is in a and not in b; all are sorted.
func missing(a, b []string) []string {
	var out []string
	for _, s := range a {
		for len(b) > 0 && b[0] < s {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != s {
			out = append(out, s)
		}
	}
	return out
}

// subscribedTopics are the existing topics that any member subscribes to, by id.
func (c *consumer) subscribedTopics() []Topic {
	var out []Topic
	for _, sub := range c.subs {
		sub.each(c.seen, func(t Topic) { out = append(out, t) })
	}
	slices.SortFunc(out, func(a, b Topic) int { return assignor.Compare(a.ID, b.ID) })
	return slices.CompactFunc(out, func(a, b Topic) bool { return a.ID == b.ID })
}

// subscribedHash is a fingerprint of the topics subscribed to: their ids and partition counts. Racks are no part of it, unlike in
// Kafka: a partition here changes the broker that leads it often, and each time would rebalance every group; a rack is a wish
// that counts when there is a rebalance for another reason.
func (c *consumer) subscribedHash() uint64 {
	h := fnv.New64a()
	var buf [20]byte // id and partition count
	for _, t := range c.subscribedTopics() {
		binary.BigEndian.PutUint32(buf[len(t.ID):], uint32(t.Partitions))
		copy(buf[:], t.ID[:])
		_, _ = h.Write(buf[:]) // it never fails
	}
	return h.Sum64()
}

// invalidRegex is the message of INVALID_REGULAR_EXPRESSION.
func invalidRegex(regex string, err error) string {
	return fmt.Sprintf("SubscribedTopicRegex %q is not a valid regular expression: %v.", regex, err)
}
