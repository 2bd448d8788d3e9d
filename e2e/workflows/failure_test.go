package workflows

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/leash"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// undone holds a restore to fail (1) and to have taken everything back by itself.
func (n *node) undone(b backup, args []string, texts ...string) {
	n.t.Helper()
	before := n.state()
	n.want(1, append([]string{"restore", b.file, "--yes"}, args...), append(texts, "everything is as before")...)
	n.wantOld(before)
	run := n.lastRun()
	if run.State != "rolled back" || run.Reason == "" {
		n.t.Errorf("the run is listed as %+v", run)
	}
	if left, err := os.ReadDir(n.Path(run.Path)); err != nil || len(left) != 1 {
		n.t.Errorf("of the run is left: %v, %v", left, err)
	}
	n.want(5, []string{"resume"}, "no run is open")
}

func TestAKubeletThatDoesNotStopTakesTheRestoreBack(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	n.undone(b, []string{"--kubelet-stop-command", "true", "--stop-timeout", "10s"}, "kubelet")
	n.undone(b, []string{"--kubelet-stop-command", "sh -c 'echo no such unit >&2; exit 5'"}, "kubelet", "no such unit")
}

// impostor replaces etcd by a script that runs it on the old data, and something else on data
// that was just restored.
func (n *node) impostor(instead string) {
	n.t.Helper()
	n.replaceImage("/etcd:", func(real string) string {
		script := filepath.Join(n.t.TempDir(), "etcd")
		text := fmt.Sprintf(`#!/bin/sh
for arg in "$@"; do
  case "$arg" in --data-dir=*) dir="${arg#--data-dir=}";; esac
done
[ -e "$dir/member/.etcdpod-staged" ] && %s
exec %s "$@"
`, instead, real)
		must(n.t, os.WriteFile(script, []byte(text), 0o755))
		return script
	})
}

// replaceImage lets an image be another program from its next start on.
func (n *node) replaceImage(name string, by func(real string) string) {
	n.t.Helper()
	images := n.Images()
	for image, program := range images {
		if strings.Contains(image, name) {
			images[image] = by(program)
		}
	}
	must(n.t, n.SetImages(images))
}

func TestAnEtcdThatNeverServesTakesTheRestoreBack(t *testing.T) {
	t.Run("it hangs", func(t *testing.T) {
		n := start(t, sandbox.Options{})
		b := n.backup()
		n.change()
		n.impostor("exec sleep 1000")
		n.undone(b, []string{"--wait-timeout", "2s"}, "does not serve", "2s")
	})
	t.Run("it crashes", func(t *testing.T) {
		n := start(t, sandbox.Options{MaxBackoff: 500 * time.Millisecond})
		b := n.backup()
		n.change()
		n.impostor("exit 1")
		n.undone(b, nil, "its container ended", "/var/log/pods")
	})
}

func TestAFullDiskTakesTheRestoreBack(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	before := n.state()
	// No file may grow beyond 8 MiB: less than etcd's WAL, which is staged, and
	// more than the journal.
	args := []string{"restore", b.file, "--yes"}
	wantResult(t, n.limited("ulimit -f 16384", args...), 1, args, "stage", "file too large", "everything is as before")
	n.wantOld(before)
	if run := n.lastRun(); run.State != "rolled back" {
		t.Errorf("the run is %+v", run)
	}
	n.done("restore", b.file, "--yes") // with room it goes on
	n.wantNew(b, before)
}

func TestADirectoryThatCannotBeWrittenIsSaidBeforeAnythingIsTouched(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	home := n.Path("/var/lib/etcdpod")
	args := []string{"restore", b.file, "--yes"}
	n.untouched(func() {
		var result sandbox.Result
		if os.Getuid() == 0 { // whom modes do not stop
			result = n.through(args, "unshare", "-m", "sh", "-c",
				`mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"`, home)
		} else {
			must(t, os.Chmod(home, 0o500))
			result = n.run(args...)
			must(t, os.Chmod(home, 0o700))
		}
		wantResult(t, result, 1, args, "/var/lib/etcdpod")
	})
}

// limited runs etcdpod behind a shell's set-up.
func (n *node) limited(setup string, args ...string) sandbox.Result {
	n.t.Helper()
	return n.through(args, "sh", "-c", setup+`; exec "$@"`, "sh")
}

// through runs etcdpod by way of another command, to which its command line is given.
func (n *node) through(args []string, words ...string) sandbox.Result {
	n.t.Helper()
	cmd, err := n.EtcdpodCommand(n.ctx, args...)
	must(n.t, err)
	outer := exec.CommandContext(n.ctx, words[0], append(words[1:], cmd.Args...)...)
	var stdout, stderr bytes.Buffer
	outer.Env, outer.Stdout, outer.Stderr = cmd.Env, &stdout, &stderr
	_ = outer.Run() // the exit code says it
	return sandbox.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: outer.ProcessState.ExitCode()}
}

// expire replaces a client certificate for etcd, named without .crt, by one that has ended.
func (n *node) expire(base string) {
	n.t.Helper()
	dir := n.Path("/etc/kubernetes/pki/etcd/")
	ca := certificate(n.t, dir+"/ca.crt")
	caKey, err := x509.ParseECPrivateKey(block(n.t, dir+"/ca.key"))
	must(n.t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(n.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "kube-etcd-healthcheck-client"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, 0, -1),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, caKey)
	must(n.t, err)
	der, err := x509.MarshalECPrivateKey(key)
	must(n.t, err)
	must(n.t, os.WriteFile(n.Path(base+".crt"),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644))
	must(n.t, os.WriteFile(n.Path(base+".key"),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
}

func certificate(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(block(t, file))
	must(t, err)
	return cert
}

func block(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	b, _ := pem.Decode(data)
	return b.Bytes
}

func TestAnExpiredClientCertificateIsNamedAndNothingIsTouched(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.change()
	const base = "/etc/kubernetes/pki/etcd/healthcheck-client"
	n.expire(base)
	const file = base + ".crt"
	n.want(6, []string{"status"}, file)
	n.want(0, []string{"backup"}) // etcd's own certificate is good for clients, too
	given := []string{"--cert", n.Path(file), "--key", n.Path(base + ".key")}
	n.untouched(func() { n.want(1, append([]string{"backup"}, given...), "the client certificate", "expired") })
	n.refused(append([]string{b.file, "--wait-timeout", "3s"}, given...), "expired")
}

// The API server's connections outlast its certificate: it could not make new ones after a restore.
func TestARestoreIsRefusedWhereTheAPIServersCertificateHasExpired(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.expire("/etc/kubernetes/pki/apiserver-etcd-client")
	n.refused([]string{b.file}, "apiserver-etcd-client.crt expired on", "etcdpod certs renew")
}

func TestTwoRestoresAtOnceAreOne(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	before := n.state()
	cmd, err := n.EtcdpodCommand(n.ctx, "restore", b.file, "--yes", "-o", "json")
	must(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	tried := false
	if err := leash.Run(cmd, &cmd.Stdout, func(string) {
		if tried {
			return
		}
		tried = true // at its first event, where it waits meanwhile
		pid := fmt.Sprintf("process %d", cmd.Process.Pid)
		for _, args := range [][]string{{"restore", b.file, "--yes"}, {"resume"}, {"rollback"}, {"prune", "--yes"}} {
			n.want(5, args, "another etcdpod is changing this node", pid, "restore")
		}
		n.done("runs")
		n.done("verify", b.file)
		n.done("backup")
	}); err != nil || !tried {
		t.Fatalf("the first restore ended with %v: %s", err, stderr.String())
	}
	n.wantNew(b, before)
}
