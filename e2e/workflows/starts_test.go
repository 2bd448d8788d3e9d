package workflows

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/leash"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/schema"
)

// without takes an image away from the runtime, as `ctr images rm` does: what runs goes on.
func (n *node) without(name string) (image string) {
	n.t.Helper()
	images := n.Images()
	if name == sandbox.SandboxImage {
		images[name] = ""
		image = name
	}
	for known := range maps.Clone(images) {
		if strings.Contains(known, name) && image == "" {
			image = known
			delete(images, known)
		}
	}
	must(n.t, n.SetImages(images))
	return image
}

// written replaces a text in a file of the node, and returns what undoes that.
func (n *node) written(host, old, now string) (back func()) {
	n.t.Helper()
	file := n.Path(host)
	text, err := os.ReadFile(file)
	if old != "" {
		must(n.t, err)
	} else {
		must(n.t, os.MkdirAll(filepath.Dir(file), 0o755))
	}
	with := now
	if old != "" {
		if with = strings.ReplaceAll(string(text), old, now); with == string(text) {
			n.t.Fatalf("%s does not hold %q", host, old)
		}
	}
	must(n.t, os.WriteFile(file, []byte(with), 0o600))
	return func() {
		if old == "" {
			must(n.t, os.Remove(file))
			return
		}
		must(n.t, os.WriteFile(file, text, 0o600))
	}
}

// emptied leaves nothing in a file, as a disk that is full may, and returns what undoes that.
func (n *node) emptied(host string) (back func()) {
	n.t.Helper()
	text, err := os.ReadFile(n.Path(host))
	must(n.t, err)
	info, err := os.Stat(n.Path(host))
	must(n.t, err)
	must(n.t, os.WriteFile(n.Path(host), nil, 0o600))
	return func() {
		must(n.t, os.WriteFile(n.Path(host), text, 0o600))
		must(n.t, os.Chtimes(n.Path(host), info.ModTime(), info.ModTime())) // as it was read
	}
}

func TestWhatCouldNotStartAgainIsNotStopped(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.want(0, []string{"status"})

	image := n.without("/etcd:")
	n.refused([]string{b.file}, "not everything could start again after being stopped", image, "is not on this "+
		"node", "crictl pull "+image)
	n.untouched(func() { n.want(5, []string{"certs", "renew", "--yes"}, image, "is not on this node") })
	n.want(6, []string{"status"}, image, "is not on this node")
	n.want(6, []string{"certs", "check"}, image, "is not on this node", "Next: pull it: `crictl pull "+image)
	n.done("backup") // a healthy etcd is backed up, whatever is missing

	image = n.without("/kube-apiserver:")
	n.untouched(func() {
		n.want(5, []string{"apiserver", "set", "--etcd-servers", n.ClientURL() + "," + n.memberURL(), "--yes"}, image)
	})
	n.without(sandbox.SandboxImage)
	n.refused([]string{b.file}, sandbox.SandboxImage, "every pod's sandbox")
	must(t, n.SetImages(n.Images()))

	back := n.written("/etc/fstab", "", "UUID=1 /var/lib/etcd ext4 nofail 0 2\n")
	n.refused([]string{b.file}, "/var/lib/etcd is a mount point in /etc/fstab", "mount /var/lib/etcd")
	n.want(6, []string{"status"}, "nothing is mounted there")
	n.want(6, []string{"certs", "check"}, "nothing is mounted there")
	back()

	for _, c := range []struct{ file, says string }{
		{"sa.pub", "/sa.pub (it holds no key that can be read)"},
		{"ca.crt", "/ca.crt (it holds no certificate that can be read)"},
		{"etcd/peer.key", "cannot read the key /etc/kubernetes/pki/etcd/peer.key"},
	} {
		back := n.emptied("/etc/kubernetes/pki/" + c.file)
		n.untouched(func() { n.want(5, []string{"restore", "--dry-run", b.file}) })
		n.want(6, []string{"status"}, c.says)
		n.want(6, []string{"certs", "check"}, c.says)
		n.done("backup")
		back()
	}

	const config, endpoint = "/var/lib/kubelet/config.yaml", "containerRuntimeEndpoint:"
	unit := n.written("/etc/systemd/system/kubelet.service", "",
		"[Service]\nExecStart=/usr/bin/kubelet --config="+config+"\n")
	back = n.written(config, endpoint, "tlsCertFile: gone.crt\n"+endpoint)
	n.refused([]string{b.file}, "the kubelet would not start: /var/lib/kubelet/gone.crt, which its configuration "+
		"names, does not exist", "put it back")
	n.want(6, []string{"status"}, "/var/lib/kubelet/gone.crt")
	n.done("backup")
	back()
	back = n.written(config, endpoint, "staticPodPath: [\n"+endpoint)
	n.refused([]string{b.file}, "cannot read the kubelet's configuration "+config, "correct it")
	n.want(6, []string{"status"}, "the kubelet would not start: cannot read the kubelet's configuration "+config)
	n.done("backup")
	back()
	unit()

	// The kubelet would act on these at once.
	must(t, n.StopKubelet(n.ctx))
	const etcd = "/etc/kubernetes/manifests/etcd.yaml"
	for _, c := range []struct {
		old, now string
		texts    []string
		says     []string // of status and certs check
	}{
		{n.Address + ":", "192.0.2.7:", []string{"no interface of this node has the address 192.0.2.7", etcd},
			[]string{"no interface of this node has the address 192.0.2.7"}},
		{"- --name=", "- --enable-v2=false\n    - --name=", []string{"does not know --enable-v2", etcd},
			[]string{"--enable-v2"}},
		// etcd serves, and was started with others.
		{"- --name=", "- --quota_backend_bytes=8192\n    - --name=", []string{"does not know --quota_backend_bytes"},
			[]string{"--quota_backend_bytes"}},
		{"- --name=", "- --snapshot-count=10k\n    - --name=", []string{"--snapshot-count=10k"},
			[]string{"etcd cannot read the value of --snapshot-count=10k"}},
		{"- --name=", "- --quota-backend-bytes=8192\n    - --name=",
			[]string{"etcd would refuse every write", "--quota-backend-bytes="}, nil},
	} {
		back := n.written(etcd, c.old, c.now)
		n.untouched(func() { n.want(5, []string{"restore", "--dry-run", b.file}, c.texts...) })
		if c.says != nil {
			n.want(6, []string{"status"}, c.says...)
			n.want(6, []string{"certs", "check"}, c.says...)
		}
		back()
	}
	must(t, n.StartKubelet(n.ctx))
	n.want(0, []string{"status"})
}

