// Command cluster runs a kubeadm control plane on this machine, for manual use.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/e2e/rig"
)

const usage = `usage: cluster up [--name NAME] [--nodes N] [--etcd VERSION]   start a cluster, on machines that can have
                [--containerd VERSION] [--disk xfs|btrfs]     another containerd, /var/lib on a disk of its
                [--systemd]                                    own, and systemd itself as first process
       cluster exec [--name NAME] [--node N] [COMMAND...]       run a command, or a shell, on a node
       cluster reboot [--name NAME] [--node N]                  pull a node's plug, and start it again
       cluster down [--name NAME]                               end it, and remove all that it has
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong usage")

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	name := flags.String("name", "rig", "name of the cluster")
	nodes := flags.Int("nodes", 1, "control-plane nodes")
	etcd := flags.String("etcd", "", "version of etcd")
	var machine rig.Machine
	flags.StringVar(&machine.Containerd, "containerd", "", "version of containerd, instead of the host's")
	flags.StringVar(&machine.FileSystem, "disk", "", "file system of a disk for /var/lib")
	flags.BoolVar(&machine.Systemd, "systemd", false, "systemd is the first process")
	number := flags.Int("node", 1, "which node")
	if err := flags.Parse(args[1:]); err != nil {
		return errUsage
	}
	if args[0] == "up" {
		return up(ctx, rig.Options{Name: *name, Nodes: *nodes, EtcdVersion: *etcd, Machine: machine})
	}
	dir, err := rig.Dir(*name)
	if err != nil {
		return err
	}
	c, err := rig.Attach(dir)
	if err != nil {
		return err
	}
	if *number < 1 || *number > len(c.Nodes) {
		return fmt.Errorf("there is no node %d: cluster %s has %d", *number, c.Name, len(c.Nodes))
	}
	node := c.Node(*number - 1)
	switch args[0] {
	case "down":
		return c.Down(ctx)
	case "exec":
		return enter(c, node, flags.Args())
	case "reboot":
		return node.Reboot(ctx)
	}
	return errUsage
}

func up(ctx context.Context, o rig.Options) error {
	start := time.Now()
	c, err := rig.Up(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("Cluster %s works, after %s.\n\n", c.Name, time.Since(start).Round(time.Second))
	for i, n := range c.Nodes {
		fmt.Printf("%s  %s  %s\n  a shell there:   sudo go run ./e2e/rig/cluster exec --name %s --node %d\n"+
			"  a power failure: sudo go run ./e2e/rig/cluster reboot --name %[4]s --node %[5]d\n",
			n.Name, n.Address, n.Dir, c.Name, i+1)
	}
	fmt.Printf(`
A kubeconfig that also works on this host:
  %s

To play, with bin/etcdpod on the PATH of every node (make build), in the shell on %s:
%s
The end: sudo go run ./e2e/rig/cluster down --name %s
`, c.Kubeconfig(), c.Nodes[0].Name, play(c), c.Name)
	return nil
}

// play is a suggested first session.
func play(c *rig.Cluster) string {
	lines := []string{"etcdpod backup /var/lib/first.db", "etcdpod restore --dry-run /var/lib/first.db"}
	restore := "etcdpod restore /var/lib/first.db"
	if len(c.Nodes) > 1 {
		var names []string
		for _, n := range c.Nodes {
			names = append(names, n.Name)
		}
		all := strings.Join(names, ",")
		lines = []string{"ssh " + names[1] + " etcdpod version      # every node reaches every node",
			"etcdpod backup /var/lib/first.db", "etcdpod restore --dry-run --nodes " + all + " /var/lib/first.db"}
		restore = "etcdpod restore --nodes " + all + " /var/lib/first.db"
	}
	return "  " + strings.Join(append(lines, restore), "\n  ") + "\n"
}

// enter replaces this process with the command, so that a shell has the terminal
// and signals to itself.
func enter(c *rig.Cluster, n *rig.Node, args []string) error {
	if !n.Running() {
		return fmt.Errorf("%s of cluster %s does not run", n.Name, c.Name)
	}
	if len(args) == 0 {
		args = []string{"env", "PS1=" + n.Name + `:\w# `, "bash", "--norc"}
	}
	words := n.Enter(args...)
	path, err := exec.LookPath(words[0])
	if err != nil {
		return err
	}
	env := []string{"KUBECONFIG=/etc/kubernetes/admin.conf"}
	for _, v := range os.Environ() {
		if key, _, _ := strings.Cut(v, "="); key == "TERM" || key == "LANG" || strings.HasPrefix(key, "ETCDPOD_") {
			env = append(env, v)
		}
	}
	return syscall.Exec(path, words, env)
}
