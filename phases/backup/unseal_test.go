package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
)

// kept is a sealed backup in a directory, with everything that opens and trusts it.
type kept struct {
	dir, file, identity, trust string
	plain                      []byte
}

const sealedName = "etcd-cp1-20261201T020000Z-r501.db.zst.age"

// sealSnapshot makes one, as a backup would.
func sealSnapshot(t *testing.T, name string, plain []byte, change func(*op.SidecarFile)) kept {
	t.Helper()
	k := kept{dir: t.TempDir(), plain: plain}
	k.file = filepath.Join(k.dir, name)
	to, err := sealed.ParseRecipients([]byte(testRecipient))
	if err != nil {
		t.Fatal(err)
	}
	var stored bytes.Buffer
	sums, err := sealed.Write(&stored, bytes.NewReader(plain), sealed.Options{To: to})
	if err != nil {
		t.Fatal(err)
	}
	key, err := sealed.ParseKey([]byte(testKey))
	if err != nil {
		t.Fatal(err)
	}
	v := verify(t, writeSnapshot(t, plain), false)
	s := op.SidecarFile{Sidecar: Sidecar{Path: k.file, Node: "cp1", SHA256: v.SHA256, SizeBytes: v.SizeBytes,
		Revision: v.Revision, HashKV: v.HashKV, Keys: v.Keys, TakenAt: time.Unix(1_800_000_000, 0).UTC(),
		Sealed: &op.Sealed{Format: 1, Name: name, SHA256: sums.Stored.SHA256, SizeBytes: sums.Stored.Size,
			Compression: "zstd", Encryption: "age", Recipients: sealed.Names(to), Signer: key.Fingerprint()}}}
	if change != nil {
		change(&s)
	}
	described, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sealed.Sign(key, described)
	if err != nil {
		t.Fatal(err)
	}
	put(t, k.file, stored.Bytes())
	put(t, op.SidecarOf(k.file), described)
	put(t, op.SignatureOf(k.file), sig)
	k.identity, k.trust = filepath.Join(k.dir, "key.txt"), filepath.Join(k.dir, "allowed_signers")
	put(t, k.identity, []byte(testIdentity))
	put(t, k.trust, []byte("cp1 "+testPublic+"\n"))
	return k
}

func put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (k kept) options() VerifyOptions {
	return VerifyOptions{Unsealing: Unsealing{Identity: k.identity, Trust: k.trust}}
}

