// Package units writes what has etcdpod run at its times: a service and a timer of systemd, or a
// CronJob of Kubernetes. Words in, text out: what the words mean is the command line's business.
package units

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// Job is a command of etcdpod that is to be run at its times, with as much about it as decides what
// it may do.
type Job struct {
	Does    string   // one of [Commands]
	Flags   []string // what is typed after the command, ready to be run
	Printed []string // the command line that prints the unit
	When    string   // for systemd OnCalendar=, for a CronJob its schedule

	Dir      string // of backups, if one was given; empty: etcdpod's own
	Keep     int    // how many backups are kept; 0: all
	Shared   bool   // others may write to the directory of backups, too
	Textfile string // where node-exporter looks for metrics
	// Something below /home, /root or /run/user is read.
	Home bool

	Program string // the path of etcdpod on the node
	Only    string // of systemd's files, the one with this suffix; empty: both

	Image string
	Node  string   // the CronJob's; empty: any control plane
	Files []string // of the node, which a pod reads
	// The Secret that has what lets a pod in; empty: files of the node do.
	Secret string
	// A pod reaches etcd where the node itself does.
	OnHost bool
}

// Commands are those of etcdpod that are run at their times.
func Commands() []string { return []string{"backup", "defrag", "status"} }

// InPods are those of them that a pod can do.
func InPods() []string { return []string{"backup", "defrag"} }

// ByDefault are the flags that a command has in a unit, each with its value and with those that
// stand for it, too: who gives one of them has decided.
func ByDefault(does string) []Default {
	switch does {
	case "backup":
		return []Default{{Words: []string{"--keep", "14"}, Unless: []string{"keep"}}}
	case "defrag":
		return []Default{{Unless: []string{"when", "min-reclaim"}, Words: []string{"--when",
			"dbQuotaUsage > 0.8 || dbSize - dbSizeInUse > 200*MiB", "--min-reclaim", "10%"}}}
	}
	return []Default{{Words: []string{"--max-backup-age", "26h"}, Unless: []string{"max-backup-age"}}}
}

// Default are words of a command line, unless one of some flags is in it.
type Default struct{ Words, Unless []string }

// Calendar is when a timer has a command run, if nobody says otherwise.
func Calendar(does string) string {
	return map[string]string{"backup": "daily", "defrag": "weekly", "status": "*:0/5"}[does]
}

// Schedule is the same for a CronJob.
func Schedule(does string) string {
	return map[string]string{"backup": "0 2 * * *", "defrag": "0 3 * * 0"}[does]
}

const (
	// Programs is where packages install etcdpod.
	Programs = "/usr/bin/etcdpod"
	// Collector is where Debian's node-exporter looks for metrics.
	Collector = "/var/lib/prometheus/node-exporter"
	home      = "/var/lib/etcdpod"
	pki       = "/etc/kubernetes/pki/"
	// longest is how long the name of a CronJob may be: Kubernetes adds to it for its Jobs.
	longest = 52
)

// Access are kubeadm's files with which a client of etcd is let in: CA, certificate and key.
func Access() [3]string {
	return [3]string{pki + "etcd/ca.crt", pki + "etcd/healthcheck-client.crt", pki + "etcd/healthcheck-client.key"}
}

// InSecret are the same where a pod has them from a Secret.
func InSecret() [3]string { return [3]string{"/certs/ca.crt", "/certs/tls.crt", "/certs/tls.key"} }

// Described are the files that a backup reads: those with which it is let in, etcd's own
// certificate, and those whose fingerprints go into the sidecar.
func Described() []string {
	access := Access()
	return append(access[:], pki+"etcd/server.crt", pki+"ca.crt", pki+"front-proxy-ca.crt", pki+"sa.pub")
}

//go:embed *.tmpl
var files embed.FS

var texts = template.Must(template.New("").Funcs(template.FuncMap{
	"path": specifiers, "percent": percent, "quote": strconv.Quote,
}).ParseFS(files, "*.tmpl"))

