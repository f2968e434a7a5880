package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Cable is a network of its own between a broker, who lives in a network namespace with nothing else, and the machine: a pair
// of veth devices, each with one address. A cut one loses every packet, of connections that stand and of those to be made, and
// says nothing to anybody: each side sends to a hardware address that the other does not have.
type Cable struct {
	host, broker end
	pid          int // of who holds the broker's namespace
}

// end is one device of a pair.
type end struct{ device, ip, mac string }

// nobody is a hardware address that no device has.
const nobody = "02:00:00:00:00:fe"

// Cables are those of one broker, by what is at their other end.
type Cables struct {
	Catalog, Store, Clients *Cable

	// watch carries /ready, and is never cut.
	watch  *Cable
	holder process
}

// Namespaces says why brokers cannot live in network namespaces here; nil: they can. It takes root, ip and nsenter.
func Namespaces() error {
	for _, name := range []string{"ip", "nsenter", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("network namespaces need %s: %w", name, err)
		}
	}
	if out, err := exec.Command("unshare", "--net", "ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1").CombinedOutput(); err != nil {
		return fmt.Errorf("make a network namespace with a cable in it: %w: %s", err, out)
	}
	return nil
}

// cablesNet is where the addresses are from: RFC 2544 keeps it for tests of networks.
const cablesNet = "198.18.0.0/15"

// newCables makes the namespace and the cables of one broker.
func newCables(ctx context.Context, dir string, id int32) (c *Cables, err error) {
	name := "namespace-" + strconv.Itoa(int(id))
	c = &Cables{}
	// A namespace lives as long as a process in it, and this one as long as we do: nothing is left behind.
	c.holder = process{name: name, path: "unshare", args: []string{"--net", "sleep", "infinity"}, dir: dir, log: filepath.Join(dir, name+".log")}
	if c.holder.path, err = exec.LookPath("unshare"); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	if err := c.holder.start(); err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pid := c.holder.cmd.Process.Pid
	err = c.holder.until(ready, func(context.Context) error {
		own, err1 := os.Readlink("/proc/self/ns/net")
		its, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err := errors.Join(err1, err2); err != nil || own != its {
			return err
		}
		return errors.New("it has no namespace of its own yet")
	})
	if err != nil {
		return nil, err
	}
	if err := inside(pid, "ip", "link", "set", "lo", "up"); err != nil {
		return nil, err
	}
	for i, to := range []**Cable{&c.Catalog, &c.Store, &c.Clients, &c.watch} {
		if *to, err = newCable(pid, i); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// newCable makes the i-th cable to the namespace of a process.
func newCable(pid, i int) (c *Cable, err error) {
	// The process's number makes names and addresses of its own, as far as these reach.
	n := (pid%8192)*4 + i
	_, network, err := net.ParseCIDR(cablesNet)
	if err != nil {
		return nil, err
	}
	base := int(network.IP[2])<<8 + n*4 // networks of four addresses
	address := func(k int) string {
		return fmt.Sprintf("%d.%d.%d.%d", network.IP[0], int(network.IP[1])+base>>16, base>>8&0xff, base&0xff+k)
	}
	c = &Cable{
		pid:    pid,
		host:   end{device: fmt.Sprintf("shc%dh%d", pid, i), ip: address(1), mac: fmt.Sprintf("02:00:%02x:%02x:%02x:01", n>>16&0xff, n>>8&0xff, n&0xff)},
		broker: end{device: fmt.Sprintf("shc%db%d", pid, i), ip: address(2), mac: fmt.Sprintf("02:00:%02x:%02x:%02x:02", n>>16&0xff, n>>8&0xff, n&0xff)},
	}
	h, b := c.host, c.broker
	for _, do := range []func() error{
		func() error {
			return run("ip", "link", "add", h.device, "address", h.mac, "type", "veth", "peer", "name", b.device, "address", b.mac,
				"netns", strconv.Itoa(pid))
		},
		func() error { return run("ip", "addr", "add", h.ip+"/30", "dev", h.device) },
		func() error { return run("ip", "link", "set", h.device, "up") },
		func() error { return inside(pid, "ip", "addr", "add", b.ip+"/30", "dev", b.device) },
		func() error { return inside(pid, "ip", "link", "set", b.device, "up") },
		c.Heal,
	} {
		if err := do(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Cut loses every packet, either way, from now on.
func (c *Cable) Cut() error {
	return errors.Join(c.CutOutgoing(), c.neighbour(nil, c.host, c.broker.ip, nobody))
}

// CutOutgoing loses what the broker sends. It still gets what is sent to it.
func (c *Cable) CutOutgoing() error { return c.neighbour(&c.pid, c.broker, c.host.ip, nobody) }

// Heal ends that.
func (c *Cable) Heal() error {
	return errors.Join(c.neighbour(&c.pid, c.broker, c.host.ip, c.host.mac), c.neighbour(nil, c.host, c.broker.ip, c.broker.mac))
}

// neighbour says at one end which hardware address the other end's address has.
func (*Cable) neighbour(pid *int, at end, ip, mac string) error {
	args := []string{"ip", "neigh", "replace", ip, "lladdr", mac, "dev", at.device, "nud", "permanent"}
	if pid != nil {
		return inside(*pid, args...)
	}
	return run(args...)
}

// each does something to all of them that may be cut.
func (c *Cables) each(do func(*Cable) error) error {
	return errors.Join(do(c.Catalog), do(c.Store), do(c.Clients))
}

// Cut cuts all.
func (c *Cables) Cut() error { return c.each((*Cable).Cut) }

// Heal heals all.
func (c *Cables) Heal() error { return c.each((*Cable).Heal) }

// enter makes a program run inside.
func (c *Cables) enter(p *process) error {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	// It becomes the program: same process, same signals.
	p.args = append([]string{"--net=/proc/" + strconv.Itoa(c.holder.cmd.Process.Pid) + "/ns/net", p.path}, p.args...)
	p.path = nsenter
	return nil
}

func (c *Cables) close() { c.holder.close() }

func inside(pid int, args ...string) error {
	return run(append([]string{"nsenter", "--net=/proc/" + strconv.Itoa(pid) + "/ns/net"}, args...)...)
}

func run(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