func TestASealedBackupIsVerifiedWithItsIdentityAndWithout(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	k := sealSnapshot(t, sealedName, goodSnapshot(t), nil)
	v, err := Verify(t.Context(), k.file, k.options(), nil)
	if err != nil || !v.OK || !v.Sealed.Inside || v.Keys != 500 || v.Resources["pods"] != 500 ||
		v.Sealed.Signature != SignedTrusted || !strings.HasPrefix(v.Sealed.SignedBy, "cp1, SHA256:") {
		t.Errorf("%+v, %+v, %v", v, v.Sealed, err)
	}
	without := k.options()
	without.Identity = ""
	v, err = Verify(t.Context(), k.file, without, nil)
	if err != nil || !v.OK || v.Sealed.Inside || v.Revision == 0 || v.Resources != nil {
		t.Errorf("%+v, %+v, %v", v, v.Sealed, err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// Whatever somebody does who can write where the backups are kept: it is named, and nothing passes.
func TestDamageForgeryAndReplayOfASealedBackupAreNamed(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	plain := goodSnapshot(t)
	other := sealSnapshot(t, strings.Replace(sealedName, "r501", "r400", 1), goodSnapshot(t), nil)
	rewrite := func(t *testing.T, name string, change func([]byte) []byte) {
		put(t, name, change(get(t, name)))
	}
	cases := map[string]struct {
		do    func(*testing.T, kept)
		check string // empty: it is an error
		says  string
		blind bool // it is found without the identity, too
	}{
		"flipped": {func(t *testing.T, k kept) {
			rewrite(t, k.file, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, "sealed", "SHA-256", true},
		"flipped in its head": {func(t *testing.T, k kept) {
			rewrite(t, k.file, func(b []byte) []byte { b[60] ^= 1; return b })
		}, "sealed", "", true},
		"its magic is gone": {func(t *testing.T, k kept) {
			rewrite(t, k.file, func(b []byte) []byte { b[0] ^= 1; return b })
		}, "sealed", "", true},
		"cut": {func(t *testing.T, k kept) {
			rewrite(t, k.file, func(b []byte) []byte { return b[:len(b)-1] })
		}, "sealed", "", true},
		"empty": {func(t *testing.T, k kept) { put(t, k.file, nil) }, "sealed", "", true},
		"appended": {func(t *testing.T, k kept) {
			rewrite(t, k.file, func(b []byte) []byte { return append(b, 0) })
		}, "sealed", "", true},
		"the bytes of another": {func(t *testing.T, k kept) { put(t, k.file, get(t, other.file)) },
			"sealed", "stored", true}, // by its length, mostly
		"another, whole, under this name": {func(t *testing.T, k kept) {
			for _, name := range []func(string) string{same, op.SidecarOf, op.SignatureOf} {
				put(t, name(k.file), get(t, name(other.file)))
			}
		}, "sidecar", "is that of " + filepath.Base(other.file), true},
		"forged to the recipient, with a sidecar of their own": {func(t *testing.T, k kept) {
			forged := sealSnapshot(t, sealedName, plain, func(s *op.SidecarFile) { s.Keys = 1 })
			put(t, k.file, get(t, forged.file))
			put(t, op.SidecarOf(k.file), get(t, op.SidecarOf(forged.file)))
		}, "signature", "does not belong", true},
		"a plain snapshot under this name": {func(t *testing.T, k kept) {
			put(t, k.file, plain)
			remove(t, op.SidecarOf(k.file))
		}, "signature", "no sidecar", true},
		"a plain snapshot and sidecar under this name": {func(t *testing.T, k kept) {
			put(t, k.file, plain)
			rewrite(t, op.SidecarOf(k.file), func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"sealed"`), []byte(`"other"`), 1)
			})
			remove(t, op.SignatureOf(k.file))
		}, "sidecar", "a plain snapshot", true},
		"only compressed, by somebody, under this name": {func(t *testing.T, k kept) {
			var packed bytes.Buffer
			sums, err := sealed.Write(&packed, bytes.NewReader(plain), sealed.Options{})
			if err != nil {
				t.Fatal(err)
			}
			put(t, k.file, packed.Bytes())
			var s op.SidecarFile
			if err := json.Unmarshal(get(t, op.SidecarOf(k.file)), &s); err != nil {
				t.Fatal(err)
			}
			s.Sealed.Encryption, s.Sealed.Recipients, s.Sealed.SHA256 = "", nil, sums.Stored.SHA256
			s.Sealed.SizeBytes = sums.Stored.Size
			data, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			put(t, op.SidecarOf(k.file), data)
			remove(t, op.SignatureOf(k.file))
		}, "signature", "there is no signature", true},
		"forged, and not signed": {func(t *testing.T, k kept) { remove(t, op.SignatureOf(k.file)) },
			"signature", "there is no signature", true},
		"signed by somebody else": {func(t *testing.T, k kept) {
			rewrite(t, k.trust, func([]byte) []byte { return []byte("# nobody\n") })
		}, "signature", "not among the trusted", true},
		"the sidecar is another": {func(t *testing.T, k kept) {
			rewrite(t, op.SidecarOf(k.file), func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"revision": `), []byte(`"revision": 1`), 1)
			})
		}, "signature", "does not belong", true},
		"the sidecar is no JSON": {func(t *testing.T, k kept) { put(t, op.SidecarOf(k.file), []byte("{")) },
			"sidecar", "cannot read the sidecar", true},
		"the sidecar is gone": {func(t *testing.T, k kept) { remove(t, op.SidecarOf(k.file)) },
			"signature", "no sidecar", true},
		"the identity is another": {func(t *testing.T, k kept) { put(t, k.identity, []byte(otherIdentity)) },
			"", "does not open", false},
		"the identity is gone": {func(t *testing.T, k kept) { remove(t, k.identity) },
			"", "cannot read the identity", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, blind := range []bool{false, true} {
				if blind && !c.blind {
					continue
				}
				k := sealSnapshot(t, sealedName, plain, nil)
				c.do(t, k)
				o := k.options()
				if blind {
					o.Identity = ""
				}
				v, err := Verify(t.Context(), k.file, o, nil)
				if c.check == "" {
					var refused *engine.RefusedError
					if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.says) || engine.Hint(err) == "" ||
						!strings.Contains(err.Error(), testRecipient[:16]) {
						t.Errorf("%v, and not %q", err, c.says)
					}
					continue
				}
				if err != nil || v.OK || v.Check != c.check || !strings.Contains(v.Reason, c.says) {
					t.Errorf("without the identity %v: %+v, %v; and not %s, %q", blind, v, err, c.check, c.says)
				}
			}
		})
	}
}

