package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// readPairs is a program's start, at which it reads its certificates once and for all: the worst
// that a program can do. A program whose certificate and key do not match does not start.
func (m *Machine) readPairs(c *container) bool {
	c.holds = map[string]string{}
	for _, base := range m.Pairs[c.Name] {
		cert, key := string(m.Peek(base+".crt")), string(m.Peek(base+".key"))
		if !strings.HasPrefix(cert, "cert ") || strings.TrimPrefix(cert, "cert ") != strings.TrimPrefix(key, "key ") {
			return false
		}
		c.holds[base+".crt"] = cert
	}
	return true
}

// Stale lists the certificates that running programs hold and that differ from their files.
func (m *Machine) Stale() []string {
	m.tick()
	var stale []string
	for _, c := range m.containers {
		for file, held := range c.holds {
			if now := string(m.Peek(file)); c.State == "running" && now != held {
				stale = append(stale, fmt.Sprintf("%s holds %q, and %s is %q", c.Name, held, file, now))
			}
		}
	}
	return stale
}

// Certificates makes certificates with numbers to tell them apart: "cert 3" belongs to "key 3".
type Certificates struct{ M *Machine }

// Issue makes the next one.
func (c Certificates) Issue(context.Context, op.Issuance) (cert, key []byte, err error) {
	c.M.issued++
	return fmt.Appendf(nil, "cert new%d", c.M.issued), fmt.Appendf(nil, "key new%d", c.M.issued), nil
}

// Request does the same as Issue.
func (c Certificates) Request(ctx context.Context, i op.Issuance) (csr, key []byte, err error) {
	return c.Issue(ctx, i)
}

// Serves compares the file with what the running etcd holds.
func (c Certificates) Serves(_ context.Context, _ string, _ op.Access, file string) error {
	etcd := c.M.running("etcd")
	if etcd == nil {
		return errors.New("connection refused")
	}
	if etcd.holds[file] != string(c.M.Peek(file)) {
		return errors.New("it presents another one")
	}
	return nil
}

// PowerOn restarts all programs, with these certificates.
func (m *Machine) PowerOn(pairs map[string][]string) {
	m.Pairs = pairs
	for _, c := range m.containers {
		m.end(c)
	}
	m.containers, m.idle = nil, nil
	m.tick()
}
