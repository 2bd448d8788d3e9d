package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// What is typed wrongly is judged before the node is looked at, and the hint says what to type.
func TestWhatIsTypedWronglyIsToldWhatToType(t *testing.T) {
	root := t.TempDir()
	for _, tt := range []struct {
		typed, says string
		code        int
	}{
		{"certs", "see `etcdpod help certs` for what they do", exitUsage},
		{"init pahse certs", "did you mean `etcdpod init phase certs`?", exitUsage},
		{"init phases certs", "did you mean `etcdpod init phase certs`?", exitUsage},
		{"runs shwo", "did you mean `etcdpod runs show`?", exitUsage},
		{"restore a b", `unexpected argument "b"` + "\nhint: see `etcdpod help restore`", exitUsage},
		{"version -V", "unknown flag -V for version", exitUsage},
		{"version -vq", "unknown flag -vq for version", exitUsage},
		{"version --vq", "unknown flag --vq for version", exitUsage},
		{"version -oyaml", `invalid value "yaml" for --output`, exitUsage},
		{"join --cert-dir x", "it is a flag of init, certs generate-csr; see", exitUsage},
		{"backups -o prometheus", "only status writes metrics: --output prometheus\nhint: use --output json",
			exitUsage},
		{"status --watch -oprometheus", "--watch and --output prometheus cannot be combined", exitUsage},
		{"status --max-backup-age 0", "expected a duration like 26h or 7d, or none", exitUsage},
		{"restore f --wait-timeout 0", "expected a duration like 30s or 5m", exitUsage},
		{"restore f --stop-timeout 0s", "expected a duration like 30s or 5m", exitUsage},
		{"backup --keep 0", "--keep needs a number of backups, 1 or more", exitUsage},
		{"status --dir backups", "--dir must be an absolute path, not backups", exitUsage},
		{"backups --dir backups", "--dir must be an absolute path, not backups", exitUsage},
		{"status --nodes cp1,cp2,cp1", "--nodes names cp1 twice", exitUsage},
		{"restore f --nodes cp1,cp1=10.0.0.1", "--nodes names cp1 twice", exitUsage},
		{"status --nodes ,", "hint: give it as --nodes cp1,cp2,cp3", exitUsage},
		{"status --endpoints cp1", `--endpoints "cp1": not a URL of the form https://host:port`, exitUsage},
		{"status --endpoints=", "--endpoints needs a value, but got an empty one", exitUsage},
		{"status --cacert /none", "cannot read --cacert /none: no such file or directory", exitUsage},
		{"status --cert /none", "hint: correct --cert, or the variable", exitUsage},
		{"status --key " + root, "cannot read --key " + root + ": is a directory", exitUsage},
		{"certs renew etcd-serve", "did you mean etcd-server?", exitUsage},
		{"certs renew server", "did you mean etcd-server?", exitUsage},
		{"certs renew etcd/peer.crt", "did you mean etcd-peer?", exitUsage},
		{"certs generate-csr ectd-peer", "did you mean etcd-peer?", exitUsage},
		{"certs renew apiserver", "kubeadm renews the others", exitUsage},
		{"certs renew all etcd-peer", "all stands for every certificate", exitUsage},
		{"certs generate-csr", "certs generate-csr needs --csr-dir DIR\nhint: keys and requests", exitUsage},
		{"certs generate-csr --csr-dir csr", "--csr-dir must be an absolute path, not csr", exitUsage},
		{"help status foo", "unexpected argument \"foo\"\nhint: see `etcdpod help status`\n", exitUsage},
		{"help backup restore", "unexpected argument \"restore\"\nhint: see `etcdpod help backup`\n", exitUsage},
		{"help certs check foo", "unexpected argument \"foo\"\nhint: see `etcdpod help certs check`\n", exitUsage},
		{"help certs foo", "certs needs one of: check", exitUsage},
		{"help runs shwo", "did you mean `etcdpod runs show`?", exitUsage},
		{"backup list", "backup has no command \"list\"\nhint: `etcdpod backups` lists the backups; for a file of " +
			"that name, give ./list\n", exitUsage},
		{"backup --keep 3 ls", "`etcdpod backups` lists the backups; for a file of that name, give ./ls", exitUsage},
		{"backup create", "`etcdpod backup` takes a backup; for a file of that name, give ./create", exitUsage},
		{"replace cp3 --with cp4= --yes", `--with "cp4=" is not NODE or NODE=HOST`, exitUsage},
		{"replace cp3 --with cp4,cp5 --yes", `--with "cp4,cp5" is not NODE or NODE=HOST`, exitUsage},
		{"restore list --yes", "restore has no command \"list\"", exitUsage},
		{"restore show", "`etcdpod verify FILE` shows what one holds", exitUsage},
		{"verify ls", "verify has no command \"ls\"", exitUsage},
		// No question would help it: what is wrong is told before that there is nobody to ask.
		{"restore " + filepath.Join(root, "none.db"), "not a control-plane node", exitRefused},
	} {
		var stderr strings.Builder
		args := append([]string{"etcdpod", "--root", root}, strings.Fields(tt.typed)...)
		code := run(t.Context(), args, strings.NewReader(""), &stderr, &stderr, func(string) string { return "" })
		if code != tt.code || !strings.Contains(stderr.String(), tt.says) {
			t.Errorf("%s: ended with %d: %s", tt.typed, code, stderr.String())
		}
	}
}

// kubectl takes -ojson, and so do the fingers.
func TestAShortFlagsValueMayStandRightBehindIt(t *testing.T) {
	l, err := arrange((&session{}).app(), []string{"version", "-ojson"}, func(string) string { return "" })
	if err != nil || l.output != "json" {
		t.Errorf("-ojson is %q, %v", l.output, err)
	}
}
