package workflows

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
)

// defragmented is what programs read of `defrag -o json`.
type defragmented struct {
	Members []struct {
		Name, Node, Role, State, Reason, PredictedFrom string
		SizeBytes, QuotaBytes, PredictedBytes          int64
		AfterBytes                                     int64
		APIServers                                     []struct{ Node string }
	}
	Notes []string
}

// states are those of the members, in their order.
func (d defragmented) states() string {
	var all []string
	for _, m := range d.Members {
		all = append(all, m.State)
	}
	return strings.Join(all, " ")
}

func (c *cluster) defrag(on, args string) (d defragmented) {
	c.t.Helper()
	must(c.t, json.Unmarshal([]byte(c.typed(on, "etcdpod defrag -o json "+args, 0)), &d))
	return d
}

func TestTheMembersGiveSpaceBackOneAfterTheOther(t *testing.T) {
	c := startTogether(t)
	must(t, c.WaitReady(c.ctx))
	before, first := c.states(), c.leads()

	c.typed("cp1", "etcdpod defrag", 2, "needs confirmation and there is no terminal")
	c.typed("cp2", "etcdpod defrag --dry-run", 0, "API SERVERS", "due", "Lost:", "the API server on cp2",
		"Nothing was changed")
	d := c.defrag("cp1", "--dry-run")
	for _, m := range d.Members {
		// Which members the others' API servers use, nothing shows here.
		hit := len(m.APIServers) == 1 && m.APIServers[0].Node == m.Name
		if m.State != "due" || m.Node != m.Name || hit != (m.Name == "cp1") || m.PredictedFrom != "entries" ||
			m.QuotaBytes != 2<<30 || (m.Role == "leader") != (m.Name == first) {
			t.Errorf("%+v", m)
		}
	}
	if d = c.defrag("cp1", "--yes --when 'dbQuotaUsage > 0.8'"); d.states() != "passed-over passed-over passed-over" ||
		!strings.Contains(d.Members[0].Reason, "the rule is false") {
		t.Errorf("%+v", d)
	}
	if d = c.defrag("cp2", "--yes --nodes cp3"); d.states() != "passed-over passed-over defragmented" {
		t.Errorf("%+v", d)
	}
	if d = c.defrag("cp2", "--yes"); d.states() != "defragmented defragmented defragmented" {
		t.Errorf("%+v", d)
	}
	for _, m := range d.Members {
		if off := m.AfterBytes - m.PredictedBytes; max(off, -off) > m.AfterBytes/10+64<<10 {
			t.Errorf("%s was to have %d bytes, and has %d", m.Name, m.PredictedBytes, m.AfterBytes)
		}
	}

	// As in a pod: nothing but endpoints and certificates.
	cp1 := c.nodes[0]
	access := fmt.Sprintf("--root %s --endpoints https://%s", t.TempDir(),
		net.JoinHostPort(cp1.Address, strconv.Itoa(cp1.Ports.EtcdClient)))
	for flag, file := range map[string]string{"cacert": "ca.crt", "cert": "healthcheck-client.crt",
		"key": "healthcheck-client.key"} {
		access += fmt.Sprintf(" --%s %s", flag, cp1.Path("/etc/kubernetes/pki/etcd/"+file))
	}
	if d = c.defrag("cp1", "--yes "+access); d.states() != "defragmented defragmented defragmented" ||
		d.Members[0].PredictedFrom != "in-use" {
		t.Errorf("with endpoints alone: %+v", d)
	}

	if now := c.leads(); now != first {
		t.Errorf("%s leads now, and %s did", now, first)
	}
	c.wantAsBefore(before)
	c.typed("cp1", "etcdpod runs", 0, "Nothing has been run")

	c.nodes[2].stopEtcd()
	c.typed("cp1", "etcdpod defrag --yes", 5, "cannot defragment: cp3 is down")
}
