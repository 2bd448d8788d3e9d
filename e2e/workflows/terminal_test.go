package workflows

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/terminal"
)

var update = flag.Bool("update", false, "write the screens that are compared")

// person sits at a terminal of the node. The kubelet's commands wait at a gate while it is closed,
// so that what is typed comes at a known point of the run.
type person struct {
	*node
	columns uint16
}

// at starts etcdpod at the terminal.
func (p person) at(args ...string) *terminal.Terminal {
	p.t.Helper()
	return p.start(p.typed(args))
}

// typed is what a person types; all that makes the node stand in for a real one is in the
// environment. The kubelet's commands wait while their gate is there.
func (p person) typed(args []string) *exec.Cmd {
	p.t.Helper()
	cmd, err := p.EtcdpodCommand(p.ctx)
	must(p.t, err)
	cmd.Args = append(cmd.Args[:1], args...)
	cmd.Env = append(cmd.Env, "NO_COLOR=1", "ETCDPOD_ROOT="+p.Root,
		"ETCDPOD_KUBELET_STATUS_COMMAND="+p.KubeletStatusCommand())
	for gate, command := range map[string]string{
		stopping: p.KubeletStopCommand(), starting: p.KubeletStartCommand(),
	} {
		script := fmt.Sprintf("while [ -e %[1]s ]; do touch %[1]s.held; sleep 0.05; done; exec %[2]s",
			p.gate(gate), command)
		cmd.Env = append(cmd.Env, gate+"=sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"'")
	}
	return cmd
}

func (p person) start(cmd *exec.Cmd) *terminal.Terminal {
	p.t.Helper()
	tty, err := terminal.Start(cmd, p.columns)
	if errors.Is(err, fs.ErrNotExist) {
		p.t.Skipf("no pseudo-terminals here: %v", err)
	}
	must(p.t, err)
	return tty
}

const (
	stopping = "ETCDPOD_KUBELET_STOP_COMMAND"
	starting = "ETCDPOD_KUBELET_START_COMMAND"
)

func (p person) gate(of string) string { return p.Path("/" + of) }

func (p person) shut(of string) {
	p.t.Helper()
	_ = os.Remove(p.gate(of) + ".held") // of a command that has ended
	must(p.t, os.WriteFile(p.gate(of), nil, 0o600))
}

func (p person) open(of string) {
	p.t.Helper()
	must(p.t, os.Remove(p.gate(of)))
}

// held returns when a command waits at its gate.
func (p person) held(of string) {
	p.t.Helper()
	p.eventually("the run is held at "+of, func() bool {
		_, err := os.Stat(p.gate(of) + ".held")
		return err == nil
	})
}

func (p person) sees(tty *terminal.Terminal, times int, text string) {
	p.t.Helper()
	must(p.t, tty.WaitFor(p.ctx, times, text))
}

func (p person) types(tty *terminal.Terminal, text string) {
	p.t.Helper()
	must(p.t, tty.Type(text))
}

// ends holds the program to an exit code, and its screen to a file.
func (p person) ends(tty *terminal.Terminal, code int, screen string) {
	p.t.Helper()
	got, err := tty.End(p.ctx)
	must(p.t, err)
	if got != code {
		p.t.Errorf("it ended with %d, not %d:\n%s", got, code, tty.Screen())
	}
	if screen != "" {
		p.golden(screen, tty)
	}
}

// varying is what differs from run to run, and what stands for it.
var varying = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`(?s)  everything\s+is\s+put\s+back;\s+waiting.*?serves\s+again\r?\n`), ""},
	{regexp.MustCompile(`\d{8}T\d{6}Z-(\w+)-[0-9a-f]{4}`), "RUN-$1"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d(\s+)UTC`), "DAY TIME${1}UTC"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:]+Z`), "TIME"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d\b`), "DAY"},
	{regexp.MustCompile(`\b(cluster|is)(\s+)[0-9a-f]{8,16}\b`), "$1${2}ID"},
	{regexp.MustCompile(`\b[0-9a-f]{13,16}\b`), "ID"},
	{regexp.MustCompile(`\babout(\s+)\d+ (s|min)\b`), "about${1}N s"},
	{regexp.MustCompile(`127\.0\.0\.(\d):\d+`), "127.0.0.$1:PORT"},
	{regexp.MustCompile(`\((just\s+now|\d+\s+min\s+ago)\)`), "(just now)"},
	{regexp.MustCompile(`etcd-cp1-\d{8}T\d{6}Z-r\d+`), "BACKUP"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "SHA256"},
	{regexp.MustCompile(`\d+\.\d\s+[KMGT]iB`), "SIZE"},
	{regexp.MustCompile(`\b[\dhm.]+(ms|s)\b`), "N s"},
	{regexp.MustCompile(`revision(\s+)\d+`), "revision${1}N"},
	{regexp.MustCompile(`\b\d+(\s+[a-z])`), "N$1"},
	{regexp.MustCompile(`(?s)(read back through the API server:).*?(\r?\n  the snapshot)`), "$1 …$2"},
	{regexp.MustCompile(`\bmore(\s+)keys?\b`), "more${1}key"},
	{regexp.MustCompile(`…[^\s\x1b]*`), "…"}, // what was cut to fit
}

// free is what nodes tell at moments of their own: one line for all of them, or one for each.
var free = regexp.MustCompile(`- SIZE\s+free\s+in\s+\S+\s+the\s+new\s+data\s+needs\s+SIZE\s*`)

// waits are only told where they take long.
var waits = regexp.MustCompile(`(?m)^ *\w+: waiting up to N s for\s+\S+ \w+ etcdpod agent\S\s*\n`)

// steady has what differs from run to run replaced.
func steady(text string) string {
	for _, v := range varying {
		text = v.is.ReplaceAllString(text, v.as)
	}
	return text
}

// words are a screen's, however its lines are broken: a number with one digit more may move a
// break.
func words(screen string) string { return steady(strings.Join(strings.Fields(screen), " ")) }

// golden compares a screen with a file, or writes that with -update.
func (p person) golden(name string, tty *terminal.Terminal) {
	p.t.Helper()
	p.compare(name, tty, words)
}

// goldenInAnyOrder is golden for a screen on which it is chance what comes first.
func (p person) goldenInAnyOrder(name string, tty *terminal.Terminal) {
	p.t.Helper()
	p.compare(name, tty, func(screen string) string {
		all := strings.Fields(words(screen))
		slices.Sort(all)
		return strings.Join(all, " ")
	})
}

func (p person) compare(name string, tty *terminal.Terminal, by func(screen string) string) {
	p.t.Helper()
	screen := steady(strings.ReplaceAll(tty.Text(), p.Root, "ROOT"))
	screen = terminal.Screen(screen, int(p.columns))
	screen = waits.ReplaceAllString(screen, "")
	if strings.HasPrefix(name, "together") {
		screen = free.ReplaceAllString(screen, "")
	}
	file := filepath.Join("testdata", "screens", fmt.Sprintf("%s-%d.txt", name, p.columns))
	if *update {
		must(p.t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(p.t, os.WriteFile(file, []byte(screen), 0o644))
	}
	want, err := os.ReadFile(file)
	if err != nil || by(string(want)) != by(screen) {
		text := tty.Text()
		p.t.Errorf("%s (-update writes it; %v) is not what is on the screen:\n%s\nand the last that was written is %q",
			file, err, screen, text[max(0, len(text)-500):])
	}
}

func TestAFirstDayAtATerminal(t *testing.T) {
	for _, columns := range []uint16{80, 40} {
		t.Run(fmt.Sprintf("%d columns", columns), func(t *testing.T) {
			n := start(t, sandbox.Options{})
			p := person{n, columns}
			b := n.backup()
			n.change()
			before := n.state()

			tty := p.at("restore", b.file)
			p.sees(tty, 1, "Continue? (y or yes)")
			p.types(tty, "no\n")
			p.ends(tty, 1, "said-no")

			tty = p.at("restore", b.file)
			p.sees(tty, 1, "Continue? (y or yes)")
			p.types(tty, terminal.Interrupt)
			p.ends(tty, 1, "")
			p.wantOld(before)

			p.interrupts(b, before)

			tty = p.at("restore", b.file)
			p.sees(tty, 1, "Continue? (y or yes)")
			p.types(tty, "y\n")
			p.ends(tty, 0, "restored")
			p.wantNew(b, before)
			tty = p.at("status")
			p.ends(tty, 0, "")
		})
	}
}

// interrupts types Ctrl-C once, twice and three times into restores.
func (p person) interrupts(b backup, before state) {
	p.t.Helper()
	held := func(gate string) *terminal.Terminal {
		p.shut(gate)
		tty := p.at("restore", b.file, "--yes")
		p.held(gate)
		return tty
	}

	tty := held(stopping)
	p.types(tty, terminal.Interrupt)
	p.ends(tty, 1, "interrupted-once")
	p.open(stopping)
	p.wantOld(before)

	// The way back is held where the kubelet is started again.
	goingBack := func() *terminal.Terminal {
		tty := held(starting)
		p.types(tty, terminal.Interrupt)
		p.sees(tty, 1, "GOING BACK")
		must(p.t, os.Remove(p.gate(starting)+".held"))
		p.held(starting)
		p.types(tty, terminal.Interrupt)
		p.sees(tty, 1, "Interrupted again")
		return tty
	}
	tty = goingBack()
	p.open(starting)
	p.ends(tty, 1, "interrupted-twice")
	p.wantOld(before)

	tty = goingBack()
	p.types(tty, terminal.Interrupt)
	p.ends(tty, 3, "interrupted-three-times")
	p.open(starting)
	must(p.t, p.AwaitCommands(p.ctx))
	p.done("rollback")
	p.wantOld(before)
}

// asNobody runs etcdpod at the terminal without root's rights, wherever root has built it.
func (p person) asNobody(args ...string) *terminal.Terminal {
	p.t.Helper()
	cmd := p.typed(args)
	program, err := os.ReadFile(cmd.Path)
	must(p.t, err)
	cmd.Path, cmd.Dir = p.Root+"/etcdpod", "/"
	if _, err := os.Stat(cmd.Path); err != nil {
		must(p.t, os.WriteFile(cmd.Path, program, 0o755))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return p.start(cmd)
}

func TestWithoutRightsNothingIsCalledAbsent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give it up")
	}
	n := start(t, sandbox.Options{})
	p := person{n, 80}
	b := n.backup()
	must(t, os.Chmod(n.Root, 0o755))
	for _, command := range []string{"status", "runs", "backups", "certs check", "apiserver show", "members",
		"prune --dry-run"} {
		tty := p.asNobody(strings.Fields(command)...)
		p.ends(tty, 2, "")
		name := strings.TrimSuffix(command, " --dry-run")
		must(t, tty.WaitFor(p.ctx, 1, name+" must be run as root: cannot read /etc/kubernetes/manifests: "+
			"permission denied hint: run it with sudo"))
	}
	tty := p.asNobody("verify", b.file)
	p.ends(tty, 2, "")
	must(t, tty.WaitFor(p.ctx, 1, "verify must be run as root: cannot read "+b.file+": permission denied"))

	// Whoever may read the manifests is not let think that the files which they name are not there.
	must(t, filepath.WalkDir(n.Path("/etc/kubernetes"), func(file string, d fs.DirEntry, err error) error {
		return errors.Join(err, os.Chmod(file, 0o755))
	}))
	must(t, os.Chmod(n.Path("/var/lib/etcdpod"), 0o755))
	must(t, os.RemoveAll(n.Path("/var/lib/etcdpod/runs")))
	must(t, os.Chmod(n.Path(pkiDir+"etcd"), 0o700))
	for _, command := range []string{"status", "certs check", "apiserver show"} {
		tty := p.asNobody(strings.Fields(command)...)
		p.ends(tty, 2, "")
		must(t, tty.WaitFor(p.ctx, 1, "must be run as root: cannot read /etc/kubernetes/pki/etcd: permission denied"))
	}

	// A machine that only keeps backups has none of the files that every command looks at.
	server := n.Path("/server")
	must(t, os.MkdirAll(server+"/mnt/safe", 0o755))
	must(t, os.Chmod(server+"/mnt/safe", 0o700))
	tty = p.asNobody("--root", server, "backups", "--dir", "/mnt/safe")
	p.ends(tty, 2, "")
	must(t, tty.WaitFor(p.ctx, 1, "backups must be run as root: cannot list the backups: "))
}
