package group

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var update = flag.Bool("update", false, "write the expected output of the scripts anew")

// TestScripts plays the scripts in testdata: each is a run of one group. After a command and a line of dashes stands what
// follows from it: writes as they are issued, answers as they leave, t1 being the first request's. A client is called by a
// name; it keeps the member id, generation and assignment it was told, as clients do.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { playScript(t, f) })
	}
}

func playScript(t *testing.T, file string) {
	t.Helper()
	in, err := os.ReadFile(file)
	require.NoError(t, err)
	sc := newScript(t)
	var out strings.Builder
	inOutput := false
	for line := range strings.Lines(string(in)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "----":
			inOutput = true
		case inOutput && line != "":
		case line == "" || strings.HasPrefix(line, "#"):
			inOutput = false
			out.WriteString(line + "\n")
		default:
			sc.out.Reset()
			sc.run(line)
			out.WriteString(line + "\n")
			if sc.out.Len() > 0 {
				out.WriteString("----\n" + sc.out.String())
			}
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(out.String()), 0o600))
		return
	}
	require.Equal(t, string(in), out.String(), "go test ./broker/group -run TestScripts -update, if the change is meant")
}

// script is a run of a group by commands.
type script struct {
	t       *testing.T
	sim     *sim
	out     strings.Builder
	clients map[string]*scriptClient
	of      map[Token]*scriptClient
}

// scriptClient is what a client knows of itself.
type scriptClient struct {
	name, id, instance string
	generation         int32
	topics             string
	protocols          string
	version            int
	consumer           *scriptConsumer // nil: it speaks the classic protocol
}

func newScript(t *testing.T) *script {
	t.Helper()
	sc := &script{t: t, sim: newSim(t), clients: make(map[string]*scriptClient), of: make(map[Token]*scriptClient)}
	sc.sim.answers = sc.answered
	sc.sim.wrote = sc.wrote
	return sc
}

// args are name=value words; the first others are names of their own.
type args struct {
	words []string
	named map[string]string
}

func parseArgs(fields []string) args {
	a := args{named: make(map[string]string)}
	for _, f := range fields {
		if k, v, ok := strings.Cut(f, "="); ok && !strings.Contains(k, "/") {
			a.named[k] = v
		} else {
			a.words = append(a.words, f)
		}
	}
	return a
}

func (a args) int(name string, otherwise int) int {
	if v, ok := a.named[name]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			panic(err)
		}
		return n
	}
	return otherwise
}

func (a args) duration(name string, otherwise time.Duration) time.Duration {
	if v, ok := a.named[name]; ok {
		d, err := time.ParseDuration(v)
		if err != nil {
			panic(err)
		}
		return d
	}
	return otherwise
}

func (a args) string(name, otherwise string) string {
	if v, ok := a.named[name]; ok {
		return v
	}
	return otherwise
}

// run plays one line.
func (sc *script) run(line string) {
	fields := strings.Fields(line)
	a := parseArgs(fields[1:])
	switch fields[0] {
	case "join":
		sc.join(a)
	case "sync":
		sc.sync(a)
	case "heartbeat":
		sc.heartbeat(a)
	case "leave":
		sc.leave(a)
	case "commit":
		sc.commit(a)
	case "fetch":
		sc.fetch(a)
	case "delete-offsets":
		sc.deleteOffsets(a)
	case "delete":
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Version, req.Groups = 2, []string{sc.sim.id}
		sc.sim.request(req, "admin")
	case "pass":
		d, err := time.ParseDuration(a.words[0])
		require.NoError(sc.t, err)
		sc.sim.pass(d)
	case "hold":
		sc.sim.hold = true
	case "written":
		sc.sim.written()
	case "release":
		sc.sim.hold = false
		sc.sim.land()
	case "crash":
		sc.sim.crash()
		sc.print("%s", sc.sim.group.Phase())
	case "resumed":
		sc.sim.step(Resumed{})
	case "abandon":
		n, err := strconv.Atoi(a.words[0][1:])
		require.NoError(sc.t, err)
		delete(sc.sim.due, Token(n))
		sc.sim.step(Abandoned{Token: Token(n)})
	case "topics":
		sc.topics(a)
	case "config":
		sc.config(a)
	case "state":
		sc.state()
	case "rows":
		sc.rows()
	default:
		require.True(sc.t, sc.consumerCommand(fields[0], a), "no such command: %s", line)
	}
}

