package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Where keys are looked for; host paths.
const (
	SignKey = "/etc/etcdpod/sign.key"
	HostKey = "/etc/ssh/ssh_host_ed25519_key"
	Trust   = "/etc/etcdpod/allowed_signers"
)

// mostKey is far above any file of keys, in bytes: a post-quantum recipient has 2,000.
const mostKey = 1 << 20

// Sealing is how a backup will be sealed, as it was looked at before anything is read of etcd.
type Sealing struct {
	op.Sealing
	KeyFile  string // that signs; empty: none does
	Unsigned string // why none does
	// Free bytes in etcdpod's own directory, where the snapshot itself is made; whether that is on
	// one file system with the backup; and whether it is on that of etcd's data.
	Free     uint64
	Together bool
	Beside   bool
}

// seals says whether the backup is more than the snapshot itself.
func (o Options) seals() bool { return len(o.EncryptTo) > 0 || o.Compress || len(o.To) > 0 }

// checkSealing refuses what makes no sense on any node.
func (o Options) checkSealing() error {
	suffix := op.Sealing{}.Suffix()
	if len(o.EncryptTo) > 0 {
		suffix += sealed.Encrypted
	}
	switch {
	case o.SignKey != "" && !o.seals():
		return &engine.UsageError{Reason: "--sign-key needs --encrypt-to: a plain snapshot is not signed"}
	case o.SignKey != "" && !path.IsAbs(o.SignKey):
		return &engine.UsageError{Reason: fmt.Sprintf("--sign-key must be an absolute path, not %s", o.SignKey)}
	case o.seals() && o.File != "" && !strings.HasSuffix(o.File, suffix):
		return &engine.UsageError{Reason: fmt.Sprintf("the name of a backup that is sealed so must end in %s, so that "+
			"nobody takes it for a snapshot", suffix)}
	case !o.seals() && isSealed(o.File):
		return &engine.UsageError{Reason: fmt.Sprintf("the name %s is that of a sealed backup, and --encrypt-to says "+
			"to whom it is encrypted", path.Base(o.File))}
	}
	return nil
}

// sealing looks at the recipients and at the key.
func (o Options) sealing(n *observe.Node, seen *observe.Facts, to *Place) (*Sealing, error) {
	if !o.seals() {
		return nil, nil
	}
	s := &Sealing{}
	var err error
	if s.To, err = recipients(n.FS, o.EncryptTo); err != nil {
		return nil, err
	}
	if err := s.key(n.FS, o.SignKey); err != nil {
		return nil, err
	}
	at := observe.Nearest(n.FS, journal.Home)
	if s.Free, err = n.FS.Free(at); err != nil {
		return nil, fmt.Errorf("cannot determine the free space in %s: %w", at, err)
	}
	own, err := n.FS.FilesystemID(at)
	if err != nil {
		return nil, fmt.Errorf("cannot look at the file system of %s: %w", at, err)
	}
	there, err := n.FS.FilesystemID(observe.Nearest(n.FS, to.At))
	s.Together = err == nil && own == there
	s.Beside = besideEtcd(n.FS, seen.Etcd, at)
	return s, nil
}

const recipientHint = "give a public key: age1… (`age-keygen` makes a pair), age1pq1…, ssh-ed25519 …, ssh-rsa …, or " +
	"the absolute path of a file of them"

// recipients reads what --encrypt-to names: public keys, and files of them.
func recipients(fsys node.Reader, words []string) (all []sealed.Recipient, err error) {
	for _, word := range words {
		word = strings.TrimSpace(word)
		if !path.IsAbs(word) {
			r, err := sealed.ParseRecipient(word)
			if err != nil {
				return nil, engine.Refuse(recipientHint, "nothing can be encrypted to what --encrypt-to says: %v", err)
			}
			all = append(all, r)
			continue
		}
		data, err := ownFile(fsys, word, "whoever can change it could read the backups")
		if err != nil {
			return nil, engine.WithHint(fmt.Errorf("cannot read the recipients: %w", err), recipientHint)
		}
		more, err := sealed.ParseRecipients(data)
		if err != nil {
			return nil, engine.Refuse(recipientHint, "nothing can be encrypted to what is in %s: %v", word, err)
		}
		all = append(all, more...)
	}
	if err := sealed.CheckRecipients(all); err != nil {
		return nil, engine.Refuse("give recipients of one kind",
			"nothing can be encrypted to these recipients: %v", err)
	}
	return all, nil
}

