package stack

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// SetClock moves the wall clock of a running process by so many seconds against
// the machine's. Its monotonic clock is left alone, as when an administrator or
// NTP steps a clock.
//
// How: a process asks for the time by calling a function of the vDSO, code that
// the kernel maps into it. Here that function is overwritten, in the memory of
// this one process, by one that asks the kernel and adds the seconds to the wall
// clock. Nothing in the binary takes part. What does not work: libfaketime (a
// static binary loads no library) and time namespaces (they move only the
// monotonic clock and the time since boot).
func (b *Broker) SetClock(seconds int32) error { return b.setClock(seconds) }

func (p *process) setClock(seconds int32) error {
	if elf.Machine(machine) != elf.EM_X86_64 {
		return errors.New("moving a process's clock is written for x86-64 only")
	}
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	defer p.signal(syscall.SIGCONT)
	dir := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	from, to, err := vdso(dir)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(filepath.Join(dir, "mem"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the memory of %s: %w", p.name, err)
	}
	defer mem.Close() // nothing is buffered
	image := make([]byte, to-from)
	if _, err := mem.ReadAt(image, from); err != nil {
		return fmt.Errorf("read the vDSO of %s: %w", p.name, err)
	}
	at, err := clockGettime(image)
	if err != nil {
		return err
	}
	if err := p.awaitOutside(dir, from, to); err != nil {
		return err
	}
	if _, err := mem.WriteAt(clockCode(seconds), from+at); err != nil {
		return fmt.Errorf("change the vDSO of %s: %w", p.name, err)
	}
	return nil
}

// machine is what this is compiled for: a process of another machine does not
// run here.
var machine = func() uint16 {
	self, err := elf.Open("/proc/self/exe")
	if err != nil {
		return 0
	}
	defer self.Close()
	return uint16(self.Machine)
}()

// clockCode is clock_gettime(rdi: which clock, rsi: *timespec).
func clockCode(seconds int32) []byte {
	code := []byte{
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228 (clock_gettime)
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi
		0x75, 0x07, // jnz +7: not CLOCK_REALTIME
		0x48, 0x81, 0x06, // add qword [rsi], …
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(seconds))
	return append(code, 0xc3) // ret
}

// vdso is where the vDSO is mapped.
func vdso(dir string) (from, to int64, err error) {
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		return 0, 0, fmt.Errorf("read the mappings of a process: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err != nil {
				return 0, 0, fmt.Errorf("read the mapping %q: %w", line, err)
			}
			return from, to, nil
		}
	}
	return 0, 0, errors.New("a process has no vDSO")
}

func clockGettime(image []byte) (int64, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			return int64(s.Value), nil
		}
	}
	return 0, errors.New("the vDSO has no clock_gettime")
}

// awaitOutside waits until no thread of the stopped process is in the code that
// is to be changed under it, letting it run for a moment when one is.
func (p *process) awaitOutside(dir string, from, to int64) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		stopped, inside, err := threads(dir, from, to)
		switch {
		case err != nil:
			return err
		case stopped && !inside:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%s does not stop outside the vDSO", p.name)
		case inside:
			if err := errors.Join(p.signal(syscall.SIGCONT), p.signal(syscall.SIGSTOP)); err != nil {
				return err
			}
		}
		<-time.After(time.Millisecond)
	}
}

// threads looks where each thread of a process is.
func threads(dir string, from, to int64) (stopped, inside bool, err error) {
	tasks, err := filepath.Glob(filepath.Join(dir, "task", "*", "syscall"))
	if err != nil || len(tasks) == 0 {
		return false, false, fmt.Errorf("list the threads of a process: %w", err)
	}
	stopped = true
	for _, task := range tasks {
		line, err := os.ReadFile(task)
		if err != nil {
			continue // it ended
		}
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			stopped = false // "running"
			continue
		}
		pc, err := strconv.ParseInt(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
		if err != nil {
			return false, false, fmt.Errorf("read where a thread is: %w", err)
		}
		inside = inside || pc >= from && pc < to
	}
	return stopped, inside, nil
}
