package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/lease"
)

const (
	// embeddedBrokerID is the node id of a broker whose operator named none and that is alone.
	embeddedBrokerID = 1
	// propertiesName is the file of the data folder that keeps an id that was handed out, named as Kafka's.
	propertiesName = "meta.properties"
	// maxPropertiesBytes bounds what is read of it.
	maxPropertiesBytes = 4 << 10
)

// identify finds the broker's node id: the one it was given, or the one its data folder has, or a new one. In a fleet it
// sees to it that no living process has it.
func (n *Node) identify(ctx context.Context) error {
	id := n.cfg.BrokerID
	switch {
	case n.fleet == nil:
		if id < 0 {
			id = embeddedBrokerID
		}
		n.cfg.BrokerID = id
		return nil
	case id < 0:
		var err error
		if id, err = n.allotted(ctx); err != nil {
			return err
		}
		n.cfg.BrokerID = id
	}
	return lease.AwaitID(ctx, n.catalog, n.fleet.catalog, catalog.BrokerID(id), idPatience)
}

// allotted returns the id that the data folder keeps, or has the catalog hand out one, which it keeps from now on.
func (n *Node) allotted(ctx context.Context) (int32, error) {
	clusterID, err := n.catalog.ClusterID(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the cluster id: %w", err)
	}
	path := filepath.Join(n.cfg.DataDir, propertiesName)
	id, err := readProperties(path, clusterID)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return id, err
	}
	next, err := n.catalog.AllocateIDs(ctx, catalog.IDBroker, 1)
	if err != nil {
		return 0, fmt.Errorf("have the catalog hand out a broker id: %w", err)
	}
	if next > math.MaxInt32 {
		return 0, errors.New("the catalog has no broker ids left: give one with --broker-id")
	}
	if err := writeProperties(path, clusterID, int32(next)); err != nil {
		return 0, fmt.Errorf("keep broker id %d (or give --broker-id): %w", next, err)
	}
	n.log.Info("the catalog handed out a broker id, which the data folder keeps", "broker_id", next, "file", path)
	return int32(next), nil
}

// readProperties reads a broker id. [os.ErrNotExist] when none is kept.
func readProperties(path, clusterID string) (id int32, err error) {
	f, err := os.Open(path) //nolint:gosec // a file of the operator's data folder
	if err != nil {
		return 0, fmt.Errorf("read the kept broker id: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	values := make(map[string]string)
	lines := bufio.NewScanner(io.LimitReader(f, maxPropertiesBytes))
	for lines.Scan() {
		if key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "="); ok && !strings.HasPrefix(key, "#") {
			values[key] = value
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read the kept broker id: %w", err)
	}
	if other := values["cluster.id"]; other != clusterID {
		return 0, fmt.Errorf("%s keeps a broker id of cluster %q, the catalog is that of %q: give another --data-dir, or --broker-id", path, other, clusterID)
	}
	n, err := strconv.ParseInt(values["node.id"], 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s has no node.id that can be used: %q; give --broker-id, or remove the file for a new one", path, values["node.id"])
	}
	return int32(n), nil
}

// writeProperties keeps a broker id, durably and at once or not at all.
func writeProperties(path, clusterID string, id int32) (err error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The id that the catalog handed out to the broker of this folder.\nversion=1\ncluster.id=%s\nnode.id=%d\n", clusterID, id)
	f, err := os.CreateTemp(filepath.Dir(path), propertiesName+".*")
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync the folder: %w", err)
	}
	return nil
}
