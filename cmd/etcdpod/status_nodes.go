package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/status"
	"github.com/etcdpod/etcdpod/phases/together"
)

// statusOfNodes is status of several nodes.
func (s *session) statusOfNodes(c *cli.Context) error {
	nodes, err := together.ParseNodes(c.StringSlice("nodes"))
	if err != nil {
		return err
	}
	var seen status.NodesStatus
	err = s.onNode(c, func(n *phases.Node, _ display) (err error) {
		seen, err = status.OfNodes(c.Context, n.Several(), nodes, c.String("ssh-command"), c.String("remote-command"))
		return err
	})
	if err != nil {
		return err
	}
	for i, warning := range seen.Warnings {
		seen.Warnings[i] = oneLine(warning)
	}
	if err := s.result(c, &seen, func(w io.Writer) { writeNodes(w, seen) }); err != nil {
		return err
	}
	if len(seen.Warnings) > 0 {
		return foundError(exitFoundWrong)
	}
	return nil
}

func writeNodes(w io.Writer, st status.NodesStatus) {
	rows := [][]string{
		{"NODE", "MEMBER", "ROLE", "VERSION", "REVISION", "HASHKV", "SIZE", "IN USE", "CERTIFICATES", "STATE"},
	}
	for _, n := range st.Nodes {
		rows = append(rows, nodeRow(n))
	}
	table(w, rows)
	if len(st.Warnings) > 0 {
		fmt.Fprintln(w)
	}
	for _, warning := range st.Warnings {
		fmt.Fprintf(w, "! %s\n", oneLine(warning))
	}
}

func nodeRow(n status.NodeStatus) []string {
	if n.Status == nil {
		return []string{n.Node, "-", "-", "-", "-", "-", "-", "-", "-", "cannot be asked"}
	}
	row := []string{n.Node, "-", "-", "-", "-", "-", "-", "-"}
	if m := n.Status.Member; m != nil {
		row = []string{n.Node, m.ID, roleOf(m), m.Version, fmt.Sprint(m.Revision),
			cmp.Or(n.HashKV, "-"), size(m.SizeBytes), size(m.InUseBytes)}
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

func stateText(st *status.Status) string {
	var words []string
	if r := st.OpenRun; r != nil {
		words = append(words, fmt.Sprintf("%s %s, in %s", r.ID, r.State, r.Phase))
	}
	if st.Kubelet != "running" {
		words = append(words, "kubelet "+st.Kubelet)
	}
	if st.Member == nil && st.Problem != "" {
		words = append(words, "etcd does not answer")
	}
	if len(words) == 0 {
		return "serves"
	}
	return strings.Join(words, "; ")
}
