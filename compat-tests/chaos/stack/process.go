package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a program that is started any number of times, and logs to one
// file.
type process struct {
	name string
	path string
	args []string
	env  []string
	dir  string
	cred *syscall.Credential
	log  string

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process of cmd is gone
	// expected is set before the process is ended on purpose.
	expected *atomic.Bool
}

// start runs the program. It is not ready yet.
func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", p.name, err)
	}
	defer log.Close() // the process has its own copy
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = log, log, p.env, p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The kernel signals the child when the thread that started it ends: this one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // its outcome is in cmd.ProcessState
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.ended, p.expected = cmd, ended, new(atomic.Bool)
	return nil
}

// running says whether it was started and nobody has ended it or seen it end.
func (p *process) running() bool { return p.cmd != nil }

func (p *process) signal(sig syscall.Signal) error {
	if p.cmd == nil {
		return fmt.Errorf("signal %s: it is not running", p.name)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// kill ends it with SIGKILL. It is an error if it ended by itself before.
func (p *process) kill() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended by itself (%s): %s", p.name, p.cmd.ProcessState, p.tail())
	default:
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.ended
	p.cmd = nil
	return nil
}

// end sends a signal and waits for the end.
func (p *process) end(sig syscall.Signal, within time.Duration) (*os.ProcessState, error) {
	if err := p.signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return nil, err
	}
	return p.wait(within)
}

// wait waits for the end.
func (p *process) wait(within time.Duration) (*os.ProcessState, error) {
	cmd := p.cmd
	select {
	case <-p.ended:
		p.cmd = nil
		return cmd.ProcessState, nil
	case <-time.After(within):
		return nil, fmt.Errorf("%s did not end within %s: %s", p.name, within, p.tail())
	}
}

// close ends it, if it runs.
func (p *process) close() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // gone is what it shall be
		<-p.ended
		p.cmd = nil
	}
}

// until repeats ready until it is nil, the process ended, or time is up.
func (p *process) until(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			state := p.cmd.ProcessState
			p.cmd = nil
			return fmt.Errorf("%s ended before it was ready (%s): %s", p.name, state, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready in time: %w: %s", p.name, err, p.tail())
		case <-tick.C:
		}
	}
}

// tail is the end of its log.
func (p *process) tail() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const keep = 8 << 10
	if len(log) > keep {
		log = log[len(log)-keep:]
	}
	return string(log)
}

// logSize is where its log ends now; logFrom is what came since.
func (p *process) logSize() int64 {
	info, err := os.Stat(p.log)
	if err != nil {
		return 0
	}
	return info.Size()
}

func (p *process) logFrom(at int64) string {
	log, err := os.ReadFile(p.log)
	if err != nil || int64(len(log)) < at {
		return ""
	}
	return string(log[at:])
}

// wrote returns the first line of its log that holds one of what no run may write.
func (p *process) wrote(bad ...string) string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	for _, b := range bad {
		if i := bytes.Index(log, []byte(b)); i >= 0 {
			return p.name + " wrote: " + strings.ToValidUTF8(string(log[i:min(len(log), i+3000)]), "?")
		}
	}
	return ""
}
