package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/node"
)

// serve runs a broker until a.ctx ends.
func serve(a *app, cfg config.Config) error {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	var handler slog.Handler = slog.NewTextHandler(a.stderr, opts)
	if cfg.LogJSON {
		handler = slog.NewJSONHandler(a.stderr, opts)
	}
	n, err := node.Start(a.ctx, cfg, readVersion().Version, slog.New(handler))
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	return errors.Join(greet(a, cfg, n), n.Run(a.ctx))
}

// greet says where the broker listens and what to try first.
func greet(a *app, cfg config.Config, n *node.Node) error {
	p := &printer{w: a.stdout}
	p.printf("StreamHouse %s\n", readVersion().Version)
	for _, l := range n.Listeners() {
		p.printf("  Kafka clients: %s (listener %s, bound to %s)\n", l.Advertised, l.Name, l.Bind)
		if l.Guessed {
			p.printf("    the advertised address was taken from a network interface; --advertised-addr sets it\n")
		}
	}
	if addr := n.HTTPAddr(); addr != nil {
		p.printf("  metrics:       http://%s/metrics, /health, /ready\n", browsable(addr))
	}
	p.printf("  catalog:       %s\n  objects:       %s\n", cfg.Catalog, cfg.Store)
	at := n.Listeners()[0].Advertised
	p.printf("Try it:\n  echo hello | kcat -b %s -P -t demo\n  kcat -b %s -C -t demo -e\n", at, at)
	return p.result()
}

// browsable is an address a browser on this machine can open: what is bound to all addresses is bound to none that has a name.
func browsable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return addr.String()
}
