package node

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Connected returns the addresses connected to a TCP port of this host, as the kernel lists them in
// /proc/net/tcp and tcp6 (proc(5)): addresses in hex, each 32-bit word in the host's byte order,
// here little-endian; state 01 is established.
func Connected(port uint16) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list the connections: %w", err)
		}
		all = append(all, connectedIn(string(data), port)...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

func connectedIn(list string, port uint16) (all []netip.Addr) {
	const established = "01"
	for _, line := range strings.Split(list, "\n") {
		f := strings.Fields(line)
		if len(f) < 4 || f[3] != established {
			continue
		}
		if _, local, ok := parseSocket(f[1]); !ok || local != port {
			continue
		}
		if from, _, ok := parseSocket(f[2]); ok {
			all = append(all, from)
		}
	}
	return all
}

// parseSocket reads 0100007F:0CEA.
func parseSocket(text string) (addr netip.Addr, port uint16, ok bool) {
	host, p, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(p, 16, 16)
	raw, hexErr := hex.DecodeString(host)
	if err != nil || hexErr != nil || len(raw)%4 != 0 {
		return addr, 0, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	addr, ok = netip.AddrFromSlice(raw)
	return addr.Unmap(), uint16(n), ok
}
