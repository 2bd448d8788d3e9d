package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// Keys of nobody, made for these tests.
const (
	testRecipient = "age19jjslkknw6l940z9aktwzux0nn4tq0j2d2w23wdzs28ktxvdxutqr09ywd"
	testIdentity  = "AGE-SECRET-KEY-13E9YWTCQNS0CXN8GRAJMRPY9V4D95GYEC5APDDGDJ5AWMDEKDYQQ96NYHE"
	otherIdentity = "AGE-SECRET-KEY-17VLT8F422ELVEA584W4ASWJ2NDFPPD3FT08JZUTKMGURXW5QQV8QHEPQHT"
	testPublic    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHHefcmPinnoggNr0ng2JxjmNLUcG54J4JMufIZy8n+7"
	testKey       = `-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACBx3n3Jj4p56IIDa9J4NicY5jS1HBueCeCTLnyGcvJ/uwAAAIhC+DE3Qvgx
NwAAAAtzc2gtZWQyNTUxOQAAACBx3n3Jj4p56IIDa9J4NicY5jS1HBueCeCTLnyGcvJ/uw
AAAEAsXhzVMcElw4iwLNVoDT18rC+tZ6wO3CvVHS3yCsa/tXHefcmPinnoggNr0ng2Jxjm
NLUcG54J4JMufIZy8n+7AAAAAAECAwQF
-----END OPENSSH PRIVATE KEY-----
`
)

func putKey(t *testing.T, d *sim.Disk) {
	t.Helper()
	err := node.MkdirAll(d, path.Dir(SignKey), node.Mine(0o755))
	if err == nil {
		err = d.Create(SignKey, []byte(testKey), node.Mine(0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// plainLeft are snapshots in etcdpod's own directory.
func (w *backupWorld) plainLeft() (left []string) {
	names, _ := w.Machine.ReadDir(journal.Home)
	for _, name := range names {
		if strings.HasSuffix(name, ".db") {
			left = append(left, name)
		}
	}
	return left
}

// sealedBackup is 1 if a file has a sidecar, and 0 if not: then it does not count. One that counts
// is whole, opens with the identity, and is signed.
func (w *backupWorld) sealedBackup(file string) (int, error) {
	s, err := SidecarOf(w.Machine.Disk, file)
	if err != nil || s == nil {
		return 0, err
	}
	stored, err := w.Machine.ReadFile(file)
	if err != nil {
		return 0, err
	}
	if s.Sealed == nil || s.Sealed.SHA256 != sim.Sum(stored) || s.Sealed.Name != path.Base(file) {
		return 0, fmt.Errorf("%s does not hold what its sidecar says: %+v", file, s.Sealed)
	}
	ids, err := sealed.ParseIdentities([]byte(testIdentity))
	if err != nil {
		return 0, err
	}
	in, err := sealed.Open(bytes.NewReader(stored), ids, s.SizeBytes)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	defer in.Close()
	if inside, err := io.ReadAll(in); err != nil || sim.Sum(inside) != s.SHA256 {
		return 0, fmt.Errorf("inside of %s is %q: %w", file, inside, err)
	}
	key, err := sealed.ParseKey([]byte(testKey))
	if err != nil {
		return 0, err
	}
	described, err := w.Machine.ReadFile(op.SidecarOf(file))
	if err != nil {
		return 0, err
	}
	sig, err := w.Machine.ReadFile(op.SignatureOf(file))
	if err != nil {
		return 0, err
	}
	if _, err := sealed.Check(described, sig, []sealed.Trusted{key.Trust("cp1")}); err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return 1, nil
}

func TestWhatCannotBeSealedIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		prepare func(*sim.Disk) error
		says    string
	}{
		"no recipient": {Options{EncryptTo: []string{"nobody"}},
			nil, "it is no recipient"},
		"a secret key": {Options{EncryptTo: []string{testIdentity}},
			nil, "it is a secret key"},
		"a file of nobody": {Options{EncryptTo: []string{"/etc/none"}},
			nil, "cannot read the recipients"},
		"an empty file": {Options{EncryptTo: []string{"/etc/recipients"}},
			file("/etc/recipients", "# x\n", 0o600), "no recipient in it"},
		"a file of everyone": {Options{EncryptTo: []string{"/etc/recipients"}},
			file("/etc/recipients", testRecipient, 0o666), "others can change /etc/recipients"},
		"no such key": {Options{EncryptTo: []string{testRecipient}, SignKey: "/none"},
			nil, "cannot read the key that signs"},
		"a bad key": {Options{EncryptTo: []string{testRecipient}, SignKey: "/etc/bad"},
			file("/etc/bad", "x", 0o600), "cannot sign backups"},
		"everyone's key": {Options{EncryptTo: []string{testRecipient}, SignKey: "/etc/bad"},
			file("/etc/bad", testKey, 0o622), "others can change /etc/bad"},
		"a file of recipients": {Options{EncryptTo: []string{"/etc/recipients"}},
			file("/etc/recipients", "# who\n"+testRecipient+"\n", 0o600), ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.Dir = "/backups"
			w := newBackupWorld(t, backupCase{options: c.options})
			if c.prepare != nil {
				if err := c.prepare(w.Machine.Disk); err != nil {
					t.Fatal(err)
				}
			}
			before := w.Machine.Look(journal.Home)
			err := w.backup(c.options)
			if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, and not %q", err, c.says)
			}
			if err == nil {
				return
			}
			if engine.Hint(err) == "" {
				t.Errorf("nothing says what to do: %v", err)
			}
			if now := w.Machine.Look(journal.Home); now != before {
				t.Errorf("it changed\n%s\ninto\n%s", before, now)
			}
			if strings.Contains(err.Error(), testIdentity[20:]) {
				t.Errorf("the secret is told: %v", err)
			}
		})
	}
}

