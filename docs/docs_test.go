// Package docs_test holds the pages to what is there: commands, flags, files, tests and make
// targets. The runbooks of several control planes are followed, each on a cluster of its own.
package docs_test

import (
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
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
	typed = regexp.MustCompile(`(?m)^(?:.*/usr/local/bin/|(?:[#$] )?)etcdpod ([a-z].*)$`)
	// Of the shell, or of a line in authorized_keys.
	theRest  = regexp.MustCompile(`(?:\s+(?:&&|\|\||\||>|;|#)\s|",\S* ssh-).*$`)
	named    = regexp.MustCompile("`etcdpod ([a-z][^`]*)`")
	inQuotes = regexp.MustCompile(`'[^']*'`)
	configOf = regexp.MustCompile(`--config \S+`)
	aFlag    = regexp.MustCompile(`--[a-z-]+`)
	aWord    = regexp.MustCompile(`^[a-z][a-z-]*$`)
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
			together := inQuotes.ReplaceAllStringFunc(found[1], func(word string) string {
				return strings.ReplaceAll(word, " ", heldTogether)
			})
			all = append(all, theRest.ReplaceAllString(together, ""))
		}
	}
	return all
}

// heldTogether stands for a space in a word that is quoted for the shell.
const heldTogether = "\x01"

// unquoted is what the shell makes of a word.
func unquoted(word string) string {
	return strings.ReplaceAll(strings.ReplaceAll(word, heldTogether, " "), "'", "")
}

// usage asks the program itself, on a node on which there is nothing.
func usage(t *testing.T, command string) (code int, output string) {
	t.Helper()
	root := t.TempDir()
	host, err := os.Hostname()
	must(t, err)
	t.Setenv("ETCDPOD_SSH_COMMAND", "false") // nobody is to be reached
	command = strings.Replace(command, "--nodes ", "--nodes "+host+",", 1)
	command, _, _ = strings.Cut(command, " >") // where its output goes is the shell's business
	command = configOf.ReplaceAllString(command, "--config "+configuration(t, strings.HasPrefix(command, "join")))
	args := []string{"--root", root}
	for word := range strings.FieldsSeq(command) {
		args = append(args, unquoted(word))
	}
	if last := len(args) - 1; strings.HasPrefix(args[last], "/") && !strings.HasPrefix(args[last-1], "--") {
		args[last] = root + args[last] // a file, which must be on that node
	}
	if slices.Contains([]string{"backup", "restore", "prune", "remove", "replace", "readdress"}, args[2]) ||
		strings.HasPrefix(command, "apiserver set ") || strings.HasPrefix(command, "upgrade --") ||
		strings.HasPrefix(command, "downgrade ") {
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
	page := "etcdpod is prose\n\n    etcdpod mirror x.db\n\n" +
		"    0 2 * * * root /usr/local/bin/etcdpod backup --keep " +
		"all && true\n\n```console\n# etcdpod verify\n$ etcdpod restore --from-data x | tail\ngood\n```\n"
	all := commands(page)
	if want := []string{"mirror x.db", "backup --keep all",
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
	texts := pages(t)
	messages, err := os.ReadFile("messages.txt")
	must(t, err)
	texts["docs/messages.txt"] = string(messages) // what the program itself proposes
	checked := map[string]string{}
	for name, page := range texts {
		for _, text := range named.FindAllStringSubmatch(page, -1) {
			wrong, known := checked[text[1]]
			if !known {
				wrong = wrongCommand(t, text[1])
				checked[text[1]] = wrong
			}
			if wrong != "" {
				t.Errorf("%s names `etcdpod %s`: %s", name, text[1], wrong)
			}
		}
	}
	if len(checked) < 10 {
		t.Errorf("only %d commands were found in the text", len(checked))
	}
}

func TestACommandOrFlagThatIsNotThereIsFound(t *testing.T) {
	for _, wrong := range []string{"mirror", "certs rotate-ca", "init phase nowhere", "backup --from-nowhere",
		"apiserver rotate",
		"help mirror"} {
		if wrongCommand(t, wrong) == "" {
			t.Errorf("nothing is wrong with `etcdpod %s`", wrong)
		}
	}
	for _, right := range []string{"certs renew --from DIR", "init phase certs", "restore %s --dry-run",
		"runs show RUN", "help backup", "help %s", "certs", "status -o json"} {
		if wrong := wrongCommand(t, right); wrong != "" {
			t.Errorf("`etcdpod %s`: %s", right, wrong)
		}
	}
}

// wrongCommand says what is not there of a command: itself, or a flag.
func wrongCommand(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	if words[0] == "help" {
		if words = words[1:]; len(words) == 0 || !aWord.MatchString(words[0]) {
			return ""
		}
	}
	code, help := 0, ""
	n := min(len(words), 3) // a name has up to three words
	for ; n > 0; n-- {
		if code, help = etcdpod(t, append([]string{"help"}, words[:n]...)...); code == 0 {
			break
		}
	}
	group := "Usage: etcdpod " + strings.Join(words[:n], " ") + " COMMAND "
	if n == 0 || strings.Contains(help, group) && n < len(words) && aWord.MatchString(words[n]) {
		return "there is no such command\n" + help
	}
	_, global := etcdpod(t, "help")
	for _, flag := range aFlag.FindAllString(command, -1) {
		if !regexp.MustCompile(`(?m)^  ` + flag + `\b`).MatchString(help + global) {
			return "there is no " + flag
		}
	}
	return ""
}

func TestEveryFileAndTestOnThePagesIsThere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for name, page := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(page, -1) {
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(name), found[1])); err != nil {
				t.Errorf("%s links to what is not there: %v", name, err)
			}
		}
		for _, wrong := range wrongNames(t, plainSpaces(page)) {
			t.Errorf("%s %s", name, wrong)
		}
	}
	for name, text := range readmes(t) {
		for _, wrong := range wrongNames(t, plainSpaces(text)) {
			t.Errorf("%s %s", name, wrong)
		}
	}
}

