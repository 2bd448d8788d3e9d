package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/members"
)

func init() {
	offer(sectionMembers, (*session).moveLeaderCommand, (*session).setPeerURLCommand)
}

func (s *session) moveLeaderCommand() *cli.Command {
	return &cli.Command{
		Name: "members move-leader", ArgsUsage: "[MEMBER]", Usage: "have another member lead",
		Description: `Has the leader hand over to MEMBER (its ID, its name, or one of its URLs), or, without MEMBER, to the voter that is most in step with it, and waits until all members that answer see the new leader. If MEMBER leads already, nothing is done.

It refuses a learner, a member that does not answer, and one that does not catch up with what the leader has committed; and all while no quorum answers, no leader is known, or an alarm is raised. It can be run on any control plane from which the leader can be reached.

For about 0.1 s, writes through the old leader may fail. There is no need to run it before a node is rebooted or its etcd stopped in an orderly way: an etcd that is stopped hands over by itself. Before it moves the leader it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod members move-leader --dry-run
etcdpod members move-leader cp2
etcdpod members move-leader 8e9e05c52164694d --yes`,
		Action: s.moveLeader,
	}
}

// changes is a command that changes the cluster by one request, which leaves nothing on this node.
type changes interface {
	Already() bool // there is nothing to do
	Stakes() engine.Stakes
}

// changeCluster does what a command planned, after a yes.
func (s *session) changeCluster(
	c *cli.Context, plan func(*phases.Node) (changes, error), found func() []string, do func(*phases.Node) error,
) error {
	if err := s.asRoot(c); err != nil {
		return err
	}
	dryRun := c.Bool("dry-run")
	if !dryRun {
		if err := s.mayAsk(c); err != nil {
			return err
		}
	}
	return s.onNode(c, func(n *phases.Node, show display) error {
		planned, err := plan(n)
		if err != nil || dryRun || planned.Already() {
			return err
		}
		if err := s.confirm(c, show, func(w io.Writer) {
			writeLines(w, found(), s.width())
			writeStakes(w, planned.Stakes(), s.width())
		}); err != nil {
			return err
		}
		return do(n)
	})
}

func (s *session) moveLeader(c *cli.Context) error {
	var move *members.Move
	err := s.changeCluster(c, func(n *phases.Node) (_ changes, err error) {
		move, err = members.PlanMove(c.Context, n.Look, c.Args().First())
		return move, err
	}, func() []string {
		return append([]string{moveText(move)}, move.Notes...)
	}, func(n *phases.Node) error { return move.Carry(c.Context, n.Engine()) })
	if err != nil {
		return err
	}
	s.done(c, move, func(w io.Writer) {
		switch {
		case move.Already():
			fmt.Fprintf(w, "Nothing to do: %s leads already.\n", refText(move.To))
		case move.Moved:
			fmt.Fprintf(w, "%s leads now, as all members see that answer; before, %s did. It took %s.\n",
				refText(move.To), refText(move.From), short(engine.Seconds(move.Seconds)))
		default:
			writeLines(w, append([]string{moveText(move)}, move.Notes...), s.width())
			writeStakes(w, move.Stakes(), s.width())
			fmt.Fprintf(w, "\nNothing was changed. Without --dry-run, %s does the above.\n", c.Command.Name)
		}
	})
	return nil
}

func moveText(m *members.Move) string {
	return fmt.Sprintf("%s leads; %s is in step with it, and is to lead", refText(m.From), refText(m.To))
}

// refText is what to call a member, with its ID.
func refText(m members.MemberRef) string {
	if m.Name == "" {
		return m.ID
	}
	return fmt.Sprintf("%s (%s)", m.Name, m.ID)
}

func (s *session) setPeerURLCommand() *cli.Command {
	return &cli.Command{
		Name: "members set-peer-url", ArgsUsage: "MEMBER URL",
		Usage: "change the URL at which the other members reach one",
		Description: `Sets the peer URL that the cluster lists for MEMBER (its ID, its name, or one of its URLs). It replaces all that the member had; several are given with commas between them. The result has the command that undoes it.

It refuses what etcd does not take for a peer URL, a URL that another member has, one at which every host reaches itself, one at which the member does not listen, as far as its manifest or its stored pod shows, and one at which an etcd answers that does not know the member. If nothing answers at the URL, it refuses unless the others are a quorum without the member. It refuses to touch a learner unless all members are known to run at least etcd 3.5.31 or 3.6.12: older ones would list it as a voter.

The order for a new address: let the member listen at both (--listen-peer-urls in its manifest), with a certificate for both; run this command; then set --initial-advertise-peer-urls and remove the old address. Before it changes anything it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod members set-peer-url cp1 https://10.0.0.11:2380 --dry-run
etcdpod members set-peer-url 8e9e05c52164694d https://10.0.0.11:2380 --yes`,
		Action: s.setPeerURL,
	}
}

func (s *session) setPeerURL(c *cli.Context) error {
	var change *members.PeerChange
	err := s.changeCluster(c, func(n *phases.Node) (_ changes, err error) {
		change, err = members.PlanPeerURL(c.Context, n.Look, c.Args().Get(0), c.Args().Get(1))
		return change, err
	}, func() []string {
		return append([]string{peerText(change)}, change.Notes...)
	}, func(n *phases.Node) error { return change.Carry(c.Context, n.Engine()) })
	if err != nil {
		return err
	}
	s.done(c, change, func(w io.Writer) {
		after := strings.Join(change.After, ",")
		switch {
		case change.Already():
			fmt.Fprintf(w, "Nothing to do: the other members reach %s at %s already.\n", refText(change.Member), after)
		case change.Changed:
			fmt.Fprintf(w, "The other members reach %s at %s now; before, it was %s.\n", refText(change.Member), after,
				strings.Join(change.Before, ","))
			if follows := change.Manifest(); follows != "" {
				behind(w, "Next: ", follows)
			}
			fmt.Fprintf(w, "To undo it, run `%s`.\n", change.Undo())
		default:
			writeLines(w, append([]string{peerText(change)}, change.Notes...), s.width())
			writeStakes(w, change.Stakes(), s.width())
			fmt.Fprintf(w, "\nNothing was changed. Without --dry-run, %s does the above.\n", c.Command.Name)
		}
	})
	return nil
}

func peerText(p *members.PeerChange) string {
	return fmt.Sprintf("the other members reach %s at %s, and are to reach it at %s", refText(p.Member),
		strings.Join(p.Before, ","), strings.Join(p.After, ","))
}
