package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/streamhouse/streamhouse/compat-tests/client"
)

const (
	bucket           = "streamhouse-data"
	s3User, s3Secret = "streamhouse-chaos", "streamhouse-chaos-secret"
)

// MinIO is an object store on a file system of its own.
type MinIO struct {
	process

	addr, data string
}

// newMinIO runs a server at addr whose files are in dir, a file system of so
// many bytes. It listens to 127.0.0.1 only, or everywhere.
func newMinIO(ctx context.Context, dir, addr string, bytes int64, everywhere bool) (*MinIO, error) {
	path := filepath.Join(client.Root(), "..", ".tools", "bin", "minio")
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("MinIO is not installed: run scripts/minio (it takes some minutes, once): %w", err)
	}
	m := &MinIO{addr: addr, data: filepath.Join(dir, "minio")}
	if err := os.MkdirAll(m.data, 0o700); err != nil {
		return nil, fmt.Errorf("make a folder for MinIO: %w", err)
	}
	if err := syscall.Mount("tmpfs", m.data, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		return nil, fmt.Errorf("mount a small file system (it takes root): %w", err)
	}
	listen := addr
	if everywhere {
		listen = addr[strings.LastIndexByte(addr, ':'):]
	}
	m.process = process{
		name: "MinIO", path: path, args: []string{"server", "--quiet", "--address", listen, m.data},
		log: filepath.Join(dir, "minio.log"), dir: dir,
		env: []string{
			"HOME=" + dir, "PATH=/usr/bin:/bin", "MINIO_ROOT_USER=" + s3User, "MINIO_ROOT_PASSWORD=" + s3Secret,
			"MINIO_UPDATE=off", "MINIO_BROWSER=off", "MINIO_CI_CD=on", "GOMAXPROCS=2",
		},
	}
	// A folder is a bucket: no client of S3 is needed to make it.
	if err := os.MkdirAll(filepath.Join(m.data, bucket), 0o700); err != nil {
		return nil, fmt.Errorf("make the bucket: %w", err)
	}
	err := m.Up(ctx)
	return m, err
}

// Up runs it and returns once it is ready.
func (m *MinIO) Up(ctx context.Context) error {
	if err := m.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return m.until(ctx, func(ctx context.Context) error { return get(ctx, "http://"+m.addr+"/minio/health/live") })
}

// Kill ends it with SIGKILL, Stop with SIGTERM.
func (m *MinIO) Kill() error { return m.kill() }

// Stop ends it in its own way.
func (m *MinIO) Stop() error {
	_, err := m.end(syscall.SIGTERM, time.Minute)
	return err
}

func (m *MinIO) filler() string { return filepath.Join(m.data, "filler") }

// Fill leaves no room on its disk. What is deleted meanwhile is filled up by Fill
// again.
func (m *MinIO) Fill() error {
	f, err := os.OpenFile(m.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	defer f.Close() // its errors are the disk's being full
	chunk := make([]byte, 1<<20)
	for {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			return nil
		} else if err != nil {
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
}

// Free undoes Fill.
func (m *MinIO) Free() error { return os.Remove(m.filler()) }

func (m *MinIO) shut() {
	m.close()
	_ = syscall.Unmount(m.data, syscall.MNT_DETACH) // what is left of it goes with the machine's memory
}

// get says whether a URL answers 200.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
