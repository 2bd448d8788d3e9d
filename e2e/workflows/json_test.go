package workflows

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/schema"
)

// Each schema in docs/schema is held by what its command writes on real etcds.
func TestEveryCommandWritesJSONAsItsSchemaSays(t *testing.T) {
	c := startTogether(t)
	n := c.nodes[0]
	b := n.backup()
	held := map[string]bool{}
	hold := func(name, text string) {
		t.Helper()
		must(t, schema.Hold(name, text))
		held[name] = true
	}
	// last is the last line of a command that serves a result, whatever it finds.
	last := func(args ...string) string {
		t.Helper()
		r := n.run(append(args, "-o", "json")...)
		if r.Code != 0 && r.Code != 6 {
			t.Fatalf("%q ended with %d: %s", args, r.Code, r.Stderr)
		}
		lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
		for _, line := range lines[:len(lines)-1] {
			hold("event", line)
		}
		return lines[len(lines)-1]
	}
	hold("version", last("version"))
	hold("status", last("status"))
	hold("backup", last("backup"))
	sidecar, err := os.ReadFile(b.file + ".json")
	must(t, err)
	hold("sidecar", string(sidecar))
	hold("backups", last("backups"))
	hold("verify", last("verify", b.file))
	hold("rehearse", last("rehearse", b.file))
	must(t, os.Mkdir(filepath.Join(n.Root, "share"), 0o700))
	hold("target-check", last("target", "check", "--create", "file:///share"))
	sent := last("backup", "--to", "file:///share")
	hold("backup", sent)
	var made struct{ Result struct{ Path string } }
	must(t, json.Unmarshal([]byte(sent), &made))
	hold("fetch", last("fetch", "--unsigned", "--dir", "/fetched", made.Result.Path))
	hold("certs-check", last("certs", "check"))
	hold("certs-generate-csr", last("certs", "generate-csr", "--csr-dir", "/root/csr"))
	hold("apiserver-show", last("apiserver", "show"))
	hold("members", last("members"))
	hold("members-set-peer-url", last("members", "set-peer-url", "cp1", n.PeerURL(), "--dry-run"))
	hold("members-move-leader", last("members", "move-leader", "--dry-run"))
	hold("defrag", last("defrag", "--dry-run"))
	hold("plan", last("certs", "renew", "--dry-run"))
	hold("run", last("certs", "renew", "--yes"))
	hold("runs", last("runs"))
	hold("runs-show", last("runs", "show"))
	hold("runs-show-follow", last("runs", "show", "--follow"))
	hold("prune", last("prune", "--dry-run"))
	hold("upgrade-plan", c.typed("cp1", "etcdpod upgrade plan -o json", 5))
	hold("downgrade-cancel", c.typed("cp1", "etcdpod downgrade cancel --yes -o json", 0))
	hold("status-nodes", c.typed("cp1", "etcdpod status --nodes cp1,cp2,cp3 -o json", 6))
	hold("apiserver-show-nodes", c.typed("cp1", "etcdpod apiserver show --nodes cp1,cp2,cp3 -o json", 0))
	hold("plan-nodes", c.typed("cp1", "etcdpod restore --nodes cp1,cp2,cp3 --dry-run -o json "+b.file, 0))
	hold("error", n.want(5, []string{"resume", "-o", "json"}).Stderr)

	files, err := filepath.Glob("../../docs/schema/*.json")
	must(t, err)
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".json"); !held[name] {
			t.Errorf("nothing was held to %s", name)
		}
	}
	if len(files) < 19 {
		t.Errorf("the schemas are %q", files)
	}
}
