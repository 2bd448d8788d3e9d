package sealed

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
)

// sshKey makes a pair with the real ssh-keygen where there is one, else an ed25519 one.
func sshKey(t *testing.T, passphrase string, args ...string) (private, public []byte) {
	t.Helper()
	program, err := exec.LookPath("ssh-keygen")
	if err != nil {
		if len(args) > 1 || passphrase != "" {
			t.Skip("ssh-keygen is not installed")
		}
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		block, err := ssh.MarshalPrivateKey(key, "")
		if err != nil {
			t.Fatal(err)
		}
		of, err := ssh.NewPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(block), ssh.MarshalAuthorizedKey(of)
	}
	name := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command(program, append([]string{"-q", "-N", passphrase, "-C", "a comment", "-f", name, "-t"},
		args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return load(t, name), load(t, name+".pub")
}

func load(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEachKindOfRecipientOpensWithItsIdentity(t *testing.T) {
	ed, edPublic := sshKey(t, "", "ed25519")
	rsa, rsaPublic := sshKey(t, "", "rsa", "-b", "2048")
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ public, private string }{
		"age":          {x.Recipient().String(), x.String()},
		"post-quantum": {hybrid.Recipient().String(), hybrid.String()},
		"ssh-ed25519":  {string(edPublic), string(ed)},
		"ssh-rsa":      {string(rsaPublic), string(rsa)},
	} {
		all, err := ParseRecipients([]byte("# who\n\n" + c.public + "\n"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := CheckRecipients(all); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		ids, err := ParseIdentities([]byte(c.private))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !Fits(ids, Names(all)) {
			t.Errorf("%s: the identity is of %q, and not of %q", name, ids[0].Recipient, all[0].Name)
		}
		stored, _ := write(t, data(10_000), all...)
		if got, _, err := read(stored, 10_000, ids...); err != nil || !bytes.Equal(got, data(10_000)) {
			t.Errorf("%s: %v", name, err)
		}
		if len(all[0].Short()) > 80 || strings.Contains(all[0].Name, "comment") {
			t.Errorf("%s: %q, %q", name, all[0].Short(), all[0].Name)
		}
	}
}

func TestWhatIsNoRecipientIsRefused(t *testing.T) {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	good := x.Recipient().String()
	_, ecdsa := sshKey(t, "", "ecdsa")
	for text, want := range map[string]string{
		"":                             "it is no recipient",
		"hello":                        "it is no recipient",
		x.String():                     "it is a secret key",
		strings.ToLower(x.String()):    "it is a secret key",
		good[:len(good)-1]:             "a letter may be missing",
		good + "a":                     "a letter may be missing",
		"age1pq1qqqq":                  "post-quantum",
		"age1yubikey1qwt50d05nh5vutpd": "a plugin of age",
		"ssh-ed25519 AAAA":             "no valid SSH public key",
		string(ecdsa):                  "only to ssh-ed25519",
	} {
		_, err := ParseRecipient(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, and not %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), x.String()) {
			t.Errorf("%q tells the secret", err)
		}
	}
	for text, want := range map[string]string{
		"": "no recipient in it", "# nothing\n": "no recipient in it", good + "\nx\n": "line 2: it is no recipient",
	} {
		if _, err := ParseRecipients([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	mixed, err := ParseRecipients([]byte(good + "\n" + hybrid.Recipient().String()))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckRecipients(mixed); err == nil || !strings.Contains(err.Error(), "post-quantum") {
		t.Errorf("mixed: %v", err)
	}
}

func TestWhatIsNoIdentityIsRefused(t *testing.T) {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	locked, _ := sshKey(t, "secret", "ed25519")
	_, public := sshKey(t, "", "ed25519")
	for text, want := range map[string]string{
		"":                        "no identity in it",
		"# nothing":               "no identity in it",
		x.Recipient().String():    "it is a recipient",
		string(public):            "it is a recipient",
		x.String()[:40]:           "no valid identity",
		string(locked):            "protected by a passphrase",
		string(ageMagic) + "-> …": "protected by a passphrase",
		"-----BEGIN AGE ENCRYPTED FILE-----\n…\n": "protected by a passphrase",
		"AGE-PLUGIN-YUBIKEY-1QQQQ":                "a plugin of age",
		"-----BEGIN NOTHING-----\n":               "no valid SSH private key",
	} {
		_, err := ParseIdentities([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, and not %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), x.String()[20:40]) {
			t.Errorf("%q tells the secret", err)
		}
	}
}

func key(t *testing.T, private []byte) Key {
	t.Helper()
	k, err := ParseKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var kinds = map[string][]string{
	"ed25519": {"ed25519"}, "rsa": {"rsa", "-b", "2048"}, "ecdsa": {"ecdsa", "-b", "384"},
}

func TestASignatureIsCheckedAgainstTheBytesAndTheKey(t *testing.T) {
	for name, args := range kinds {
		t.Run(name, func(t *testing.T) {
			private, public := sshKey(t, "", args...)
			other, _ := sshKey(t, "", args...)
			k := key(t, private)
			sidecar := []byte("{\"a\": 1}\n")
			sig, err := Sign(k, sidecar)
			if err != nil {
				t.Fatal(err)
			}
			trusted, err := ParseTrusted([]byte("# who\ncp1 " + string(public)))
			if err != nil {
				t.Fatal(err)
			}
			by, err := Check(sidecar, sig, trusted)
			if err != nil || by.Name != "cp1" || by.Fingerprint != k.Fingerprint() {
				t.Errorf("%+v, %v", by, err)
			}
			by, err = Check(sidecar, sig, []Trusted{key(t, other).Trust("cp2")})
			if !errors.Is(err, ErrUntrusted) || by.Fingerprint != k.Fingerprint() {
				t.Errorf("%+v, %v", by, err)
			}
			if _, err := Check(append(sidecar, '\n'), sig, trusted); !errors.Is(err, ErrForged) {
				t.Errorf("another sidecar: %v", err)
			}
			blob, err := unarmor(sig)
			if err != nil {
				t.Fatal(err)
			}
			for i := range blob {
				bad := bytes.Clone(blob)
				bad[i] ^= 1
				if by, err := Check(sidecar, armor(bad), trusted); err == nil {
					t.Fatalf("byte %d is another, and %+v has signed it", i, by)
				}
			}
			for n := range sig {
				if _, err := Check(sidecar, sig[:n], trusted); err == nil && strings.TrimSpace(string(sig[n:])) != "" {
					t.Fatalf("cut to %d: it is good", n)
				}
			}
		})
	}
}

func TestSshKeygenReadsOurSignaturesAndWeReadIts(t *testing.T) {
	program, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("ssh-keygen is not installed")
	}
	for name, args := range kinds {
		t.Run(name, func(t *testing.T) {
			private, public := sshKey(t, "", args...)
			dir := t.TempDir()
			keep := func(name string, data []byte) string {
				file := filepath.Join(dir, name)
				if err := os.WriteFile(file, data, 0o600); err != nil {
					t.Fatal(err)
				}
				return file
			}
			sidecar := []byte("{\n  \"revision\": 12\n}\n")
			sig, err := Sign(key(t, private), sidecar)
			if err != nil {
				t.Fatal(err)
			}
			allowed := []byte("cp1 namespaces=\"etcdpod-backup\" " + string(public))
			verify := exec.Command(program, "-Y", "verify", "-f", keep("allowed", allowed), "-I", "cp1",
				"-n", Namespace, "-s", keep("ours.sig", sig))
			verify.Stdin = bytes.NewReader(sidecar)
			if out, err := verify.CombinedOutput(); err != nil || !strings.Contains(string(out), "Good") {
				t.Errorf("%v: %s", err, out)
			}
			trusted, err := ParseTrusted(allowed)
			if err != nil {
				t.Fatal(err)
			}
			for _, hash := range []string{"sha256", "sha512"} {
				file := keep("theirs-"+hash, sidecar)
				sign := exec.Command(program, "-Y", "sign", "-f", keep("key", private), "-n", Namespace, "-O",
					"hashalg="+hash, file)
				if out, err := sign.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if by, err := Check(sidecar, load(t, file+".sig"), trusted); err != nil || by.Name != "cp1" {
					t.Errorf("%s: %+v, %v", hash, by, err)
				}
			}
			file := keep("elsewhere", sidecar)
			if out, err := exec.Command(program, "-Y", "sign", "-f", filepath.Join(dir, "key"), "-n", "file",
				file).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if _, err := Check(sidecar, load(t, file+".sig"), trusted); !errors.Is(err, ErrForged) {
				t.Errorf("one that was made for something else: %v", err)
			}
		})
	}
}

func TestAKeyThatCannotSignIsRefused(t *testing.T) {
	locked, _ := sshKey(t, "secret", "ed25519")
	short, _ := sshKey(t, "", "rsa", "-b", "1024")
	for text, want := range map[string]string{
		"": "no valid SSH private key", string(locked): "protected by a passphrase", string(short): "shorter than 2048",
	} {
		if _, err := ParseKey([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, and not %q", err, want)
		}
	}
}

func TestTheListOfTrustedKeysIsReadStrictly(t *testing.T) {
	_, public := sshKey(t, "", "ed25519")
	pub := strings.TrimSpace(string(public))
	for line, want := range map[string]string{ // empty: it is good; -: it is not for backups
		"cp1 " + pub:     "",
		"cp1,cp2 " + pub: "",
		"* " + pub:       "",
		"\tcp1\t" + strings.ReplaceAll(pub, " ", "\t"): "",
		"\"cp 1\" " + pub:                                    "",
		"cp1 namespaces=\"etcdpod-backup\" " + pub:           "",
		"cp1 namespaces=\"git,etcdpod-backup\" " + pub:       "",
		"cp1 namespaces=\"git\" " + pub:                      "-",
		"cp1 namespaces=\"*\" " + pub:                        "patterns",
		"cp1 cert-authority " + pub:                          "options",
		"cp1 valid-before=\"20300101\" " + pub:               "options",
		"cp1 namespaces=\"git\",valid-after=\"2020\" " + pub: "options",
		pub:                                     "no name before its key",
		"cp1":                                   "it has no key",
		"cp1 ssh-rsa x":                         "no valid SSH public key",
		"!cp1 " + pub:                           "names with !",
		"cp1 ssh-rsa " + strings.Fields(pub)[1]: "no valid SSH public key",
	} {
		all, err := ParseTrusted([]byte("\n# a comment\n" + line + "\n"))
		switch want {
		case "", "-":
			if err != nil || len(all) != 1-len(want) {
				t.Errorf("%q: %v, %v", line, all, err)
			}
		default:
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 3") {
				t.Errorf("%q: %v, and not %q", line, err, want)
			}
		}
	}
}

func FuzzSignature(f *testing.F) {
	f.Add([]byte("x"), []byte("x"))
	f.Fuzz(func(t *testing.T, blob, list []byte) {
		trusted, _ := ParseTrusted(list)
		if _, err := Check([]byte("{}"), armor(blob), trusted); err == nil {
			t.Error("anybody can sign")
		}
		_, _ = Check([]byte("{}"), blob, trusted)
	})
}
