package fs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// childEnv makes this test binary act as a process to be killed: its value says how it does what it does.
const childEnv = "STREAMHOUSE_FS_TEST_CHILD"

// childRoot is the folder a child works in, relative to where it is started.
const childRoot = "data/folder"

// startChild runs the named test of this binary as a process of its own, in dir, and returns its output by lines.
func startChild(t *testing.T, test, dir, how string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+test+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), childEnv+"="+how)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	_, err = cmd.StdinPipe() // the child ends when we do
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// nextLine returns what the child prints after prefix, skipping the test framework's own lines.
func nextLine(t *testing.T, lines *bufio.Scanner, prefix string) string {
	t.Helper()
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			return rest
		}
	}
	require.FailNow(t, "the child ended", "before it printed %q: %v", prefix, lines.Err())
	return ""
}

func TestLockIsRefusedWhileAnotherProcessLives(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		_, err := Lock(childRoot)
		fmt.Fprintf(os.Stdout, "locked %v\n", err)
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	dir := t.TempDir()
	root := filepath.Join(dir, childRoot)
	child, lines := startChild(t, t.Name(), dir, "lock")
	require.Equal(t, "<nil>", nextLine(t, lines, "locked "))

	_, err := Lock(root)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, root)
	require.ErrorContains(t, err, fmt.Sprintf("process with id %d;", child.Process.Pid))

	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	lock, err := Lock(root)
	require.NoError(t, err, "a dead process holds nothing")
	_, err = Lock(root)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprint(os.Getpid()))
	require.NoError(t, lock.Close())
	require.NoError(t, lock.Close())
	lock, err = Lock(root)
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

func TestLockSurvivesAnUnreadableHolder(t *testing.T) {
	root := t.TempDir()
	lock, err := Lock(root)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, lockName), []byte(strings.Repeat("x", 1000)), filePerm))
	_, err = Lock(root)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, "another process")
	require.NoError(t, lock.Close())
}

func crashBody(key string) objstore.Body {
	slices := make([][]byte, 100)
	if strings.HasPrefix(key, "small/") {
		slices = slices[:4+len(key)] // about 20 KiB
	}
	for i := range slices {
		slices[i] = []byte(strings.Repeat(key, 1+i*10))
	}
	return objstore.NewBody(slices...)
}

func crashKey(how string, w, i int) string {
	if how == "volumes" && i%20 != 19 {
		return fmt.Sprintf("small/h%d/%d-%d", i/5, w, i)
	}
	return fmt.Sprintf("log/h%d/%d-%d", i/5, w, i)
}

// Killed at any moment, a store holds every object it acknowledged, no part of any, and no litter once reopened.
func TestKilledWhilePutting(t *testing.T) {
	if how := os.Getenv(childEnv); how != "" {
		opts := Options{VolumeObjectBytes: -1}
		if how == "volumes" {
			opts = tiny()
			opts.VolumeBytes, opts.VolumeObjectBytes, opts.VolumeBudget = 1<<20, 256<<10, 3<<20
		}
		s, err := Open(childRoot, opts)
		require.NoError(t, err)
		s.nameless.Store(how != "named" && s.nameless.Load())
		for w := range 3 {
			go func() {
				for i := 0; ; i++ {
					key := crashKey(how, w, i)
					if s.Put(t.Context(), key, crashBody(key)) == nil {
						fmt.Fprintf(os.Stdout, "put %s\n", key) // one write: lines do not mix
					}
					if i%7 == 6 { // of one that was acknowledged; it is not there after it is said to be gone
						key := crashKey(how, w, i-3)
						if s.Delete(t.Context(), []string{key}) == nil {
							fmt.Fprintf(os.Stdout, "gone %s\n", key)
						}
					}
				}
			}()
		}
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	for _, way := range []string{"nameless", "named", "volumes"} {
		for after := range 6 {
			dir := t.TempDir()
			root := filepath.Join(dir, childRoot)
			child, lines := startChild(t, t.Name(), dir, way)
			acknowledged, gone := make(map[string]bool), make(map[string]bool)
			said := func(line string) bool {
				if key, ok := strings.CutPrefix(line, "gone "); ok {
					gone[key] = true
				}
				key, ok := strings.CutPrefix(line, "put ")
				if ok {
					acknowledged[key] = true
				}
				return ok
			}
			enough := 1 + 3*after
			if way == "volumes" {
				enough *= 20 // several volumes
			}
			for n := 0; n < enough; {
				require.True(t, lines.Scan(), "the child ended: %v", lines.Err())
				if said(lines.Text()) {
					n++
				}
			}
			require.NoError(t, child.Process.Kill())
			for lines.Scan() { // acknowledged, and not yet read by us
				said(lines.Text())
			}
			_ = child.Wait()

			s, err := Open(root, Options{})
			require.NoError(t, err)
			var objects []objstore.Info
			for more := true; more; {
				after := ""
				if len(objects) > 0 {
					after = objects[len(objects)-1].Key
				}
				var page []objstore.Info
				page, more, err = s.List(t.Context(), "", after, 0)
				require.NoError(t, err)
				objects = append(objects, page...)
			}
			if way == "volumes" {
				require.DirExists(t, filepath.Join(root, volumesName))
			} else {
				require.Len(t, filesUnder(t, root), len(objects), "nothing but objects")
			}
			for _, info := range objects {
				body := crashBody(info.Key)
				outcome, err := objstore.Settle(t.Context(), s, info.Key, body.Size, body.Checksum)
				require.NoError(t, err)
				require.Equal(t, objstore.Stored, outcome, info.Key)
				delete(acknowledged, info.Key)
				require.False(t, gone[info.Key], "%s was deleted", info.Key)
			}
			// What was being deleted, and is not said to be gone, may be either.
			for key := range acknowledged {
				var w, i int
				_, err := fmt.Sscanf(key[strings.LastIndexByte(key, '/')+1:], "%d-%d", &w, &i)
				require.NoError(t, err)
				if !gone[key] && i%7 != 3 {
					require.Fail(t, "acknowledged and lost", key)
				}
			}
			require.NoError(t, s.Close())
		}
	}
}
