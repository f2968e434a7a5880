package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = "dev"

type versionCmd struct {
	JSON bool `group:"output" help:"Write JSON."`
}

type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}

func (v versionInfo) String() string {
	s := "streamhouse " + v.Version
	if v.Revision != "" {
		s += " (" + v.Revision[:min(len(v.Revision), 12)]
		if v.Modified {
			s += ", modified"
		}
		s += ")"
	}
	return s + " " + v.Go + " " + v.Platform
}

// Run is kong's entry.
func (c *versionCmd) Run(a *app) error {
	v := readVersion()
	if c.JSON {
		if err := json.NewEncoder(a.stdout).Encode(v); err != nil {
			return fmt.Errorf("write version: %w", err)
		}
		return nil
	}
	if _, err := fmt.Fprintln(a.stdout, v); err != nil {
		return fmt.Errorf("write version: %w", err)
	}
	return nil
}

// buildVersion is the version in one word, with the revision where the version says too little.
func buildVersion() string {
	v := readVersion()
	if v.Version == "dev" && v.Revision != "" {
		return v.Version + "-" + v.Revision[:min(len(v.Revision), 12)]
	}
	return v.Version
}
