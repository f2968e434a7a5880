package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/facts"
)

type brokersCmd struct {
	listingFlags
	facts.Flags
}

// Help is what --help shows below the summary.
func (*brokersCmd) Help() string {
	return `Reads the catalog, and so works also when no broker answers. Nothing is changed.

States:
  alive      its session is renewed
  expired    it was not renewed in time: others fence it, unless the catalog itself was away
  fenced     dead; listed until what it committed is folded

Examples:
  streamhouse brokers --catalog postgres://streamhouse@db/streamhouse_metadata
  streamhouse brokers --format json | jq -r 'select(.state != "alive") | .id'`
}

// States of a broker.
const (
	stateAlive   = "alive"
	stateExpired = "expired"
	stateFenced  = "fenced"
)

type brokerDetails struct {
	ID            int32             `json:"id"`
	Epoch         int64             `json:"epoch"`
	State         string            `json:"state"`
	Controller    bool              `json:"controller"`
	Draining      bool              `json:"draining"`
	Rack          string            `json:"rack"`
	Leases        int               `json:"leases"`
	Leaving       int               `json:"moving_away"`
	Coming        int               `json:"moving_here"`
	HeartbeatAge  float64           `json:"heartbeat_age_seconds"`
	ExpiresIn     float64           `json:"expires_in_seconds"`
	LastHeartbeat time.Time         `json:"last_heartbeat"`
	RegisteredAt  time.Time         `json:"registered_at"`
	LastSequence  int64             `json:"last_sequence"`
	Listeners     []listenerDetails `json:"listeners"`

	age time.Duration
}

type listenerDetails struct {
	Name string `json:"name"`
	Host string `json:"host"`
	Port int32  `json:"port"`
}

// Run is kong's entry.
func (c *brokersCmd) Run(a *app) error {
	n, err := lookAtCluster(a, c.Flags)
	if err != nil {
		return fmt.Errorf("show the brokers: %w", err)
	}
	all := n.details()
	if c.asJSON() {
		p := &printer{w: a.stdout}
		for i := range all {
			p.json(all[i])
		}
		return p.result()
	}
	if len(all) == 0 {
		say(a.stderr, "no broker is registered\n")
		return nil
	}
	return a.table("ID\tEPOCH\tSTATE\tROLE\tRACK\tLEASES\tDRAINING\tHEARTBEAT\tLISTENERS", func(p *printer) {
		for i := range all {
			b := &all[i]
			role, draining := "-", "no"
			if b.Controller {
				role = "controller"
			}
			if b.Draining {
				draining = "yes"
			}
			p.printf("%d\t%d\t%s\t%s\t%s\t%d\t%s\t%s ago\t%s\n", b.ID, b.Epoch, b.State, role, orDash(b.Rack), b.Leases, draining,
				ago(b.age), orDash(b.addresses()))
		}
	})
}

// details are the brokers with what their leases say of them.
func (n *clusterNow) details() []brokerDetails {
	var out []brokerDetails
	held, from, to := n.counts()
	controller, _ := n.view.Controller()
	for i := range n.brokers {
		b := &n.brokers[i]
		age := max(n.at.Sub(b.LastHeartbeat), 0)
		d := brokerDetails{
			ID: int32(b.ID), Epoch: int64(b.Epoch), State: stateAlive, Draining: b.Draining, Rack: b.Rack,
			Controller: !b.Fenced && b.Epoch == controller.Epoch,
			Leases:     held[b.Epoch], Leaving: from[b.Epoch], Coming: to[b.Epoch],
			HeartbeatAge: age.Seconds(), ExpiresIn: max(b.TTL-age, 0).Seconds(), LastHeartbeat: b.LastHeartbeat, RegisteredAt: b.RegisteredAt,
			LastSequence: int64(b.LastSequence), Listeners: []listenerDetails{}, age: age,
		}
		switch {
		case b.Fenced:
			d.State = stateFenced
		case age > b.TTL:
			d.State = stateExpired
		}
		for _, l := range b.Listeners {
			d.Listeners = append(d.Listeners, listenerDetails(l))
		}
		out = append(out, d)
	}
	return out
}

// counts are how many leases each broker epoch holds, how many of them it is asked to hand over, and how many it is to get.
func (n *clusterNow) counts() (held, from, to map[catalog.BrokerEpoch]int) {
	held, from, to = make(map[catalog.BrokerEpoch]int), make(map[catalog.BrokerEpoch]int), make(map[catalog.BrokerEpoch]int)
	for l := range n.view.All() {
		if l.Holder == 0 {
			continue
		}
		held[l.Holder]++
		if l.Wanted != 0 {
			from[l.Holder]++
			to[l.Wanted]++
		}
	}
	return held, from, to
}

func (b *brokerDetails) addresses() string {
	var out []string
	for _, l := range b.Listeners {
		out = append(out, l.Name+"="+net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port))))
	}
	return strings.Join(out, ",")
}

// ago is a duration for people.
func ago(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
