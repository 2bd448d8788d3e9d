package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/members"
)

func init() {
	offer(sectionMembers, (*session).joinCommand)
	offerAll(sectionMembers, (*session).joinPhaseCommands)
}

func (s *session) joinCommand() *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "add this node to a cluster as an etcd member",
		Description: `Stands in for kubeadm's etcd phases on a further control plane, and leaves what kubeadm would: the certificates, signed by the existing CA, etcd's manifest with all members in it, and its data directory. The node is added as a learner, which does not vote; once its etcd has started and caught up with the leader, it is promoted.

etcd's CA must be on the node (etcd/ca.crt and etcd/ca.key, as kubeadm join --control-plane --certificate-key brings them; with an external CA, the certificates themselves). The members come from --endpoints, else from kubeadm's annotation of etcd's pods, if an API server answers, else from the manifests of the API server or of etcd on this node. How etcd is configured comes from what the cluster keeps, if an API server answers, else from the ClusterConfiguration in the file.

Before anything is touched, the command refuses: a cluster without quorum, voting members that do not answer, another node that is joining, a name that is taken, alarms, an etcd older than the cluster's, another CA, a data directory that is someone else's, ports that are in use. What an earlier attempt left half-done, whether by etcdpod or by kubeadm, is continued, or removed and added again. On a node that has joined, it changes nothing.

A failure or an interrupt undoes everything: the learner leaves the cluster, and what its etcd has written is kept. After a crash, etcdpod resume finishes the run, or etcdpod rollback undoes it; once the member votes, it can only be finished.

Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod join --dry-run
etcdpod join --config kubeadm.yaml --yes
etcdpod join --config kubeadm.yaml --endpoints https://10.0.0.11:2379,https://10.0.0.12:2379 --yes`,
		Flags:  append(joinFlags(), waitFlag(), skipPhasesFlag(members.Join(members.JoinOptions{}).Optional())),
		Action: s.make(func(c *cli.Context) (phases.Workflow, error) { return joinWorkflow(c, "") }),
	}
}

// joinPhaseCommands returns one command for each phase.
func (s *session) joinPhaseCommands() []*cli.Command {
	var commands []*cli.Command
	for _, p := range members.JoinPhases() {
		flags := joinFlags()
		if !slices.Contains([]string{"preflight", "certs", "render-etcd"}, p.Name) {
			flags = append(flags, waitFlag())
		}
		commands = append(commands,
			s.phaseCommand("join phase "+p.Name, p.Short, joinPhaseText(p.Name), flags,
				func(c *cli.Context) (phases.Workflow, error) { return joinWorkflow(c, p.Name) }))
	}
	return commands
}

// joinPhaseText is what a person must know when running one phase alone.
func joinPhaseText(phase string) string {
	const run = `One phase of etcdpod join, as a separate run: it can be previewed, resumed and rolled back.`
	switch phase {
	case "certs":
		return run + ` It needs no kubelet, container runtime or members. The CA must exist: one created here would ` +
			`not be the cluster's.`
	case "add-learner":
		return run + ` It needs the members and the certificates. etcd takes one learner at a time: continue with ` +
			`the other phases soon.`
	case "render-etcd":
		return run + ` It needs the members, which go into the manifest, but no kubelet or container runtime. Add ` +
			`the learner first: an etcd that the members do not know exits at once. If a kubelet runs, it starts etcd.`
	case "promote-learner":
		return run + ` It waits until the learner has caught up with the leader. A vote can only be taken away by ` +
			`removing the member.`
	case "wire-apiserver":
		return run + ` If the directory has no API server manifest yet, it does nothing. An API server that already ` +
			`uses members of the cluster is left unchanged.`
	case "preflight":
		return run + ` It changes nothing.`
	}
	return run
}

// joinFlags are init's, without those that the cluster decides.
func joinFlags() []cli.Flag {
	return slices.DeleteFunc(initFlags(), func(f cli.Flag) bool {
		return slices.Contains([]string{"kubernetes-version", "image-repository", "cert-dir"}, f.Names()[0])
	})
}

func joinWorkflow(c *cli.Context, phase string) (phases.Workflow, error) {
	o := members.JoinOptions{InitOptions: initOptions(c)}
	if phase == "" {
		return members.Join(o).Without(c.StringSlice("skip-phases"))
	}
	return members.JoinPhase(o, phase)
}