// ownFile reads a file that nobody but root, or this user, can change; why says what else would be.
func ownFile(fsys node.Reader, name, why string) ([]byte, error) {
	real, err := fsys.Resolve(name)
	if err != nil {
		return nil, engine.RefuseKind(err)
	}
	data, st, err := fsys.ReadPlain(real, mostKey)
	if err != nil {
		return nil, engine.RefuseKind(err)
	}
	exposed, err := node.Exposed(fsys, path.Dir(real))
	if err != nil {
		return nil, err
	}
	if st.Foreign() || exposed != "" {
		return nil, engine.Refuse("give it to root, and let nobody else write to it or to its directories "+
			"(chown root, chmod go-w)", "others can change %s: %s", name, why)
	}
	return data, nil
}

// key finds the key that signs: the one that was named, else the one for this, else the host's.
func (s *Sealing) key(fsys node.Reader, named string) error {
	for _, name := range []string{cmp.Or(named, SignKey), HostKey} {
		data, err := ownFile(fsys, name, "whoever can change it could sign backups")
		switch {
		case errors.Is(err, fs.ErrNotExist) && named == "":
			continue
		case err != nil && (named != "" || name == SignKey):
			return engine.WithHint(fmt.Errorf("cannot read the key that signs backups: %w", err),
				cmp.Or(engine.Hint(err), "`ssh-keygen -t ed25519 -N '' -f "+SignKey+"` makes one"))
		case err != nil:
			s.Unsigned = err.Error()
			return nil
		}
		key, err := sealed.ParseKey(data)
		if err != nil && name != HostKey {
			return engine.Refuse("`ssh-keygen -t ed25519 -N '' -f "+SignKey+"` makes one",
				"%s cannot sign backups: %v", name, err)
		}
		if err != nil {
			s.Unsigned = fmt.Sprintf("%s cannot: %v", name, err)
			return nil
		}
		s.Key, s.KeyFile = &key, name
		return nil
	}
	s.Unsigned = fmt.Sprintf("there is neither %s nor %s", SignKey, HostKey)
	return nil
}

// isSealed says by its name whether a file is more than the snapshot itself.
func isSealed(name string) bool {
	return strings.HasSuffix(name, sealed.Compressed) || strings.HasSuffix(name, sealed.Encrypted)
}

// signer is the fingerprint of the key that signs; empty: none does.
func (s *Sealing) signer() string {
	if s.Key == nil {
		return ""
	}
	return s.Key.Fingerprint()
}

// notes are what a person should know of it beforehand.
func (s *Sealing) notes() []finding.Finding {
	if s == nil || s.Key != nil {
		return nil
	}
	return []finding.Finding{finding.New(finding.BackupUnsigned, "", "nothing signs this backup: %s. Whoever can "+
		"write where it is kept could put another one in its place; restore takes it with --unsigned alone. "+
		"`ssh-keygen -t ed25519 -N '' -f %s` makes a key for this", s.Unsigned, SignKey)}
}

func (o Options) seal() phase {
	return phase{Name: "seal", Short: "compress and encrypt it, and read back what the disk has",
		Found: func(f *Facts) (said []string) {
			if f.Sealing == nil {
				return nil
			}
			for _, r := range f.Sealing.To {
				said = append(said, "who can read it: "+r.Short())
			}
			if f.Sealing.Key != nil {
				said = append(said, fmt.Sprintf("signed with %s, %s", f.Sealing.KeyFile, f.Sealing.signer()))
			}
			return said
		},
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if f.Sealing == nil {
				return nil, nil
			}
			return []op.Op{&op.SealBackup{Workspace: o.workspace(f), Recipients: sealed.Names(f.Sealing.To),
				Signer: f.Sealing.signer()}}, nil
		}}
}

// checkSealedRoom is checkRoom for a sealed backup: the snapshot itself is in etcdpod's own
// directory meanwhile, and nobody knows how well it can be compressed.
func (o Options) checkSealedRoom(f *Facts) error {
	const more = 16 << 20
	need := uint64(f.Backup.Need) + more
	own, there := need, need
	if f.Sealing.Beside {
		own += etcdRoom
	}
	if f.Backup.BesideEtcd {
		there += etcdRoom
	}
	if f.Sealing.Together {
		own, there = own+need, 0
	}
	if f.Sealing.Free < own {
		return engine.Refuse("make room there: `etcdpod prune` deletes what earlier runs kept", "not enough space for "+
			"the snapshot in %s, where it is until it is sealed: %s free, %s needed", journal.Home,
			engine.Size(f.Sealing.Free), engine.Size(own))
	}
	if f.Backup.Free < there {
		return engine.Refuse("choose another place, or keep fewer backups with --keep",
			"not enough space for the backup in %s: %s free, %s needed",
			f.Backup.Dir, engine.Size(f.Backup.Free), engine.Size(there))
	}
	return nil
}