// Systemd is the text of the service and of the timer, or of one of them.
func (j Job) Systemd() (string, error) {
	var all []string
	for _, kind := range []string{"service", "timer"} {
		if j.Only != "" && j.Only != kind {
			continue
		}
		text, err := j.text(kind + ".tmpl")
		if err != nil {
			return "", err
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n"), nil
}

// CronJob is the text of a CronJob.
func (j Job) CronJob() (string, error) { return j.text("cronjob.tmpl") }

func (j Job) text(name string) (string, error) {
	var b strings.Builder
	if err := texts.ExecuteTemplate(&b, name, j); err != nil {
		return "", fmt.Errorf("cannot write the unit: %w", err)
	}
	return b.String(), nil
}

// Unit is the name of all that is made for the command.
func (j Job) Unit() string { return "etcdpod-" + j.Does }

// Name is the CronJob's.
func (j Job) Name() string {
	if j.Node == "" {
		return j.Unit()
	}
	return j.Unit() + "-" + j.Node
}

// TooLong says whether the CronJob's name is longer than Kubernetes allows.
func (j Job) TooLong() bool { return len(j.Name()) > longest }

// Typed is the command line that prints the unit, as a shell takes it.
func (j Job) Typed() string { return shellWords(j.Printed) }

// Local says that nothing can be pulled: no registry is called localhost.
func (j Job) Local() bool { return strings.HasPrefix(j.Image, "localhost/") }

// Elsewhere is the directory of backups, if it is not below etcdpod's own.
func (j Job) Elsewhere() string {
	if dir := path.Clean(j.Dir); j.Dir != "" && dir != home && !strings.HasPrefix(dir, home+"/") {
		return dir
	}
	return ""
}

// Place is where the backups go.
func (j Job) Place() string {
	if j.Dir == "" {
		return home + "/backups"
	}
	return path.Clean(j.Dir)
}

// Words is the command line without the program.
func (j Job) Words() []string { return append([]string{j.Does}, j.Flags...) }

// Exec is what systemd runs.
func (j Job) Exec() string {
	all := append([]string{j.Program}, j.Words()...)
	if j.Does == "status" {
		all = []string{"/bin/sh", "-c", j.script(all)}
	}
	for i := range all {
		all[i] = word(all[i])
	}
	return strings.Join(all, " ")
}

// script has metrics take the place of the last ones only if they are whole, and ends as etcdpod.
func (j Job) script(words []string) string {
	return shellWords(words) + " >etcdpod.new; code=$?; " +
		"case $code in 0|6) mv -f etcdpod.new etcdpod.prom || code=1 ;; esac; exit $code"
}

// Capabilities are those of root's rights that it needs.
func (j Job) Capabilities() string {
	all := []string{"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"}
	if j.Does == "status" || j.Shared {
		all = append(all, "CAP_DAC_OVERRIDE")
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func shellWords(words []string) string {
	var all []string
	for _, w := range words {
		all = append(all, shell(w))
	}
	return strings.Join(all, " ")
}

// plain says whether a word means itself to a shell and to systemd.
func plain(w string) bool {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@+=:,./-"
	return w != "" && !strings.ContainsFunc(w, func(r rune) bool { return !strings.ContainsRune(safe, r) })
}

// shell is a word as a shell takes it.
func shell(w string) string {
	if plain(w) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// word is one word of a command line of systemd's: systemd.service(5), COMMAND LINES.
func word(w string) string { return strings.ReplaceAll(specifiers(w), "$", "$$") }

// specifiers is a word of any other setting of systemd's: systemd.syntax(7) and, of %,
// systemd.unit(5).
func specifiers(w string) string {
	if plain(w) {
		return w
	}
	return `"` + percent(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w)) + `"`
}

// percent is specifiers for a setting that takes the whole line for one word.
func percent(w string) string { return strings.ReplaceAll(w, "%", "%%") }
