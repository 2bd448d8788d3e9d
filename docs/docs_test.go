// Package docs_test holds the pages to what is there: commands, flags, files, tests and make
// targets. The runbooks of several control planes are followed, each on a cluster of its own.
package docs_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// binary is the built etcdpod.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// run builds etcdpod as it is now. ETCDPOD names one that is built already.
func run(m *testing.M) (code int, err error) {
	if binary = os.Getenv("ETCDPOD"); binary != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "etcdpod")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary = filepath.Join(dir, "etcdpod")
	if out, err := exec.Command("go", "build", "-o", binary,
		"github.com/etcdpod/etcdpod/cmd/etcdpod").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("cannot build etcdpod: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// pages returns the Markdown pages by name, relative to the root of the module. docs/commands.md is
// made from the program.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md", "*/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if name != "commands.md" {
				all[filepath.Join("docs", name)] = string(data)
			}
		}
	}
	if len(all) < 5 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return all
}

var (
	typed    = regexp.MustCompile(`(?m)^(?:.*/usr/local/bin/|(?:[#$] )?)etcdpod ([a-z].*)$`)
	theRest  = regexp.MustCompile(`\s+(?:&&|\|\||\||>|;|#)\s.*$`) // of the shell
	named    = regexp.MustCompile("`etcdpod ([a-z][^`]*)`")
	configOf = regexp.MustCompile(`--config \S+`)
	aFlag    = regexp.MustCompile(`--[a-z-]+`)
)

// commands returns what a page's blocks of code tell people to type, without the first word.
func commands(page string) []string {
	var all []string
	fenced := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		code, indented := strings.CutPrefix(line, "    ")
		if !fenced && !indented {
			continue
		}
		if found := typed.FindStringSubmatch(strings.TrimRight(code, "\n")); found != nil {
			all = append(all, theRest.ReplaceAllString(found[1], ""))
		}
	}
	return all
}

// usage asks the program itself, on a node on which there is nothing.
func usage(t *testing.T, command string) (code int, output string) {
	t.Helper()
	root := t.TempDir()
	host, err := os.Hostname()
	must(t, err)
	t.Setenv("ETCDPOD_SSH_COMMAND", "false") // nobody is to be reached
	command = strings.Replace(command, "--nodes ", "--nodes "+host+",", 1)
	command = configOf.ReplaceAllString(command, "--config "+configuration(t, strings.HasPrefix(command, "join")))
	args := append([]string{"--root", root}, strings.Fields(command)...)
	if last := len(args) - 1; strings.HasPrefix(args[last], "/") && !strings.HasPrefix(args[last-1], "--") {
		args[last] = root + args[last] // a file, which must be on that node
	}
	if slices.Contains([]string{"backup", "restore", "prune"}, args[2]) {
		args = append(args, "--dry-run") // which asks nobody
	}
	return etcdpod(t, args...)
}

// configuration is a file for kubeadm on this machine.
func configuration(t *testing.T, join bool) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "kubeadm.yaml")
	text := initConfiguration
	if join {
		text = joinConfiguration
	}
	must(t, os.WriteFile(name, []byte(fmt.Sprintf(text, "1.37.2")), 0o600))
	return name
}

const (
	initConfiguration = `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint:
  advertiseAddress: 10.0.0.11
nodeRegistration:
  name: cp1
  criSocket: unix:///nowhere.sock
` + clusterConfiguration
	joinConfiguration = `apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
controlPlane:
  localAPIEndpoint:
    advertiseAddress: 10.0.0.13
discovery:
  bootstrapToken:
    apiServerEndpoint: 10.0.0.10:6443
    token: abcdef.0123456789abcdef
    unsafeSkipCAVerification: true
nodeRegistration:
  name: cp3
  criSocket: unix:///nowhere.sock
` + clusterConfiguration
	clusterConfiguration = `---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v%s
`
)

func etcdpod(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	out, err := exec.Command(binary, args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, string(out)
}

const wrongUsage = 2

func TestEveryCommandOnThePagesCanBeTyped(t *testing.T) {
	found := 0
	for name, page := range pages(t) {
		for _, command := range commands(page) {
			found++
			if code, out := usage(t, command); code == wrongUsage {
				t.Errorf("%s names `etcdpod %s`: %s", name, command, out)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d commands were found on the pages", found)
	}
}

func TestWhatCannotBeTypedIsFound(t *testing.T) {
	page := "etcdpod is prose\n\n    etcdpod rehearse x.db\n\n" +
		"    0 2 * * * root /usr/local/bin/etcdpod backup --keep " +
		"all && true\n\n```console\n# etcdpod verify\n$ etcdpod restore --from-data x | tail\ngood\n```\n"
	all := commands(page)
	if want := []string{"rehearse x.db", "backup --keep all",
		"verify", "restore --from-data x"}; !slices.Equal(all, want) {
		t.Fatalf("the page names %q", all)
	}
	for _, command := range all {
		if code, _ := usage(t, command); code != wrongUsage {
			t.Errorf("`etcdpod %s` ends with %d", command, code)
		}
	}
}

// In running text a command may be named without all that it needs.
func TestEveryCommandAndFlagInTheTextIsThere(t *testing.T) {
	_, global := etcdpod(t, "help")
	found := 0
	for name, page := range pages(t) {
		for _, text := range named.FindAllStringSubmatch(page, -1) {
			found++
			words := strings.Fields(text[1])
			code, help := etcdpod(t, "help", words[0])
			if code != 0 && len(words) > 1 { // a group of commands
				code, help = etcdpod(t, "help", words[0], words[1])
			}
			if words[0] != "help" && code != 0 {
				t.Errorf("%s names `etcdpod %s`: %s", name, text[1], help)
			}
			for _, flag := range aFlag.FindAllString(text[1], -1) {
				if !regexp.MustCompile(`(?m)^  ` + flag + `\b`).MatchString(help + global) {
					t.Errorf("%s names `etcdpod %s`, and there is no %s", name, text[1], flag)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands were found in the text", found)
	}
}

func TestEveryFileAndTestOnThePagesIsThere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	file := regexp.MustCompile("`((?:cmd|phases|e2e|manifests|pki|docs)/[A-Za-z0-9_./-]+)`(?: `(Test[A-Za-z0-9]+)`)?")
	for name, page := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(page, -1) {
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(name), found[1])); err != nil {
				t.Errorf("%s links to what is not there: %v", name, err)
			}
		}
		for _, found := range file.FindAllStringSubmatch(page, -1) {
			path := filepath.Join("..", found[1])
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s names what is not there: %v", name, err)
			} else if data, _ := os.ReadFile(path); found[2] != "" &&
				!strings.Contains(string(data), "func "+found[2]+"(") {
				t.Errorf("%s says that %s has %s, and it has not", name, found[1], found[2])
			}
		}
	}
}

func TestEveryMakeTargetOnThePagesIsThere(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	target := regexp.MustCompile("(?m)(?:^ +|`)make ([a-z0-9-]+)")
	for name, page := range pages(t) {
		for _, found := range target.FindAllStringSubmatch(page, -1) {
			if !strings.Contains(string(makefile), "\n"+found[1]+":") {
				t.Errorf("%s names `make %s`, and there is no such target", name, found[1])
			}
		}
	}
}
