// Command vuln runs govulncheck over all code, and fails if there is a vulnerability that etcdpod's
// code can reach and that nobody has judged. Its arguments are govulncheck's. With -offline, that
// the database cannot be reached is said, and is no failure.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const govulncheck = "golang.org/x/vuln/cmd/govulncheck@v1.9.0"

// judged are vulnerabilities that do not concern etcdpod, each with the reason. The database knows
// of none of them which functions are meant, and so takes every function of the module for it.
func judged() map[string]string {
	return map[string]string{
		"GO-2025-3521": "is about gitRepo volumes, which the kubelet mounts; etcdpod holds kubeadm's API types alone",
		"GO-2025-3547": "is about kube-apiserver's admission; etcdpod holds kubeadm's API types alone",
	}
}

func main() {
	offline := flag.Bool("offline", false, "end well if the database cannot be reached")
	flag.Parse()
	log, err := run(flag.Args())
	if errors.Is(err, errUnreachable) && *offline {
		fmt.Println("vulnerabilities: not checked,", err)
		return
	}
	var found map[string]string
	if err == nil {
		found, err = reached(bytes.NewReader(log))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vuln:", err)
		os.Exit(2)
	}
	if !tell(os.Stdout, found) {
		os.Exit(1)
	}
}

var errUnreachable = errors.New("the database cannot be reached")

// run returns what govulncheck writes. An error wraps errUnreachable where it has asked nobody.
func run(args []string) ([]byte, error) {
	words := slices.Concat([]string{"run", govulncheck, "-format", "json"}, args, []string{"./..."})
	cmd := exec.Command("go", words...)
	var log, says bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &says
	if err := cmd.Run(); err != nil {
		return nil, why(says.String(), err)
	}
	return log.Bytes(), nil
}

// why explains a failure of govulncheck by what it said.
func why(says string, err error) error {
	says = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(says), err.Error()))
	if cause, ok := strings.CutPrefix(says, "govulncheck: fetching vulnerabilities: "); ok {
		return fmt.Errorf("%w: %s", errUnreachable, cause)
	}
	return fmt.Errorf("govulncheck failed: %w: %s", err, says)
}

// message is one of govulncheck's, as far as it matters here.
type message struct {
	Config  *struct{ DB string }
	Finding *struct {
		OSV   string
		Trace []struct{ Module, Version, Package, Function string }
	}
}

// reached returns the vulnerabilities whose code can be reached, each with one function of it.
func reached(from io.Reader) (map[string]string, error) {
	found := map[string]string{}
	ran := false
	for d := json.NewDecoder(from); ; {
		var m message
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("it is not what govulncheck writes: %w", err)
		}
		ran = ran || m.Config != nil && m.Config.DB != ""
		if m.Finding != nil && len(m.Finding.Trace) > 0 && m.Finding.Trace[0].Function != "" {
			at := m.Finding.Trace[0]
			found[m.Finding.OSV] = fmt.Sprintf("%s.%s of %s %s", at.Package, at.Function, at.Module, at.Version)
		}
	}
	if !ran {
		return nil, errors.New("govulncheck did not say which database it asked")
	}
	return found, nil
}

// tell writes what was found, and says whether all of it is judged.
func tell(to io.Writer, found map[string]string) bool {
	good := true
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if why := judged()[id]; why != "" {
			fmt.Fprintf(to, "%s %s\n", id, why)
			continue
		}
		good = false
		fmt.Fprintf(to, "%s can be reached: %s\n  https://pkg.go.dev/vuln/%s\n", id, found[id], id)
	}
	if good {
		fmt.Fprintln(to, "no other vulnerability can be reached")
	}
	return good
}
