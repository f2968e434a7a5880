package attribution

import (
	"context"
	"fmt"
	"testing"

	"github.com/streamhouse/streamhouse/broker/group"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
)

// crowd is a book of clients that each read some partitions as members of a group.
func crowd(clients, slots int) (*Book, []*Slot) {
	told := false
	g := coordinator.ShardMembers{Whole: true, Groups: map[string][]group.Member{}}
	for i := range clients {
		m := group.Member{Client: group.Client{ID: fmt.Sprint("client-", i), Host: "/10.0.0.1"}}
		for p := range slots {
			m.Partitions = append(m.Partitions, catalog.GroupPartition{Topic: "orders", Partition: int32(i*slots + p)})
		}
		g.Groups["g"] = append(g.Groups["g"], m)
	}
	b := New(Config{
		Local: func(context.Context) []coordinator.ShardMembers {
			if told {
				return []coordinator.ShardMembers{{}}
			}
			told = true
			return []coordinator.ShardMembers{g}
		},
		Told: func(string, string, int32, int, int) {}, Gone: func(string) {},
	})
	var all []*Slot
	for i := range clients {
		c := b.Client(fmt.Sprint("client-", i), "/10.0.0.1")
		for p := range slots {
			all = append(all, c.Slot("orders", int32(i*slots+p)))
		}
	}
	b.Look(context.Background())
	return b, all
}

// BenchmarkLook is what a round costs, one each three seconds, while all clients fetch and nobody comes or goes.
func BenchmarkLook(b *testing.B) {
	for _, n := range [][2]int{{10, 10}, {1000, 10}, {10_000, 10}} {
		b.Run(fmt.Sprintf("clients=%d,partitions=%d", n[0], n[0]*n[1]), func(b *testing.B) {
			book, all := crowd(n[0], n[1])
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for _, s := range all {
					s.Fetched(1, 100, 1)
				}
				b.StartTimer()
				book.Look(b.Context())
			}
		})
	}
}

// BenchmarkFetched is what each partition of a Fetch answer costs.
func BenchmarkFetched(b *testing.B) {
	_, all := crowd(1, 1)
	b.ReportAllocs()
	for b.Loop() {
		all[0].Fetched(1, 100, 1)
	}
}
