package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// kubeadm is what is noted of one version: the names of its phases, those in no
// help text with a star.
type kubeadm struct {
	version    string
	init, join []string
}

func (k kubeadm) minor() string { return k.version[:strings.LastIndex(k.version, ".")] }

// noted reads testdata/kubeadm-phases.txt.
func noted(t *testing.T) []kubeadm {
	t.Helper()
	data, err := os.ReadFile("testdata/kubeadm-phases.txt")
	must(t, err)
	var all []kubeadm
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		switch {
		case words[0] == "#":
		case words[1] == "init":
			all = append(all, kubeadm{version: words[0], init: words[2:]})
		default:
			all[len(all)-1].join = words[2:]
		}
	}
	return all
}

// whole leaves out the stars.
func whole(names []string) (all []string) {
	for _, name := range names {
		all = append(all, strings.TrimSuffix(name, "*"))
	}
	return all
}

// kubeadmPage is docs/kubeadm.md.
func kubeadmPage(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("kubeadm.md")
	must(t, err)
	return string(data)
}

// skipped are what each command of the page that begins so leaves out, in the order of the page.
func skipped(page, command string) (all [][]string) {
	for _, found := range regexp.MustCompile(`(?m)^    `+command+` .*--skip-phases=(\S+)`).
		FindAllStringSubmatch(page, -1) {
		all = append(all, strings.Split(found[1], ","))
	}
	return all
}

// row are the names in the columns of the table's line that begins with a version.
func row(t *testing.T, page, version string) (columns [][]string) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(version) + ` \|(.*)\|$`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("the page has no line for %s", version)
	}
	for _, column := range strings.Split(found[1], "|") {
		var names []string
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(column, -1) {
			names = append(names, name[1])
		}
		columns = append(columns, names)
	}
	return columns
}

const deprecated = "control-plane-join/etcd" // the phase that newer kubeadms have no more

// Every name is spelled out for every version: what the commands leave out is what the tables say,
// and no phase is forgotten or made up.
func TestThePhasesOnThePageAreKubeadms(t *testing.T) {
	page := kubeadmPage(t)
	inits, joins := skipped(page, "kubeadm init"), skipped(page, "kubeadm join")
	if len(inits) != 1 || len(joins) != 2 {
		t.Fatalf("%d and %d commands leave phases out", len(inits), len(joins))
	}
	versions := noted(t)
	if len(versions) != 4 {
		t.Fatalf("%d versions are noted", len(versions))
	}
	for _, k := range versions {
		ofEtcd := slices.DeleteFunc(whole(k.init), func(name string) bool {
			return !strings.Contains(name, "etcd") || name == "etcd"
		})
		if !slices.Equal(inits[0], ofEtcd) {
			t.Errorf("%s: kubeadm init has %q, and the page leaves out %q", k.version, ofEtcd, inits[0])
		}
		columns := row(t, page, k.minor())
		before, after, never := columns[0], columns[1], columns[2]
		all := slices.Concat(before, never[:1], after)
		top := slices.DeleteFunc(whole(k.join), func(name string) bool { return strings.Contains(name, "/") })
		if !slices.Equal(all, top) {
			t.Errorf("%s: kubeadm join has %q, and the page says %q", k.version, top, all)
		}
		if there := slices.Contains(whole(k.join), deprecated); there != slices.Contains(never, deprecated) {
			t.Errorf("%s: of %s the page says the contrary of what is: %v", k.version, deprecated, there)
		}
		if want := slices.Concat(never[:1], after); !slices.Equal(joins[0], want) {
			t.Errorf("%s: the first kubeadm join leaves out %q, and not %q", k.version, joins[0], want)
		}
		if want := slices.Concat(before, never[:1]); !slices.Equal(joins[1], want) {
			t.Errorf("%s: the second kubeadm join leaves out %q, and not %q", k.version, joins[1], want)
		}
	}
}

// What is noted is held against the kubeadms that are built: what their help shows, and
// which names they take.
func TestTheNotedPhasesAreThoseOfRealKubeadms(t *testing.T) {
	cache, err := binaries.Cache()
	must(t, err)
	for _, k := range noted(t) {
		t.Run(k.version, func(t *testing.T) {
			program := filepath.Join(cache, "build", "kubernetes-"+k.version, "bin", "kubeadm")
			if _, err := os.Stat(program); err != nil {
				t.Skipf("it is not built: %v", err)
			}
			for command, names := range map[string][]string{"init": k.init, "join": k.join} {
				shown := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
					return strings.HasSuffix(name, "*")
				})
				if help := helped(t, program, command); !slices.Equal(help, shown) {
					t.Errorf("kubeadm %s --help shows\n%q, and noted are\n%q", command, help, shown)
				}
				if refused := refuses(t, program, k.version, command, whole(names)); refused != "" {
					t.Errorf("kubeadm %s has no phase %s", command, refused)
				}
			}
			if refused, there := refuses(t, program, k.version, "join", []string{deprecated}),
				slices.Contains(whole(k.join), deprecated); there == (refused != "") {
				t.Errorf("kubeadm join takes %s: %v", deprecated, refused == "")
			}
		})
	}
}

// helped are the phases in the help text of a command.
func helped(t *testing.T, program, command string) (names []string) {
	t.Helper()
	out, err := exec.Command(program, command, "--help").Output()
	must(t, err)
	parts := strings.Split(string(out), "```")
	if len(parts) != 3 {
		t.Fatalf("kubeadm %s --help lists no phases:\n%s", command, out)
	}
	parent := ""
	for line := range strings.Lines(strings.TrimSpace(parts[1])) {
		name := strings.Fields(line)[0]
		if strings.HasPrefix(name, "/") {
			name = parent + name
		} else {
			parent = name
		}
		names = append(names, name)
	}
	return names
}

// refuses returns the first of the names that kubeadm does not take for a phase. It is told to skip
// one that is surely none, too, and so does nothing.
func refuses(t *testing.T, program, version, command string, names []string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "kubeadm.yaml")
	text := map[string]string{"init": initConfiguration, "join": joinConfiguration}[command]
	must(t, os.WriteFile(config, []byte(fmt.Sprintf(text, version)), 0o600))
	const none = "none-of-kubeadms"
	out, err := exec.Command(program, command, "--config", config,
		"--skip-phases", strings.Join(append(slices.Clone(names), none), ",")).CombinedOutput()
	found := regexp.MustCompile(`invalid phase name: (\S+)`).FindStringSubmatch(string(out))
	if err == nil || found == nil {
		t.Fatalf("kubeadm %s takes %s for a phase, or says something else: %v\n%s", command, none, err, out)
	}
	if found[1] == none {
		return ""
	}
	return found[1]
}