// memberURL is etcd's client URL on the node's address.
func (n *node) memberURL() string {
	return strings.Replace(n.ClientURL(), "127.0.0.1", n.Address, 1)
}

// interrupted runs a restore that somebody interrupts in await-etcd, and does something just
// before.
func (n *node) interrupted(b backup, before func()) sandbox.Result {
	n.t.Helper()
	cmd, err := n.EtcdpodCommand(n.ctx, "restore", b.file, "--yes", "-o", "json")
	must(n.t, err)
	var stderr, stdout bytes.Buffer
	cmd.Stderr = &stderr
	once := false
	err = leash.Run(cmd, &cmd.Stdout, func(line string) {
		stdout.WriteString(line + "\n")
		var e event
		must(n.t, json.Unmarshal([]byte(line), &e))
		if e.Phase == "await-etcd" && e.State == "started" && !once {
			once = true
			before()
			must(n.t, n.signal(os.Interrupt)(cmd.Process))
		}
	})
	if err == nil || !once {
		n.t.Fatalf("it was not interrupted: %v", err)
	}
	r := sandbox.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	must(n.t, schema.Check(cmd.Args, r.Stdout, r.Stderr, r.Code))
	return r
}

func TestARestoreThatGoesBackIsSeenToServeAsBefore(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	before := n.state()

	// An image goes away in the middle: nothing could bring back what ran from it.
	image := ""
	r := n.interrupted(b, func() { image = n.without("/etcd:") })
	wantResult(t, r, 6, []string{"restore"}, "not as before", image, "crictl pull")
	if strings.Contains(r.Stderr, "everything is as before") {
		t.Errorf("it says %s", r.Stderr)
	}
	var last event
	for line := range strings.Lines(r.Stdout) {
		if strings.Contains(line, `"state":"ended"`) {
			must(t, json.Unmarshal([]byte(line), &last))
		}
	}
	if !strings.Contains(last.Error, image) {
		t.Errorf("its last event is %+v", last)
	}
	if run := n.lastRun(); run.State != "rolled back" {
		t.Errorf("the run is %+v", run)
	}
	must(t, n.SetImages(n.Images()))
	n.wantOld(before)

	// The kubelet was stopped by hand, and what it had started served on.
	must(t, n.StopKubelet(n.ctx))
	r = n.interrupted(b, func() {})
	wantResult(t, r, 1, []string{"restore"}, "everything is as before", "the kubelet is stopped again")
	if n.kubeletRuns() {
		t.Error("the kubelet runs, and did not before")
	}
	if diff := sandbox.Diff(before.keys, n.keys()); len(diff) > 0 {
		t.Errorf("etcd serves something else: %v", diff)
	}
	if running := n.running(); len(running) != 4 {
		t.Errorf("of what ran before, this runs: %v", running)
	}
	must(t, n.StartKubelet(n.ctx))
	n.wantOld(before)
}
