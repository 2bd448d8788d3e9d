//go:build e2e

package dist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// promtool is Debian's, taken out of its package: installing that would start a Prometheus.
func promtool(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	apt := func(args ...string) ([]byte, error) {
		cmd := exec.Command("apt-get", args...)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	// The list of packages may be missing, or old.
	if _, err := apt("download", "prometheus"); err != nil {
		if out, err := apt("update"); err != nil {
			t.Fatalf("apt-get update: %v\n%s", err, out)
		}
		if out, err := apt("download", "prometheus"); err != nil {
			t.Fatalf("apt-get download prometheus: %v\n%s", err, out)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "prometheus_*.deb"))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("it downloaded %q", found)
	}
	out, err := exec.Command("dpkg", "--extract", found[0], dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "usr/bin/promtool")
}

func TestPrometheusTakesTheMetricsAndTheAlertsFire(t *testing.T) {
	tool, dir := promtool(t), unpacked(t, artefact(t, "etcdpod_*_linux_"+runtime.GOARCH+".tar.gz"))
	alerts := filepath.Join(dir, "docs/alerts")
	for _, args := range [][]string{
		{"check", "rules", filepath.Join(alerts, "etcdpod.rules.yml")},
		{"test", "rules", filepath.Join(alerts, "etcdpod.test.yml")},
	} {
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	if out, err := exec.Command(tool, "check", "rules", asRules(t, filepath.Join(alerts, "etcdpod.dashboard.json"))).
		CombinedOutput(); err != nil {
		t.Errorf("of the dashboard: %v\n%s", err, out)
	}
	metrics, err := exec.Command(filepath.Join(dir, "etcdpod"), "--root", t.TempDir(), "status",
		"-o", "prometheus").Output()
	if code := new(exec.ExitError); !errors.As(err, &code) || code.ExitCode() != 6 || len(metrics) == 0 {
		t.Fatalf("status of an empty machine ends with %v and %d bytes", err, len(metrics))
	}
	check := exec.Command(tool, "check", "metrics")
	check.Stdin = bytes.NewReader(metrics)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s\n%s", err, out, metrics)
	}
}

// asRules returns a file of rules with all that a dashboard asks of Prometheus, which promtool can
// read.
func asRules(t *testing.T, dashboard string) string {
	t.Helper()
	text, err := os.ReadFile(dashboard)
	must(t, err)
	var has struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(text, &has))
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for _, panel := range has.Panels {
		for _, target := range panel.Targets {
			rules = append(rules, rule{fmt.Sprintf("panel:%d", len(rules)), target.Expr})
		}
	}
	if len(rules) < 20 {
		t.Fatalf("the dashboard asks %d things", len(rules))
	}
	group := map[string]any{"name": "dashboard", "rules": rules}
	all, err := json.Marshal(map[string]any{"groups": []any{group}}) // JSON is YAML
	must(t, err)
	file := filepath.Join(t.TempDir(), "rules.yml")
	must(t, os.WriteFile(file, all, 0o600))
	return file
}
