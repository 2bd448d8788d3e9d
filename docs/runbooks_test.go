package docs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/binaries"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// story follows one page on three control planes, of which each has a real etcd and the built
// etcdpod. Every command of the page is typed, and whatever the page tells people to expect is held
// against what they would see.
type story struct {
	*sandbox.ControlPlanes
	t        *testing.T
	ctx      context.Context
	page     string   // on one line, without marks
	commands []string // its indented lines, in order
	typed    map[string]bool
	file     string   // what $FILE stands for
	run      string   // what stands for the name of a run on the page
	words    []string // what else stands for something of these nodes, each with that
}

// These are of real nodes only.
var foreign = []string{"kubectl ", "kubeadm ", "crictl "}

const (
	anyFile = "/var/lib/etcdpod/backups/etcd-cp1-20261123T064825Z-r484.db"
	anyRun  = "20261123T064832Z-restore-f506"
	marker  = "/registry/configmaps/late/since-the-backup"
)

func follow(t *testing.T, page string, names ...string) *story {
	t.Helper()
	t.Parallel()
	text, err := os.ReadFile("runbooks/" + page)
	must(t, err)
	// Only to end what hangs.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	t.Cleanup(cancel)
	etcd, err := binaries.Etcd(ctx, binaries.Etcd36)
	must(t, err)
	if names == nil {
		names = []string{"cp1", "cp2", "cp3"}
	}
	all, err := sandbox.NewControlPlanes(ctx, sandbox.Options{EtcdBinary: etcd, Etcdpod: binary, Made: mount}, names...)
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(unmount(all.Nodes), all.Destroy())) })
	s := &story{ControlPlanes: all, t: t, ctx: ctx, page: plain(string(text)), typed: map[string]bool{}}
	for line := range strings.Lines(string(text)) {
		if command, indented := strings.CutPrefix(strings.TrimRight(line, "\n"), "    "); indented {
			s.commands = append(s.commands, command)
		}
	}
	for _, n := range all.Nodes {
		must(t, os.MkdirAll(n.Path("/root"), 0o700))
	}
	must(t, all.Node("cp1").Load(ctx, 40, 200))
	return s
}

// plain is Markdown as it is read.
func plain(text string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("`", "", "*", "").Replace(text)), " ")
}

// types types a command of the page on a node, and holds it to the exit code, and to texts
// that the page tells of.
func (s *story) types(on, command string, code int, sees ...string) {
	s.t.Helper()
	if !slices.Contains(s.commands, command) {
		s.t.Fatalf("the page has no command %q", command)
	}
	s.typed[command] = true
	s.also(on, command, code, sees...)
}

// also types a command that the page does not spell out.
func (s *story) also(on, command string, code int, sees ...string) {
	s.t.Helper()
	got, out := s.try(on, command)
	if got != code {
		s.t.Fatalf("%s: %q ends with %d, not %d:\n%s", on, command, got, code, out)
	}
	for _, text := range sees {
		if !strings.Contains(out, text) {
			s.t.Errorf("%s: %q does not say %q:\n%s", on, command, text, out)
		}
		if !strings.Contains(s.page, plain(text)) {
			s.t.Errorf("the page does not tell of %q", text)
		}
	}
}

// alsoOneOf is also for a command that may say any of the texts: the page tells of all of them.
func (s *story) alsoOneOf(on, command string, code int, texts ...string) {
	s.t.Helper()
	got, out := s.try(on, command)
	if got != code || !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(out, text) }) {
		s.t.Errorf("%s: %q ends with %d, not %d, or says none of %q:\n%s", on, command, got, code, texts, out)
	}
	for _, text := range texts {
		if !strings.Contains(s.page, plain(text)) {
			s.t.Errorf("the page does not tell of %q", text)
		}
	}
}

// try types a command. A yes that it would ask for on a terminal is given by --yes; /root and
// /etc/kubernetes are the node's.
func (s *story) try(on, command string) (code int, out string) {
	s.t.Helper()
	cmd := s.Command(s.ctx, on, s.real(on, command))
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), both.String()
}

// real is a command of the page as it is typed here.
func (s *story) real(on, command string) string {
	root := s.Node(on).Root
	words := append([]string{`"$FILE"`, s.file, "/root/", root + "/root/", anyRun, s.run, "10.0.0.21", "127.0.0.91",
		"10.0.0.22", "127.0.0.92", "10.0.0.23", "127.0.0.93"}, s.words...)
	for _, asks := range []string{"etcdpod restore", "etcdpod remove", "etcdpod replace", "etcdpod apiserver set",
		"etcdpod readdress"} {
		if strings.HasPrefix(command, asks) && !strings.Contains(command, "--dry-run") {
			words = append(words, asks, asks+" --yes")
		}
	}
	if !strings.HasPrefix(command, "etcdpod") {
		words = append(words, "/etc/kubernetes", root+"/etc/kubernetes")
	}
	return strings.NewReplacer(words...).Replace(command)
}

