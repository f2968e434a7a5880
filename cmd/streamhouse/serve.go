package main

import (
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
)

type serveCmd struct {
	config.Flags

	Check bool `help:"Check the settings, print what they come to, and do not start."`
}

// Help is what --help shows below the summary.
func (*serveCmd) Help() string {
	return `Examples:
  streamhouse serve
      a broker on 127.0.0.1:9092 that keeps everything under ./streamhouse-data

  streamhouse serve --addr 0.0.0.0:9092 --advertised-addr broker-1.example.com
      reachable from other machines

  streamhouse serve --listener inside=10.0.0.5:9092 --listener outside=0.0.0.0:19092@example.com:19092
      two listeners, each telling its clients its own address

  STREAMHOUSE_CONFIG=/etc/streamhouse.yaml streamhouse serve
      settings from a file: "addr: 0.0.0.0:9092", "flush-interval: 5ms", ...

Every flag can be given as STREAMHOUSE_NAME in the environment and as a key of the file.`
}

// Run is kong's entry.
func (c *serveCmd) Run(a *app) error {
	cfg, err := c.Resolve()
	if err != nil {
		return badUsage(err)
	}
	if c.Check {
		return printConfig(a, cfg)
	}
	return serve(a, cfg)
}

// printConfig writes what a broker would run with.
func printConfig(a *app, cfg config.Config) error {
	p := &printer{w: a.stdout}
	for _, l := range cfg.Listeners {
		note := ""
		if l.Guessed {
			note = "  (advertised address taken from a network interface)"
		}
		p.printf("listener: %s%s\n", l, note)
	}
	http := cfg.HTTPAddr
	if http == "" {
		http = "off"
	}
	p.printf("http-addr: %s\n", http)
	p.printf("data-dir: %s\ncatalog: %s\nstore: %s\n", cfg.DataDir, cfg.Catalog, cfg.Store)
	p.printf("flush-interval: %v\nflush-bytes: %v\nmerge-interval: %v\nobject-grace: %v\n",
		cfg.FlushInterval, config.Size(cfg.FlushBytes), cfg.MergeInterval, cfg.ObjectGrace)
	p.printf("auto-create-topics: %v\nnum-partitions: %d\n", cfg.AutoCreateTopics, cfg.NumPartitions)
	p.printf("max-connections: %d\nmax-connections-per-ip: %d\nmax-request-bytes: %v\n",
		cfg.MaxConnections, cfg.MaxConnectionsPerIP, config.Size(cfg.MaxRequestBytes))
	p.printf("memory-limit: %v\ncache-bytes: %v\ntail-cache-bytes: %v\nbuffer-bytes: %v\n",
		config.Size(cfg.MemoryLimit), config.Size(cfg.CacheBytes), config.Size(cfg.TailCacheBytes),
		config.Size(cfg.BufferBytes))
	p.printf("broker-id: %d\nrack: %s\nshutdown-timeout: %v\n", cfg.BrokerID, cfg.Rack, cfg.ShutdownTimeout)
	format := "text"
	if cfg.LogJSON {
		format = "json"
	}
	p.printf("log-level: %s\nlog-format: %s\npprof: %v\nmax-partition-metrics: %d\n",
		cfg.LogLevel, format, cfg.Pprof, cfg.MaxPartitionMetrics)
	traces := "off"
	if cfg.TracingEndpoint != nil {
		traces = cfg.TracingEndpoint.Redacted()
	}
	p.printf("tracing-endpoint: %s\ntracing-sample: %v\n", traces, cfg.TracingSample)
	return p.result()
}
