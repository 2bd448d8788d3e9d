package backup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
)

// What a signature is found to be.
const (
	SignedTrusted   = "trusted"   // by a key that this node, or a person, trusts
	SignedUntrusted = "untrusted" // by another one
	SignedForged    = "forged"    // it is none of this sidecar
	SignedNot       = "missing"
)

// Signature is what the signature over a sidecar says.
type Signature struct {
	State  string // one of those above
	By     string // who signed it, and the key's fingerprint
	Reason string // why it is not trusted
}

// trusted are the keys whose signatures are believed: those in the list, and this node's own.
func trusted(fsys node.Reader, named string) ([]sealed.Trusted, error) {
	all := ownKeys(fsys)
	data, err := ownFile(fsys, cmp.Or(named, Trust), "whoever can change it decides whose backups are restored")
	switch {
	case errors.Is(err, fs.ErrNotExist) && named == "":
		return all, nil
	case errors.Is(err, fs.ErrPermission) && named == "":
		return all, nil // who lists or verifies as another user trusts fewer keys
	case err != nil:
		return nil, engine.WithHint(fmt.Errorf("cannot read the keys that are trusted: %w", err),
			cmp.Or(engine.Hint(err), "give a file in the format of ssh-keygen's allowed_signers with --trust"))
	}
	list, err := sealed.ParseTrusted(data)
	if err != nil {
		return nil, engine.Refuse("correct it: NAME ssh-ed25519 AAAA…, one key a line",
			"cannot read the keys that are trusted in %s: %v", cmp.Or(named, Trust), err)
	}
	return append(list, all...), nil
}

// ownKeys are this node's. One that cannot be read is not trusted.
func ownKeys(fsys node.Reader) (all []sealed.Trusted) {
	for _, name := range []string{SignKey, HostKey} {
		for _, file := range []string{name + ".pub", name} {
			data, err := ownFile(fsys, file, "")
			if err != nil {
				continue
			}
			if strings.HasSuffix(file, ".pub") {
				if t, err := sealed.ParsePublic("this node", data); err == nil {
					all = append(all, t)
					break
				}
			} else if key, err := sealed.ParseKey(data); err == nil {
				all = append(all, key.Trust("this node"))
			}
		}
	}
	return all
}

// signature checks the one beside a sidecar, over the bytes that were read of it.
func signature(fsys node.Reader, snapshot string, sidecar []byte, trust []sealed.Trusted) Signature {
	const most = 64 << 10
	sig, _, err := fsys.ReadPlain(op.SignatureOf(snapshot), most)
	if errors.Is(err, fs.ErrNotExist) {
		return Signature{State: SignedNot, Reason: fmt.Sprintf("there is no signature, %s",
			path.Base(op.SignatureOf(snapshot)))}
	}
	if err != nil {
		return Signature{State: SignedNot, Reason: fmt.Sprintf("its signature cannot be read: %v", err)}
	}
	return signed(sidecar, sig, trust)
}

// signed checks a signature over a sidecar.
func signed(sidecar, sig []byte, trust []sealed.Trusted) Signature {
	by, err := sealed.Check(sidecar, sig, trust)
	switch {
	case err == nil:
		return Signature{State: SignedTrusted, By: by.Name + ", " + by.Fingerprint}
	case errors.Is(err, sealed.ErrUntrusted):
		return Signature{State: SignedUntrusted, By: by.Fingerprint,
			Reason: fmt.Sprintf("the key that signed it, %s, is not among the trusted ones", by.Fingerprint)}
	}
	return Signature{State: SignedForged, Reason: err.Error()}
}

// ShortRecipient is the name of a recipient, short enough for a column.
func ShortRecipient(name string) string {
	if kind, key, isSSH := strings.Cut(name, " "); isSSH {
		return kind + " …" + key[max(0, len(key)-8):]
	}
	return name[:min(len(name), 8)] + "…" + name[max(0, len(name)-8):]
}

// Hint says what to do where a person knows better than the signature.
func (s Signature) Hint() string {
	const all = "--unsigned takes the backup all the same, though anybody who could write where it was kept may have " +
		"made it"
	if s.State == SignedNot {
		return "if it was signed when it was taken, copy its .json.sig here, too; " + all
	}
	return "add the key of the node that took it to " + Trust + " (NAME ssh-ed25519 AAAA…), or give a list with " +
		"--trust; " + all
}