// chooses types the page's FILE=… with a real one.
func (s *story) chooses(line, real string) {
	s.t.Helper()
	if !slices.Contains(s.commands, line) {
		s.t.Fatalf("the page has no line %q", line)
	}
	s.typed[line], s.file = true, real
}

// newest is the path on this machine of cp1's newest backup.
func (s *story) newest() string {
	s.t.Helper()
	dir := s.Node("cp1").Path("/var/lib/etcdpod/backups")
	entries, err := os.ReadDir(dir)
	must(s.t, err)
	var newest string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".db") && !strings.HasPrefix(e.Name(), ".") {
			newest = dir + "/" + e.Name() // names hold the time
		}
	}
	return newest
}

// ends holds the page to having been followed wholly.
func (s *story) ends() {
	s.t.Helper()
	for _, command := range s.commands {
		if !s.typed[command] && !slices.ContainsFunc(foreign, func(p string) bool {
			return strings.HasPrefix(command, p)
		}) {
			s.t.Errorf("nobody has typed %q", command)
		}
	}
}

// spoils writes what no backup from before holds.
func (s *story) spoils() {
	s.t.Helper()
	c, err := s.Node("cp1").EtcdClient()
	must(s.t, err)
	defer c.Close()
	_, err = c.Put(s.ctx, marker, "{}")
	must(s.t, err)
}

// wants holds nodes to whether they have what was written since the backup.
func (s *story) wants(spoilt bool, nodes ...string) {
	s.t.Helper()
	for _, name := range nodes {
		must(s.t, s.Node(name).WaitReady(s.ctx))
		c, err := s.Node(name).EtcdClient()
		must(s.t, err)
		got, err := c.Get(s.ctx, marker, clientv3.WithCountOnly())
		must(s.t, c.Close())
		must(s.t, err)
		if (got.Count == 1) != spoilt {
			s.t.Fatalf("%s has what was written since the backup: %v", name, got.Count == 1)
		}
	}
}

// kills ends a restore of all three on cp1 when an operation of the phase begins there, and waits
// until the agents have noticed.
func (s *story) kills(phase string) {
	s.t.Helper()
	err := s.KillWhen(s.ctx, "cp1", "etcdpod restore --yes -o json --nodes cp1,cp2,cp3 "+s.file,
		func(p sandbox.Progress) bool {
			return p.Node == "cp1" && p.Phase == phase && p.State == "started"
		})
	must(s.t, err)
	for _, n := range s.Nodes {
		s.eventually("the agent on "+n.Node+" has ended", func() bool {
			code, _ := s.try(n.Node, "etcdpod prune --yes")
			return code == 3
		})
	}
}

