package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/etcdpod/etcdpod/phases"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func init() {
	offer(sectionMembers, (*session).initCommand)
	offerAll(sectionMembers, (*session).initPhaseCommands)
}

func (s *session) initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "create a cluster's first etcd member, from certificates to an etcd that serves",
		Description: `Stands in for kubeadm's etcd phases, and leaves what kubeadm would: etcd's CA and the certificates it signs, the API server's certificate for etcd, etcd's manifest and its data directory, byte for byte wherever kubeadm is deterministic. It reads kubeadm's own configuration file, or uses kubeadm's defaults. Unlike kubeadm, it checks ports, addresses, the quota, the data directory and the clock before anything starts.

Whatever exists and is good stays: run again, init changes nothing. Whatever exists and does not match is refused, with what differs; nothing is ever overwritten. A failure or an interrupt undoes everything. After a crash, etcdpod resume finishes the run, or etcdpod rollback undoes it; once etcd serves, it can only be finished.

If kubeadm has not written the API server's manifest yet, there is nothing to do for it. An existing manifest gets the etcd flags that kubeadm would write. If it reaches the cluster with other flags, they stay, since apiserver set may have written them, and init says what kubeadm would write; only what apiServer.extraArgs names is changed. An API server that uses another cluster's etcds is refused: it would no longer see any of its objects.

etcd is only created with TLS, and with client certificates required from clients and peers: arguments, variables and patches that would change this are refused.

The kubelet must be running: it starts etcd. When kubeadm starts the kubelet later, run the phases one by one: etcdpod init phase certs, and etcdpod init phase render-etcd.

Before it changes a running node it asks; without a terminal, --yes is needed.`,
		UsageText: `etcdpod init --config kubeadm.yaml --dry-run
etcdpod init --config kubeadm.yaml --yes`,
		Flags:  append(initFlags(), waitFlag(), skipPhasesFlag(members.Init(members.InitOptions{}).Optional())),
		Action: s.make(func(c *cli.Context) (phases.Workflow, error) { return initWorkflow(c, "") }),
	}
}

// initPhaseCommands returns one command for each phase.
func (s *session) initPhaseCommands() []*cli.Command {
	var commands []*cli.Command
	for _, p := range members.InitPhases() {
		flags := initFlags()
		if p.Name == "await-etcd" {
			flags = append(flags, waitFlag())
		}
		commands = append(commands,
			s.phaseCommand("init phase "+p.Name, p.Short, initPhaseText(p.Name), flags,
				func(c *cli.Context) (phases.Workflow, error) { return initWorkflow(c, p.Name) }))
	}
	return commands
}

// phaseCommand carries out one phase of a workflow, as a run of its own.
func (s *session) phaseCommand(
	name, short, text string, flags []cli.Flag, workflow func(*cli.Context) (phases.Workflow, error),
) *cli.Command {
	return &cli.Command{
		Name: name, Usage: short, Description: text, UsageText: "etcdpod " + name + " --config kubeadm.yaml --yes",
		Flags: flags, Action: s.make(workflow),
	}
}

// initPhaseText is what a person must know when running one phase alone.
func initPhaseText(phase string) string {
	const run = `One phase of etcdpod init, as a separate run: it can be previewed, resumed and rolled back.`
	switch phase {
	case "certs":
		return run + ` It needs no kubelet, container runtime or API server; with --root it works on an empty ` +
			`directory, without root. The CA is created if both its certificate and its key are missing; a ` +
			`certificate alone means an external CA, and then all others must exist: see certs generate-csr. Good ` +
			`files stay; nothing is overwritten.`
	case "render-etcd":
		return run + ` It needs no kubelet, container runtime, API server or certificates; with --root it works on ` +
			`an empty directory, without root. An existing manifest stays if it is what would be written; otherwise ` +
			`it is refused, with the lines that differ. If a kubelet runs, it starts etcd at once: create the ` +
			`certificates first.`
	case "wire-apiserver":
		return run + ` If the directory has no API server manifest yet, it does nothing. An API server that reaches ` +
			`the cluster keeps its flags, except those that apiServer.extraArgs names; if etcd does not answer, a ` +
			`list of several etcds that includes this one stays.`
	case "preflight":
		return run + ` It changes nothing.`
	}
	return run
}

func initFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "read kubeadm's configuration from `FILE`"},
		&cli.BoolFlag{Name: "allow-experimental-api",
			Usage: "also accept kubeadm.k8s.io/v1, as kubeadm does with this flag"},
		&cli.StringFlag{Name: "node-name", DefaultText: "this host's name", Usage: "use `NAME` for the member"},
		&cli.StringFlag{Name: "apiserver-advertise-address", DefaultText: "that of the default route",
			Usage: "reach the member at `ADDRESS`, like the API server"},
		&cli.StringFlag{Name: "kubernetes-version", Usage: "render for Kubernetes `VERSION`, such as v1.37.2"},
		&cli.StringFlag{Name: "image-repository", DefaultText: "registry.k8s.io",
			Usage: "pull etcd's image from `REPOSITORY`"},
		&cli.StringFlag{Name: "cert-dir", DefaultText: "/etc/kubernetes/pki",
			Usage: "keep certificates below the directory `DIR`"},
		&cli.StringFlag{Name: "patches", Usage: "take kubeadm's patches from the directory `DIR`"},
	}
}

func waitFlag() cli.Flag {
	return &cli.DurationFlag{Name: "wait-timeout",
		DefaultText: "the configuration's controlPlaneComponentHealthCheck, 4m0s",
		Usage:       "give etcd `TIME` to start serving; most of it may go into pulling the image"}
}

// skipPhasesFlag takes the names of phases that may be left out.
func skipPhasesFlag(optional []string) cli.Flag {
	return &cli.StringSliceFlag{Name: "skip-phases", Usage: "skip the phases `NAMES` (comma-separated); these can be " +
		"skipped: " + strings.Join(optional, ", ")}
}

// make carries out a workflow that creates what is missing, or one phase of it.
func (s *session) make(of func(*cli.Context) (phases.Workflow, error)) cli.ActionFunc {
	return func(c *cli.Context) error {
		workflow, err := of(c)
		if err != nil {
			return err
		}
		return s.carryOut(c, change{
			workflow: workflow, said: "Done by run %s.",
			unchanged: fmt.Sprintf("Nothing to do: everything that %s creates exists already, and is "+
				"good.", c.Command.Name),
		})
	}
}

func initWorkflow(c *cli.Context, phase string) (phases.Workflow, error) {
	o := initOptions(c)
	if phase == "" {
		return members.Init(o).Without(c.StringSlice("skip-phases"))
	}
	return members.InitPhase(o, phase)
}

func initOptions(c *cli.Context) members.InitOptions {
	return members.InitOptions{KubeadmOptions: kubeadmOptions(c),
		WaitTimeout: max(c.Duration("wait-timeout"), time.Duration(0))}
}

func kubeadmOptions(c *cli.Context) observe.KubeadmOptions {
	return observe.KubeadmOptions{
		Config: c.String("config"), AllowExperimentalAPI: c.Bool("allow-experimental-api"),
		NodeName: c.String("node-name"), AdvertiseAddress: c.String("apiserver-advertise-address"),
		KubernetesVersion: c.String("kubernetes-version"),
		ImageRepository:   c.String("image-repository"), CertificatesDir: c.String("cert-dir"),
		PatchesDir: c.String("patches"),
	}
}