func (sc *script) print(format string, args ...any) {
	fmt.Fprintf(&sc.out, format+"\n", args...)
}

func (sc *script) client(a args) *scriptClient {
	name := a.words[0]
	c := sc.clients[name]
	if c == nil {
		c = &scriptClient{name: name, generation: -1, topics: "foo", protocols: "range", version: 9}
		sc.clients[name] = c
	}
	return c
}

func (sc *script) send(c *scriptClient, req kmsg.Request) {
	sc.of[sc.sim.token+1] = c
	sc.sim.request(req, c.name)
}

// id is the member id to use: as told, or as the command says.
func (sc *script) id(a args, c *scriptClient) string {
	id, ok := a.named["id"]
	if !ok {
		return c.id
	}
	if id == "none" {
		return ""
	}
	if o := sc.clients[id]; o != nil {
		return o.id
	}
	return id
}

func (sc *script) instance(a args, c *scriptClient) *string {
	if i := a.string("instance", c.instance); i != "" && i != "none" {
		return new(i)
	}
	return nil
}

func (sc *script) join(a args) {
	c := sc.client(a)
	c.version = a.int("v", c.version)
	c.topics, c.protocols = a.string("topics", c.topics), a.string("protocols", c.protocols)
	if i := a.named["instance"]; i != "" {
		c.instance = i
	}
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID = int16(c.version), sc.sim.id, sc.id(a, c)
	req.ProtocolType = a.string("type", consumerProtocolType)
	req.SessionTimeoutMillis = millis(a.duration("session", 10*time.Second))
	req.RebalanceTimeoutMillis = millis(a.duration("rebalance", time.Minute))
	req.InstanceID = sc.instance(a, c)
	for p := range strings.SplitSeq(c.protocols, ",") {
		if p != "" {
			req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: subscriptionOf(c.topics)})
		}
	}
	sc.send(c, req)
}

// subscriptionOf is a consumer's, of version 3, to topics with commas between; "junk" is none.
func subscriptionOf(topics string) []byte {
	if topics == "junk" {
		return []byte("junk")
	}
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 3, strings.Split(topics, ",")
	return m.AppendTo(nil)
}

func (sc *script) sync(a args) {
	c := sc.client(a)
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group = int16(a.int("v", 5)), sc.sim.id
	req.MemberID, req.InstanceID = sc.id(a, c), sc.instance(a, c)
	req.Generation = int32(a.int("gen", int(c.generation)))
	if req.Version >= 5 {
		req.ProtocolType, req.Protocol = new(a.string("type", consumerProtocolType)), new(a.string("protocol", strings.Split(c.protocols, ",")[0]))
	}
	for _, w := range a.words[1:] { // a:foo/0,foo/1
		who, parts, _ := strings.Cut(w, ":")
		id := who
		if o := sc.clients[who]; o != nil {
			id = o.id
		}
		req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: assignment(parts)})
	}
	sc.send(c, req)
}

// assignment is a consumer's, of partitions with commas between.
func assignment(parts string) []byte {
	out := binary.BigEndian.AppendUint16(nil, 0)
	list := strings.Split(parts, ",")
	out = binary.BigEndian.AppendUint32(out, uint32(len(list)))
	for _, p := range list {
		topic, n := parsePartition(p)
		out = binary.BigEndian.AppendUint16(out, uint16(len(topic)))
		out = append(out, topic...)
		out = binary.BigEndian.AppendUint32(out, 1)
		out = binary.BigEndian.AppendUint32(out, uint32(n))
	}
	return append(out, 0, 0, 0, 0)
}

func parsePartition(s string) (string, int32) {
	topic, p, _ := strings.Cut(s, "/")
	n, err := strconv.ParseInt(p, 10, 32)
	if err != nil {
		panic(err)
	}
	return topic, int32(n)
}

func (sc *script) heartbeat(a args) {
	c := sc.client(a)
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group = int16(a.int("v", 4)), sc.sim.id
	req.MemberID, req.InstanceID = sc.id(a, c), sc.instance(a, c)
	req.Generation = int32(a.int("gen", int(c.generation)))
	sc.send(c, req)
}