func TestAFileOrTestThatIsNotThereIsFound(t *testing.T) {
	good := "`phases/doc.go`, `phases/restore` `TestThePlanOfARestoreReadsLikeARunbook`, `docs/docs_test.go` " +
		"`TestAFileOrTestThatIsNotThereIsFound`, docs_test.go, `go test ./phases/backup`, cmd/kubeadm/app/nowhere.go"
	if wrong := wrongNames(t, good); len(wrong) > 0 {
		t.Errorf("what is there is not found: %q", wrong)
	}
	for _, bad := range []string{
		"`phases/crash_test.go`", "in phases/workflows.go there", "`phases/nowhere`", "`transaction_tests_test.go`",
		"`phases/doc.go` `TestNothing`", "`phases/restore` `TestThePlanOfARestoreReadsLikeARunbook`, `TestNothing`",
		"`go test ./phases/nowhere`", "`make test PKGS=./phases/nowhere`",
	} {
		if wrong := wrongNames(t, bad); len(wrong) != 1 {
			t.Errorf("of %s is found: %q", bad, wrong)
		}
	}
}

var (
	ownPath = regexp.MustCompile("`((?:cmd|phases|e2e|manifests|pki|templates|docs)/[A-Za-z0-9_./-]+)`" +
		"((?:,? `Test[A-Za-z0-9]+`)*)")
	ownFile = regexp.MustCompile(`(?:^|[^\w/.-])` +
		`((?:cmd/etcdpod|phases|e2e|manifests|pki|templates|docs)/[A-Za-z0-9_./-]+\.(?:go|md))\b`)
	ownPackage = regexp.MustCompile(`(?:go (?:test|run|vet)[^` + "`" + `]*?|PKGS=)\s?\./([a-z0-9_/]+)`)
	bareFile   = regexp.MustCompile(`(?:^|[\s(` + "`" + `])([a-z0-9_]+\.go)\b`)
	aTest      = regexp.MustCompile(`Test[A-Za-z0-9]+`)
)