func (s *story) eventually(what string, holds func() bool) {
	s.t.Helper()
	for !holds() {
		select {
		case <-s.ctx.Done():
			s.t.Fatalf("never: %s", what)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGoingBackInTime(t *testing.T) {
	s := follow(t, "going-back-in-time.md")
	s.also("cp1", "etcdpod backup", 0)
	good := s.newest()
	s.spoils()
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3", 6, "HASHKV", "3 of 3 nodes serve")
	s.types("cp1", "etcdpod backups", 0)
	s.chooses("FILE="+anyFile, good)
	s.types("cp1", `etcdpod verify "$FILE"`, 0, "good")
	s.types("cp1", "etcdpod backup", 0)
	s.also("cp1", `etcdpod restore --dry-run --nodes cp1,cp2 "$FILE"`,
		5, "the cluster has members that are not in --nodes")
	s.also("cp1", `etcdpod restore --dry-run --nodes cp2,cp3 "$FILE"`, 2, "--nodes does not name this node")
	s.also("cp1", `etcdpod restore --dry-run --nodes cp1,cp2,cp3=cp9 "$FILE"`, 1, "cannot be reached")
	s.types("cp1", `etcdpod restore --dry-run --nodes cp1,cp2,cp3 "$FILE"`, 0, "Nothing was changed")
	s.wants(true, "cp1", "cp2", "cp3")
	s.types("cp1", `etcdpod restore --nodes cp1,cp2,cp3 "$FILE"`,
		0, "stage-data", "fence", "exchange-data", "release-etcd", "await-etcd", "compare-members", "commit point",
		"await-apiserver", "verify-restored", "Restored on 3 nodes")
	s.wants(false, "cp1", "cp2", "cp3")
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3", 6, "HASHKV", "REVISION")

	s.goesBack("etcdpod restore --nodes cp1,cp2,cp3 --from-data-dir ", "Restored on 3 nodes")
	s.wants(true, "cp1", "cp2", "cp3")
	s.ends()
}

func TestOneNodeLost(t *testing.T) {
	s := follow(t, "one-node-lost.md")
	must(t, s.PowerOff("cp3"))
	s.eventually("two of three serve", func() bool { return s.Node("cp1").WaitEtcd(s.ctx) == nil })
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3", 6, "serves", "cannot be queried")
	s.also("cp1", "etcdpod status", 6, "member cp3 does not answer")
	s.types("cp1", "etcdpod backup", 0)
	s.chooses("FILE="+anyFile, s.newest())
	s.spoils()
	s.types("cp1", remove("--dry-run "), 0)
	s.typed[remove("")] = true // see TestOneNodeLostAndItsMemberRemoved
	s.types("cp1", `etcdpod restore --dry-run --nodes cp1,cp2 --lost cp3 "$FILE"`, 0)
	s.types("cp1", `etcdpod restore --nodes cp1,cp2 --lost cp3 "$FILE"`, 0, "Restored on 2 nodes")
	s.wants(false, "cp1", "cp2")
	must(t, s.PowerOn(s.ctx, "cp3")) // with its old data, which serves nothing
	s.also("cp3", "etcdpod status", 6)
	s.wants(false, "cp1", "cp2")
	// The key of cp3's API server came back with the backup, and lives for 15 seconds: until then
	// it is refused for that, and then for cp3's etcd, which answers for as long as it runs.
	s.alsoOneOf("cp1", `etcdpod restore --nodes cp1,cp2 --lost cp3 "$FILE"`, 5,
		"API servers outside --nodes use this etcd",
		"a member of the old cluster that is not in --nodes still answers at")
	s.ends()
}

// remove is a command of the page. It is typed on a cluster of its own: once cp3 has left, no
// restore can declare it lost.
func remove(flag string) string { return "etcdpod remove " + flag + "--nodes cp1,cp2 cp3" }

func TestOneNodeLostAndItsMemberRemoved(t *testing.T) {
	s := follow(t, "one-node-lost.md")
	must(t, s.PowerOff("cp3"))
	s.eventually("two of three serve", func() bool { return s.Node("cp1").WaitEtcd(s.ctx) == nil })
	s.types("cp1", remove("--dry-run "), 0)
	s.types("cp1", remove(""), 0, "Removed cp3")
	s.also("cp1", "etcdpod status", 6, "cp1")
	must(t, s.PowerOn(s.ctx, "cp3")) // with its old data: it finds that it was removed
	for _, name := range []string{"cp1", "cp2"} {
		must(t, s.Node(name).WaitReady(s.ctx))
	}
	s.also("cp2", remove(""), 5)
}

// kubeadm, or etcdpod join, has added cp4 and cp5; e2e/bootstrap does that.
func TestThreeToFive(t *testing.T) {
	const set = "etcdpod apiserver set --all-members --nodes cp1,cp2,cp3,cp4,cp5"
	s := follow(t, "three-to-five.md", "cp1", "cp2", "cp3", "cp4", "cp5")
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3", 6, "HASHKV")
	s.types("cp1", "etcdpod backup", 0)
	s.types("cp4", "etcdpod members", 0)
	s.types("cp1", set+" --dry-run", 0)
	s.types("cp1", set, 0, "The API servers of 5 nodes are ready with the new settings")
	s.also("cp3", set, 0, "Nothing to do")
	s.types("cp5", "etcdpod apiserver show --nodes cp1,cp2,cp3,cp4,cp5", 0)
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3,cp4,cp5", 6, "HASHKV")

	s.types("cp1", "etcdpod remove --nodes cp1,cp2,cp3,cp4,cp5 cp5", 0, "Removed cp5")
	must(t, s.PowerOff("cp5"))
	s.also("cp1", "etcdpod status", 6, "survives the loss of 1: no more than with 3")
	s.types("cp1", "etcdpod remove --nodes cp1,cp2,cp3,cp4 cp4", 0, "Removed cp4")
	must(t, s.PowerOff("cp4"))
	for _, name := range []string{"cp1", "cp2", "cp3"} {
		must(t, s.Node(name).WaitReady(s.ctx))
	}
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3", 6, "HASHKV")
	s.ends()
}

func TestAnAddressChanges(t *testing.T) {
	s := follow(t, "change-an-address.md")
	s.types("cp1", "etcdpod backup", 0)
	s.types("cp1", "etcdpod readdress --dry-run --address 10.0.0.21", 0, "certs", "render-etcd", "set-peer-url",
		"await-etcd", "wire-apiserver", "preflight")
	s.also("cp1", "etcdpod readdress --address 192.0.2.1", 5, "this node does not have the address")
	s.types("cp1", "etcdpod readdress --address 10.0.0.21", 0, "commit point",
		"This node's etcd serves at its new address")
	if code, out := s.try("cp3", "etcdpod members"); code != 0 || strings.Count(out, "127.0.0.91") < 2 {
		t.Errorf("members ends with %d:\n%s", code, out)
	}
	s.types("cp1", "etcdpod members", 0)
	s.try("cp1", "etcdpod status")
	s.typed["etcdpod status"] = true
	for _, line := range s.commands {
		if strings.HasPrefix(line, "mv ") {
			s.types("cp1", line, 0)
		}
	}
	s.also("cp1", "etcdpod readdress --address 10.0.0.21", 0)
	s.types("cp1", "etcdpod readdress --nodes cp1,cp2,cp3 --address cp1=10.0.0.21,cp2=10.0.0.22,cp3=10.0.0.23", 0,
		"commit point", "The etcds of 3 nodes serve at their new addresses")
	s.ends()
}

// replacing is the command of the page.
const replacing = "etcdpod replace cp3 --with cp4=10.0.0.14 --nodes cp1,cp2 --config /etc/kubernetes/kubeadm.yaml"

// failed is a cluster whose third member has failed, and a new machine after the first part of
// `kubeadm join`.
func (s *story) failed() {
	s.t.Helper()
	etcd, err := binaries.Etcd(s.ctx, binaries.Etcd36)
	must(s.t, err)
	fresh, err := s.Newcomer(s.ctx, sandbox.Options{EtcdBinary: etcd, Etcdpod: binary, Made: mount}, "cp4")
	must(s.t, err)
	s.words = []string{"cp4=10.0.0.14", "cp4", "--config /etc/", "--config " + fresh.Path("/etc") + "/"}
	must(s.t, s.PowerOff("cp3"))
	must(s.t, s.Node("cp1").WaitEtcd(s.ctx))
}

const lostOnTheWay = "etcdpod resume --lost cp4"

func TestReplaceAMachine(t *testing.T) {
	s := follow(t, "replace-a-machine.md")
	s.failed()
	s.types("cp1", "etcdpod members", 0, "does not answer")
	s.types("cp1", "etcdpod backup", 0)
	s.types("cp1", replacing+" --dry-run", 0, "Nothing was changed")
	s.types("cp1", replacing, 0, "Replaced cp3")
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp4", 6, "HASHKV")
	s.typed["etcdpod resume"], s.typed[lostOnTheWay] = true, true // see the next test
	s.ends()
}

func TestReplaceAMachineThatIsLostOnTheWay(t *testing.T) {
	s := follow(t, "replace-a-machine.md")
	s.failed()
	must(t, s.KillWhen(s.ctx, "cp1", s.real("cp1", replacing)+" -o json", func(p sandbox.Progress) bool {
		return p.Node == "cp4" && p.Phase == "render-etcd" && p.State == "started"
	}))
	s.eventually("the agent on cp2 has ended", func() bool {
		code, _ := s.try("cp2", "etcdpod prune --yes")
		return code == 3
	})
	must(t, s.PowerOff("cp4"))
	s.types("cp1", "etcdpod resume", 3)
	s.types("cp1", lostOnTheWay, 0)
	s.also("cp1", "etcdpod members", 0, "cp1", "cp2")
	must(t, s.Node("cp2").WaitReady(s.ctx))
}

func TestQuorumLost(t *testing.T) {
	s := follow(t, "quorum-lost.md")
	must(t, s.PowerOff("cp2"))
	must(t, s.PowerOff("cp3"))
	s.eventually("there is no leader", func() bool {
		code, out := s.try("cp1", "etcdpod status")
		return code == 6 && strings.Contains(out, "has no quorum")
	})
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3", 6, "cannot be queried", "no quorum")
	s.types("cp1", "etcdpod backup", 0, "verified")

	const last, dryRun = "etcdpod backup --from-data-dir /var/lib/etcd /root/last.db",
		`etcdpod restore --dry-run --nodes cp1 --lost cp2,cp3 "$FILE"`
	s.file = s.newest()
	s.types("cp1", dryRun, 0, "Nothing was changed") // while its etcd answers
	s.types("cp1", "systemctl stop kubelet", 0)
	s.also("cp1", last, 5, "in use")
	must(t, s.Node("cp1").Kill(s.ctx, "etcd")) // crictl stop
	s.eventually("etcd has ended", func() bool {
		c, found, err := s.Node("cp1").Container(s.ctx, "etcd")
		must(t, err)
		return found && c.State == "exited"
	})
	s.types("cp1", last, 0, "verified")

	s.chooses("FILE="+anyFile, s.Node("cp1").Path("/root/last.db"))
	s.types("cp1", `etcdpod verify "$FILE"`, 0, "good")
	s.also("cp1", `etcdpod restore --dry-run --nodes cp1 --lost cp2 "$FILE"`, 5, "the cluster has members that are "+
		"not in --nodes")
	s.types("cp1", dryRun, 0, "Nothing was changed")
	s.types("cp1", `etcdpod restore --nodes cp1 --lost cp2,cp3 "$FILE"`, 0, "commit point", "Restored on 1 node")
	s.wants(false, "cp1")
	if code, out := s.try("cp1", "etcdpod status"); !strings.Contains(out, "serves") {
		t.Errorf("status ends with %d: %s", code, out)
	}
	s.typed["etcdpod status"] = true
	s.ends()
}

func TestNewMachines(t *testing.T) {
	s := follow(t, "new-machines.md")
	s.also("cp1", "etcdpod backup /root/safe.db", 0)
	s.spoils()
	for _, n := range s.Nodes { // the machines are lost; the keys and the backup are kept elsewhere
		must(t, n.Crash())
		must(t, os.RemoveAll(n.DataPath()))
		must(t, os.RemoveAll(n.Path("/var/lib/etcdpod")))
	}
	s.chooses("FILE=/root/etcd-cp1-20261123T064825Z-r484.db", s.Node("cp1").Path("/root/safe.db"))
	s.types("cp1", `etcdpod verify "$FILE"`, 0, "good")
	for _, n := range s.Nodes { // kubeadm init, and kubeadm join
		must(t, n.Start(s.ctx))
	}
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3", 6, "HASHKV")
	s.types("cp1", `etcdpod restore --dry-run --nodes cp1,cp2,cp3 "$FILE"`, 0, "Nothing was changed")
	s.types("cp1", `etcdpod restore --nodes cp1,cp2,cp3 "$FILE"`, 0, "Restored on 3 nodes")
	s.wants(false, "cp1", "cp2", "cp3")
	keys, err := s.Node("cp3").AllKeys(s.ctx)
	must(t, err)
	if len(keys) < 40 {
		t.Errorf("cp3 has %d keys", len(keys))
	}
	s.ends()
}

func TestInterrupted(t *testing.T) {
	s := follow(t, "interrupted.md")
	s.also("cp1", "etcdpod backup /root/safe.db", 0)
	s.file = s.Node("cp1").Path("/root/safe.db")

	s.spoils()
	s.kills("exchange-data")
	s.types("cp1", "etcdpod runs", 0, "open", "Next")
	s.types("cp2", "etcdpod rollback", 0, "Rolled back; everything is as before")
	s.wants(true, "cp1", "cp2", "cp3")

	s.kills("exchange-data")
	s.types("cp3", "etcdpod resume", 0, "Finished")
	s.wants(false, "cp1", "cp2", "cp3")

	s.spoils()
	s.kills("await-apiserver")
	s.also("cp1", "etcdpod rollback", 5)
	s.types("cp1", "etcdpod resume --skip-phases await-apiserver,verify-restored", 0)
	s.wants(false, "cp1", "cp2", "cp3")
	s.types("cp1", "etcdpod status --nodes cp1,cp2,cp3", 6, "HASHKV")

	s.spoils()
	s.kills("stage-data")
	must(t, s.PowerOff("cp3"))
	s.also("cp1", "etcdpod resume", 3, "--lost")
	s.types("cp1", "etcdpod rollback --lost cp3", 0)
	must(t, s.PowerOn(s.ctx, "cp3"))
	s.also("cp3", "etcdpod resume", 1, "everything is as before")
	s.wants(true, "cp1", "cp2", "cp3")

	s.kills("fence")
	must(t, s.PowerOff("cp3"))
	s.types("cp2", "etcdpod resume --lost cp3", 0)
	s.wants(false, "cp1", "cp2")
	s.ends()
}
