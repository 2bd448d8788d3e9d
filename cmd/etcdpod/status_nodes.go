package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/status"
	"github.com/etcdpod/etcdpod/phases/together"
)

// statusOfNodes is status of several nodes.
func (s *session) statusOfNodes(c *cli.Context) error {
	nodes, err := together.ParseNodes(c.StringSlice("nodes"))
	if err != nil {
		return err
	}
	dir := "" // a variable of this node's is not for the others
	if s.line.typed["dir"] {
		dir = c.String("dir")
	}
	var seen status.NodesStatus
	err = s.onNode(c, func(n *phases.Node, _ display) (err error) {
		o := statusOptions(c, dir)
		o.LastOf = s.lastLook
		seen, err = status.OfNodes(c.Context, n.Several(), o, nodes, c.String("ssh-command"),
			c.String("remote-command"))
		s.lastLook = seen.Last()
		return err
	})
	if err != nil {
		return err
	}
	seen.Next = oneLine(seen.Next)
	if asPrometheus(c) {
		err = s.metrics(func(m *metrics) { m.ofNodes(seen, time.Now()) }, seen.Findings)
	} else {
		err = s.result(c, &seen, func(w io.Writer) { writeNodes(w, seen, columns(s.stdout)) })
	}
	return orFound(err, seen.Warnings)
}

// writeNodes writes a table where it fits into width; 0: whatever its width.
func writeNodes(w io.Writer, st status.NodesStatus, width int) {
	fmt.Fprintln(w, nodesHeadline(st))
	writeQuorum(w, st.Quorum)
	for _, warning := range st.Warnings {
		behind(w, "  ! ", oneLine(warning))
	}
	fmt.Fprintln(w)
	rows := [][]string{
		{"NODE", "MEMBER", "ROLE", "VERSION", "REVISION", "HASHKV", "SIZE", "IN USE", "CERTIFICATES", "STATE"},
	}
	for _, n := range st.Nodes {
		rows = append(rows, nodeRow(n))
	}
	tableWithin(w, rows, width, "MEMBER", "IN USE", "SIZE")
	if st.Next != "" {
		fmt.Fprintln(w)
		writeNext(w, st.Next)
	}
}

func nodesHeadline(st status.NodesStatus) string {
	serve, of, state := 0, len(st.Nodes), ""
	for _, n := range st.Nodes {
		switch {
		case n.Status == nil:
		case n.Status.WithoutEtcd():
			of--
		case n.Status.OpenRun != nil:
			state = runHeadline(n.Status.OpenRun)
		case state == "" && n.Status.Member != nil && n.Status.Member.NoQuorum:
			state = "etcd has no quorum"
		case stateText(n.Status) == serves:
			serve++
		}
	}
	switch {
	case state != "":
	case of == 0:
		state = "no node runs etcd"
	default:
		state = fmt.Sprintf("%d of %s", serve, count(of, "node serves", "nodes serve"))
	}
	return state + "; " + attention(len(st.Warnings))
}

func nodeRow(n status.NodeStatus) []string {
	if n.Status == nil {
		return []string{n.Node, "-", "-", "-", "-", "-", "-", "-", "-", "cannot be queried"}
	}
	row := []string{n.Node, "-", "-", "-", "-", "-", "-", "-"}
	if m := n.Status.Member; m != nil {
		row = []string{n.Node, m.ID, roleOf(m), m.Version, fmt.Sprint(m.Revision),
			cmp.Or(n.HashKV, "-"), engine.Size(m.SizeBytes), engine.Size(m.InUseBytes)}
	}
	return append(row, certificatesText(n.Status), stateText(n.Status))
}

// certificatesText says how long the first certificate to expire is still valid.
func certificatesText(st *status.Status) string {
	least := -1
	for _, c := range st.Certificates {
		switch {
		case c.Problem != "":
			return "bad"
		case least < 0 || c.DaysLeft < least:
			least = c.DaysLeft
		}
	}
	if least < 0 {
		return "-"
	}
	return count(least, "day", "days")
}

const serves = "serves"

func stateText(st *status.Status) string {
	var words []string
	if r := st.OpenRun; r != nil {
		words = append(words, fmt.Sprintf("run %s, in %s", r.State, r.Phase))
	}
	switch st.Kubelet {
	case "running":
	case "stopped":
		words = append(words, "kubelet stopped")
	default: // why, a warning says
		words = append(words, "kubelet unknown")
	}
	switch {
	case st.Member != nil && st.Member.NoQuorum:
		words = append(words, "no quorum")
	case st.Member != nil && st.Problem != "":
		words = append(words, "does not serve")
	case st.Problem != "":
		words = append(words, "etcd does not answer")
	case st.WithoutEtcd():
		words = append(words, "runs no etcd")
	case st.Member == nil && st.OpenRun == nil:
		words = append(words, "etcd was not queried")
	}
	if len(words) == 0 {
		return serves
	}
	return strings.Join(words, "; ")
}