// wrongNames are the files, packages and tests that a text names, and that are not there.
func wrongNames(t *testing.T, text string) (wrong []string) {
	t.Helper()
	seen := map[string]bool{}
	missing := func(path string) bool {
		_, err := os.Stat(filepath.Join("..", path))
		if err != nil && !seen[path] {
			wrong = append(wrong, "names what is not there: "+path)
		}
		seen[path] = true
		return err != nil
	}
	for _, found := range ownPath.FindAllStringSubmatch(text, -1) {
		if missing(found[1]) {
			continue
		}
		for _, test := range aTest.FindAllString(found[2], -1) {
			if !hasTest(t, found[1], test) {
				wrong = append(wrong, fmt.Sprintf("says that %s has %s, and it has not", found[1], test))
			}
		}
	}
	for _, found := range ownFile.FindAllStringSubmatch(text, -1) {
		missing(found[1])
	}
	for _, found := range ownPackage.FindAllStringSubmatch(text, -1) {
		missing(strings.TrimRight(found[1], "/"))
	}
	for _, found := range bareFile.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(goFileNames(t), found[1]) {
			wrong = append(wrong, "names what is not there: "+found[1])
		}
	}
	return wrong
}

// hasTest says whether a file, or one of a package, has a test.
func hasTest(t *testing.T, path, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", path, "*_test.go"))
	must(t, err)
	for _, file := range append(files, filepath.Join("..", path)) {
		data, _ := os.ReadFile(file) // a directory has no text
		if strings.Contains(string(data), "func "+test+"(") {
			return true
		}
	}
	return false
}

// goFileNames are those of the module, without their directories.
var goFileNames = func() func(*testing.T) []string {
	var names []string
	return func(t *testing.T) []string {
		if names == nil {
			walk(t, ".go", func(path string, _ []byte) { names = append(names, filepath.Base(path)) })
		}
		return names
	}
}()

// readmes are the Markdown files beside code and test data.
func readmes(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, top := range []string{"cmd", "phases", "e2e"} {
		walkIn(t, top, ".md", func(path string, data []byte) { all[path] = string(data) })
	}
	return all
}

// walk does something with each file of a kind.
func walk(t *testing.T, ext string, do func(path string, data []byte)) {
	t.Helper()
	for _, top := range []string{"cmd", "phases", "e2e", "manifests", "pki", "templates", "units", "docs"} {
		walkIn(t, top, ext, do)
	}
}

func walkIn(t *testing.T, top, ext string, do func(path string, data []byte)) {
	t.Helper()
	must(t, filepath.WalkDir(filepath.Join("..", top), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ext {
			return err
		}
		data, err := os.ReadFile(path)
		do(strings.TrimPrefix(path, "../"), data)
		return err
	}))
}

// plainSpaces is a text on one line, so that what is wrapped is found.
func plainSpaces(text string) string { return strings.Join(strings.Fields(text), " ") }

// In a comment a file without a directory is one of the same package.
func TestEveryFileInACommentIsThere(t *testing.T) {
	bareTest := regexp.MustCompile(`(?:^|[\s(])([a-z0-9_]+_test\.go)\b`)
	found := 0
	walk(t, ".go", func(path string, data []byte) {
		file, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ParseComments)
		must(t, err)
		for _, group := range file.Comments {
			text := plainSpaces(group.Text())
			var names []string
			for _, own := range ownFile.FindAllStringSubmatch(text, -1) {
				names = append(names, own[1])
			}
			for _, bare := range bareTest.FindAllStringSubmatch(text, -1) {
				names = append(names, filepath.Join(filepath.Dir(path), bare[1]))
			}
			for _, name := range names {
				found++
				if _, err := os.Stat(filepath.Join("..", name)); err != nil {
					t.Errorf("a comment in %s names what is not there: %v", path, err)
				}
			}
		}
	})
	if found < 10 {
		t.Errorf("only %d files were found in comments", found)
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