// leave is of one client, or of several from version 3 on; i:NAME is by instance id alone.
func (sc *script) leave(a args) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = int16(a.int("v", 5)), sc.sim.id
	var from *scriptClient
	for _, w := range a.words {
		m := kmsg.NewLeaveGroupRequestMember()
		if i, ok := strings.CutPrefix(w, "i:"); ok {
			m.InstanceID = new(i)
			from = &scriptClient{name: "admin"}
		} else {
			from = sc.client(args{words: []string{w}})
			m.MemberID = sc.id(a, from)
			m.InstanceID = sc.instance(a, from)
		}
		req.MemberID = m.MemberID
		req.Members = append(req.Members, m)
	}
	if req.Version < 3 {
		req.Members = nil
	}
	sc.send(from, req)
}

// commit is foo/0=5 and so on; "nobody" is no member.
func (sc *script) commit(a args) {
	c := sc.client(a)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group = int16(a.int("v", 9)), sc.sim.id
	req.MemberID, req.InstanceID = sc.id(a, c), sc.instance(a, c)
	req.Generation = int32(a.int("gen", int(c.generation)))
	if r := a.duration("retention", 0); r > 0 {
		req.RetentionTimeMillis = r.Milliseconds()
	}
	for _, w := range a.words[1:] {
		part, offset, _ := strings.Cut(w, "=")
		topic, p := parsePartition(part)
		n, err := strconv.ParseInt(offset, 10, 64)
		require.NoError(sc.t, err)
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = topic
		if t, ok := sc.sim.topic.ByName(topic); ok && req.Version >= 10 {
			rt.Topic, rt.TopicID = "", t.ID
		}
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch = p, n, int32(a.int("leader-epoch", -1))
		if m := a.string("meta", ""); m != "" {
			rp.Metadata = new(m)
		}
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
	}
	sc.send(c, req)
}

// fetch reads some offsets, or all.
func (sc *script) fetch(a args) {
	version := int16(a.int("v", 9))
	req := kmsg.NewOffsetFetchRequestGroup()
	stable := false
	for _, w := range a.words {
		if w == "stable" {
			stable = true
			continue
		}
		topic, p := parsePartition(w)
		rt := kmsg.NewOffsetFetchRequestGroupTopic()
		rt.Topic, rt.Partitions = topic, []int32{p}
		if version >= 10 {
			t, _ := sc.sim.topic.ByName(topic)
			rt.Topic, rt.TopicID = "", t.ID
		}
		req.Topics = append(req.Topics, rt)
	}
	got := sc.sim.group.FetchOffsets(&req, version, stable)
	if got.ErrorCode != 0 {
		sc.print("%s", code(got.ErrorCode))
	}
	for _, t := range got.Topics {
		for _, p := range t.Partitions {
			sc.print("%s/%d %s %d%s", t.Topic, p.Partition, code(p.ErrorCode), p.Offset, said(" metadata=%q", *p.Metadata))
		}
	}
}

func (sc *script) deleteOffsets(a args) {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = sc.sim.id
	for _, w := range a.words {
		topic, p := parsePartition(w)
		rt := kmsg.NewOffsetDeleteRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewOffsetDeleteRequestTopicPartition()
		rp.Partition = p
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
	}
	sc.sim.request(req, "admin")
}

// topics are made (+foo) and deleted (-foo); both: made anew.
func (sc *script) topics(a args) {
	var made, gone []string
	for _, w := range a.words {
		if w[0] == '+' {
			made = append(made, w[1:])
		} else {
			gone = append(gone, w[1:])
		}
	}
	sc.sim.topic = sc.sim.topic.with(made, gone)
	sc.sim.step(TopicsChanged{Topics: sc.sim.topic})
}

func (sc *script) config(a args) {
	sc.sim.cfg.MaxSize = a.int("max-size", sc.sim.cfg.MaxSize)
	sc.sim.cfg.InitialRebalanceDelay = a.duration("initial-delay", sc.sim.cfg.InitialRebalanceDelay)
	sc.sim.cfg.OffsetRetention = a.duration("retention", sc.sim.cfg.OffsetRetention)
	sc.sim.cfg.OffsetMetadataMax = a.int("metadata-max", sc.sim.cfg.OffsetMetadataMax)
	sc.sim.cfg.MaxOffsets = a.int("max-offsets", sc.sim.cfg.MaxOffsets)
	sc.sim.cfg.MaxMemberBytes = a.int("max-member-bytes", sc.sim.cfg.MaxMemberBytes)
	sc.sim.cfg.ConsumerMaxSize = a.int("consumer-max-size", sc.sim.cfg.ConsumerMaxSize)
	sc.sim.cfg.Migration = Migration(a.string("migration", string(sc.sim.cfg.Migration)))
	sc.sim.step(ConfigChanged{Config: sc.sim.cfg})
}
