package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
)

func init() {
	offer(sectionMembers, (*session).membersCommand)
}

func (s *session) membersCommand() *cli.Command {
	return &cli.Command{
		Name: "members", Usage: "list the members of the etcd cluster, as each answers",
		Description: `Asks this node's etcd for the members, or, if that does not answer, any other member that this node knows: from the manifests of the API server and of etcd, from an API server, or from the data of the stopped etcd. Then it asks all members at once. It works with the API server down, and without quorum, and changes nothing.

BEHIND is how many entries a member has yet to apply of those that are committed; a few are normal while clients write. The node of a member and the API servers that use it come from what the API server has stored in etcd, and from this node's manifests: what nothing shows is left empty. An API server is down if it no longer renews its entry in etcd. If a member does not answer, this node's etcd may have logged since when it has not been connected to it.

The exit code is 0 whatever state the members are in: etcdpod status judges that.`,
		UsageText: `etcdpod members
etcdpod members --endpoints https://10.0.0.12:2379
etcdpod members -o json`,
		Action: s.members,
	}
}

func (s *session) members(c *cli.Context) error {
	var list members.Listing
	err := s.onNode(c, func(n *phases.Node, _ display) (err error) {
		list, err = members.List(c.Context, n.Look)
		return err
	})
	if err != nil {
		return err
	}
	return s.result(c, &list, func(w io.Writer) { writeMembers(w, list) })
}

func writeMembers(w io.Writer, l members.Listing) {
	answer, lead := 0, "no leader is known"
	for _, e := range l.Members {
		if e.Answers {
			answer++
		}
		if e.ID == l.Leader {
			lead = memberCell(e) + " leads"
		}
	}
	fmt.Fprintf(w, "%d of %s; %s\n", answer, count(len(l.Members), "member answers", "members answer"), lead)
	for _, warning := range l.Warnings {
		behind(w, "  ! ", oneLine(warning))
	}
	fmt.Fprintln(w)
	writeMemberTables(w, l.Members)
	if len(l.OtherAPIServers) > 0 {
		fmt.Fprintln(w)
		behind(w, "", "It is not known which members these API servers use: "+serversText(l.OtherAPIServers)+".")
	}
}

// writeMemberTables writes what members say, and below it where they are; where that is too wide,
// all that is known of each in one paragraph.
func writeMemberTables(w io.Writer, all []members.Entry) {
	says := [][]string{{"MEMBER", "ROLE", "ANSWERS", "VERSION", "SIZE", "APPLIED", "BEHIND", "ALARMS", "NODE",
		"API SERVERS"}}
	at := [][]string{{"MEMBER", "ID", "PEER URLS", "CLIENT URLS"}}
	whole := [][]string{append(slices.Clone(says[0]), at[0][1:]...)}
	for _, e := range all {
		row := memberRow(e)
		urls := []string{e.ID, orDash(strings.Join(e.PeerURLs, ",")), orDash(strings.Join(e.ClientURLs, ","))}
		says, at = append(says, row), append(at, append([]string{orDash(e.Name)}, urls...))
		whole = append(whole, append([]string{memberCell(e)}, append(slices.Clone(row[1:]), urls...)...))
	}
	if slices.Contains(silent(says), "ALARMS") {
		says = without(says, "ALARMS") // there are none
	}
	says, fits := narrowed(says, widthOf(w), "APPLIED", "SIZE")
	if !fits || widthOf(w) > 0 && widest(at) > widthOf(w) {
		tableWithin(w, whole, widthOf(w))
		return
	}
	aligned(w, says)
	fmt.Fprintln(w)
	aligned(w, at)
}

// memberCell is what to call a member: one that has never started has no name.
func memberCell(e members.Entry) string { return cmp.Or(e.Name, e.ID) }

func memberRow(e members.Entry) []string {
	row := []string{orDash(e.Name), e.Role, yesNo(e.Answers), "-", "-", "-", "-"}
	if !e.Started {
		row[1] = "never started"
	}
	if e.Answers {
		row[3], row[4], row[5] = e.Version, engine.Size(e.SizeBytes), fmt.Sprint(e.AppliedIndex)
	}
	if e.Behind != nil {
		row[6] = fmt.Sprint(*e.Behind)
	}
	return append(row, orDash(strings.Join(e.Alarms, ",")), orDash(e.Node), orDash(serversText(e.APIServers)))
}

func orDash(text string) string { return cmp.Or(text, "-") }

// serversText names API servers by their nodes.
func serversText(servers []members.APIServer) string {
	return strings.Join(each(servers, func(a members.APIServer) string {
		name := cmp.Or(a.Node, a.Address, "one on an unknown node")
		if a.Alive != nil && !*a.Alive {
			name += " (down)"
		}
		return name
	}), ", ")
}
