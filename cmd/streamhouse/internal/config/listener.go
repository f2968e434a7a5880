package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultListenerName names the listener of --addr.
const DefaultListenerName = "default"

const (
	maxListeners     = 16
	maxListenerName  = 64
	maxHostNameBytes = 255
)

// Address is a host and a port.
type Address struct {
	Host string // a name or an IP address without brackets; empty or unspecified binds every interface
	Port uint16 // 0 lets the system choose
}

// ParseAddress understands host:port, [v6]:port and :port.
func ParseAddress(s string) (Address, error) {
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		return Address{}, fmt.Errorf("address %q: want HOST:PORT, for example 127.0.0.1:9092 or [::1]:9092", s)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return Address{}, fmt.Errorf("address %q: port %q is not a number from 0 to 65535", s, portText)
	}
	if err := checkHost(host); err != nil {
		return Address{}, fmt.Errorf("address %q: %w", s, err)
	}
	return Address{Host: host, Port: uint16(port)}, nil
}

// parseAdvertised is ParseAddress, but the port may be left out: it is the bound one then.
func parseAdvertised(s string) (Address, error) {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return Address{Host: ip.String()}, nil
	}
	if !strings.Contains(s, ":") {
		if err := checkHost(s); err != nil {
			return Address{}, fmt.Errorf("address %q: %w", s, err)
		}
		return Address{Host: s}, nil
	}
	return ParseAddress(s)
}

func checkHost(host string) error {
	if len(host) > maxHostNameBytes {
		return errors.New("the host name is too long")
	}
	if strings.ContainsAny(host, " \t\r\n/@,=") {
		return fmt.Errorf("%q is not a host name or an IP address", host)
	}
	return nil
}

// String writes host:port, with brackets where they are needed.
func (a Address) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port))) }

// Unspecified reports whether binding it binds every interface.
func (a Address) Unspecified() bool {
	if a.Host == "" {
		return true
	}
	ip, err := netip.ParseAddr(a.Host)
	return err == nil && ip.Unmap().IsUnspecified()
}

// Listener is one address that is bound, and what clients that came through it are told to connect to.
type Listener struct {
	Name       string
	Bind       Address
	Advertised Address // never unspecified after [Flags.Resolve]; Port 0 stands for the port that was bound
	// Guessed is set when the advertised host was taken from an interface, since nobody gave one.
	Guessed bool
}

// WithBoundPort returns the listener with its ports replaced by the one the system bound, where they were 0.
func (l Listener) WithBoundPort(port uint16) Listener {
	if l.Bind.Port == 0 {
		l.Bind.Port = port
	}
	if l.Advertised.Port == 0 {
		l.Advertised.Port = l.Bind.Port
	}
	return l
}

// String writes NAME=BIND@ADVERTISED.
func (l Listener) String() string {
	return l.Name + "=" + l.Bind.String() + "@" + l.Advertised.String()
}

// ParseListener understands NAME=BIND and NAME=BIND@ADVERTISED, for example
// external=0.0.0.0:19092@broker-1.example.com:19092. The advertised port may be left out.
func ParseListener(s string) (Listener, error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok {
		return Listener{}, fmt.Errorf("listener %q: want NAME=BIND@ADVERTISED, for example external=0.0.0.0:19092@localhost:19092", s)
	}
	if err := checkListenerName(name); err != nil {
		return Listener{}, fmt.Errorf("listener %q: %w", s, err)
	}
	bindText, advertisedText, has := strings.Cut(rest, "@")
	bind, err := ParseAddress(bindText)
	if err != nil {
		return Listener{}, fmt.Errorf("listener %q: %w", s, err)
	}
	l := Listener{Name: name, Bind: bind}
	if has {
		if l.Advertised, err = parseAdvertised(advertisedText); err != nil {
			return Listener{}, fmt.Errorf("listener %q: advertised %w", s, err)
		}
		if l.Advertised.Unspecified() {
			return Listener{}, fmt.Errorf("listener %q: %w", s, errUnspecified)
		}
	}
	return l, nil
}

func checkListenerName(name string) error {
	if name == "" || len(name) > maxListenerName {
		return fmt.Errorf("the name must have 1 to %d characters", maxListenerName)
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return fmt.Errorf("the name %q may have letters, digits, _ and - only", name)
		}
	}
	return nil
}

var errUnspecified = errors.New(
	"an address clients are to connect to cannot be unspecified (0.0.0.0 or ::): give a name or an address they can reach")

// resolveListeners fills in what is advertised. interfaces is net.InterfaceAddrs, or a test's.
func resolveListeners(in []Listener, interfaces func() ([]net.Addr, error)) ([]Listener, error) {
	if len(in) > maxListeners {
		return nil, fmt.Errorf("%d listeners: at most %d", len(in), maxListeners)
	}
	names, binds := make(map[string]bool), make(map[Address]string)
	out := make([]Listener, 0, len(in))
	for _, l := range in {
		if names[l.Name] {
			return nil, fmt.Errorf("listener %s: the name is used twice", l.Name)
		}
		names[l.Name] = true
		if other, taken := binds[l.Bind]; taken && l.Bind.Port != 0 {
			return nil, fmt.Errorf("listener %s: %s is bound by listener %s already", l.Name, l.Bind, other)
		}
		binds[l.Bind] = l.Name
		if l.Advertised.Host == "" {
			l.Advertised.Host = l.Bind.Host
			if l.Bind.Unspecified() {
				host, err := reachable(interfaces)
				if err != nil {
					return nil, fmt.Errorf("listener %s binds every interface (%s) and nothing says what to advertise: %w; "+
						"give --advertised-addr HOST:PORT, or --listener %s=%s@HOST:PORT", l.Name, l.Bind, err, l.Name, l.Bind)
				}
				l.Advertised.Host, l.Guessed = host, true
			}
		}
		if l.Advertised.Port == 0 {
			l.Advertised.Port = l.Bind.Port
		}
		if l.Advertised.Unspecified() {
			return nil, fmt.Errorf("listener %s: %w", l.Name, errUnspecified)
		}
		out = append(out, l)
	}
	return out, nil
}

// reachable picks the address of an interface that others can connect to: IPv4 before IPv6, the first of each.
func reachable(interfaces func() ([]net.Addr, error)) (string, error) {
	addrs, err := interfaces()
	if err != nil {
		return "", fmt.Errorf("list network interfaces: %w", err)
	}
	var v6 string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if !ok || !ip.IsGlobalUnicast() { // leaves out loopback, link-local, multicast and unspecified
			continue
		}
		if ip.Is4() {
			return ip.String(), nil
		}
		if v6 == "" {
			v6 = ip.String()
		}
	}
	if v6 == "" {
		return "", errors.New("no network interface has an address that others can reach")
	}
	return v6, nil
}