func file(name, data string, mode fs.FileMode) func(*sim.Disk) error {
	return func(d *sim.Disk) error { return d.Create(name, []byte(data), node.Mine(mode)) }
}

func TestOptionsOfSealingThatMakeNoSenseAreRefused(t *testing.T) {
	to := []string{testRecipient}
	for says, o := range map[string]Options{
		"--sign-key needs --encrypt-to": {Dir: "/b", SignKey: "/k"},
		"must be an absolute path":      {Dir: "/b", EncryptTo: to, SignKey: "k"},
		"must end in .zst.age":          {File: "/b/x.db", EncryptTo: to},
		"is that of a sealed backup":    {File: "/b/x.db.zst.age"},
	} {
		var usage *engine.UsageError
		if err := o.check(); !errors.As(err, &usage) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, and not %q", err, says)
		}
	}
}

// Whatever a power loss keeps of the last renames, a sidecar is never there without what it
// describes.
func TestASidecarNeverOutlivesWhatItDescribes(t *testing.T) {
	c := backupCase{options: Options{Dir: "/backups", EncryptTo: []string{testRecipient}}, left: 4, already: 3}
	whole := newBackupWorld(t, c)
	if err := whole.backup(c.options); err != nil {
		t.Fatal(err)
	}
	cuts := 0
	for at, call := range whole.Machine.Calls {
		if !strings.Contains(call, ".db.zst.age") {
			continue
		}
		cuts++
		for _, after := range []int{1, 2, 3} {
			for seed := range uint64(16) {
				w := newBackupWorld(t, c)
				w.Machine.Disorderly, w.Machine.CrashAt = true, at+after
				_ = w.backup(c.options)
				w.Machine.PowerLoss(sim.MixUnsynced, rand.New(rand.NewPCG(1, seed)))
				if n, err := w.backups(); err != nil || n < 3 {
					t.Fatalf("%d steps after %q: %d, %v", after, call, n, err)
				}
			}
		}
	}
	if cuts < 3 {
		t.Errorf("only %d renames were cut off after: %q", cuts, whole.Machine.Calls)
	}
}