// A person may know better than the signature; but not better than what was damaged.
func TestAnUnsignedBackupIsTakenWhereAPersonSaysSo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	k := sealSnapshot(t, sealedName, goodSnapshot(t), nil)
	o := k.options()
	o.Unsigned = true
	for _, gone := range []string{op.SignatureOf(k.file), op.SidecarOf(k.file)} {
		remove(t, gone)
		if v, err := Verify(t.Context(), k.file, o, nil); err != nil || !v.OK || v.Keys != 500 {
			t.Errorf("without %s: %+v, %v", gone, v, err)
		}
	}
	data := get(t, k.file)
	put(t, k.file, data[:len(data)-1])
	if v, err := Verify(t.Context(), k.file, o, nil); err != nil || v.Check != CheckSealed {
		t.Errorf("%+v, %v", v, err)
	}
}

// What is inside need not be what the sidecar says, though both are from who is trusted.
func TestWhatIsInsideIsHeldAgainstTheSidecar(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	plain := goodSnapshot(t)
	for want, change := range map[string]func(*op.SidecarFile){
		"sidecar: the SHA-256": func(s *op.SidecarFile) { s.SHA256 = strings.Repeat("0", 64) },
		"sidecar: it is at":    func(s *op.SidecarFile) { s.Revision = 3 },
		"sealed: ":             func(s *op.SidecarFile) { s.SizeBytes-- },
	} {
		k := sealSnapshot(t, sealedName, plain, change)
		v, err := Verify(t.Context(), k.file, k.options(), nil)
		if err != nil || v.OK || !strings.HasPrefix(v.Check+": "+v.Reason, want) {
			t.Errorf("%s: %+v, %v", want, v, err)
		}
	}
}

func same(name string) string { return name }

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func TestTheWholeOfASealedBackupIsListed(t *testing.T) {
	w := newBackupWorld(t, backupCase{options: Options{Dir: "/backups", EncryptTo: []string{testRecipient},
		SignKey: SignKey}})
	if err := w.backup(w.options); err != nil {
		t.Fatal(err)
	}
	l, err := List(t.Context(), w.Process.Look, "/backups")
	if err != nil || len(l.Entries) != 4 {
		t.Fatalf("%+v, %v", l, err)
	}
	e := l.Entries[0]
	if !e.Whole || e.Code != "" || e.Sealed == nil || e.Signature != SignedTrusted ||
		!strings.HasPrefix(e.SignedBy, "this node") || e.Revision != simRevision {
		t.Errorf("%+v", e)
	}
	for name, c := range map[string]struct {
		do   func() error
		says string
	}{
		"another key": {func() error {
			if err := w.Machine.Disk.Remove(SignKey); err != nil {
				return err
			}
			return nil
		}, "is not among the trusted ones"},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		l, err := List(t.Context(), w.Process.Look, "/backups")
		if err != nil || !strings.Contains(l.Entries[0].Note, c.says) || l.Entries[0].Code == "" {
			t.Errorf("%s: %+v, %v", name, l.Entries[0], fmt.Sprint(err))
		}
	}
}
