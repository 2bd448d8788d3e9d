package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Checks of what is sealed, beside those of the snapshot inside.
const (
	CheckSealed    = "sealed"    // it is as it was written
	CheckSignature = "signature" // it is from somebody who is trusted
)

// Unsealing says how a sealed backup is looked at. Paths are host paths.
type Unsealing struct {
	Identity string // a file of age identities, or an SSH private key
	Trust    string // whose signatures are believed; empty: the default list, if there is one
	Unsigned bool   // one that nobody trusted has signed is taken, too
}

// OnHost has its files by their names on the node: a person gave those of this process.
func (u Unsealing) OnHost(n *observe.Node) (Unsealing, error) {
	for _, name := range []*string{&u.Identity, &u.Trust} {
		if *name == "" {
			continue
		}
		host, err := n.HostPath(*name)
		if err != nil {
			return u, err
		}
		*name = host
	}
	return u, nil
}

// SealedFile is a sealed backup as it lies there.
type SealedFile struct {
	File      string          // host path
	Sidecar   *op.SidecarFile // nil: there is none, or it could not be read
	Unread    error           // why it could not
	Encrypted bool
	Signature Signature

	fsys node.Reader
	real string // links followed
}

// LookSealed looks at a file, and returns nil if it is the snapshot itself, or nothing known.
func LookSealed(fsys node.Reader, file string, u Unsealing) (*SealedFile, error) {
	f := &SealedFile{File: file, fsys: fsys, real: node.Resolved(fsys, file)}
	head, err := headOf(fsys, f.real)
	if err != nil {
		return nil, nil // whoever reads it as a snapshot says what is wrong with it
	}
	data, s, _, err := op.ReadSidecarBytes(fsys, op.SidecarOf(f.real))
	switch {
	case err == nil:
		f.Sidecar = &s
	case !errors.Is(err, fs.ErrNotExist):
		f.Unread = fmt.Errorf("cannot read the sidecar %s: %w", op.SidecarOf(f.real), err)
	}
	// What was put under the name of an encrypted one, and is none, must not pass for a plain one.
	f.Encrypted = sealed.IsEncrypted(head) || f.sealed() != nil && f.sealed().Encryption != "" ||
		strings.HasSuffix(f.real, sealed.Encrypted) || strings.HasSuffix(file, sealed.Encrypted)
	packed := strings.HasSuffix(f.real, sealed.Compressed) || strings.HasSuffix(file, sealed.Compressed)
	if !f.Encrypted && f.sealed() == nil && (!packed || sealed.IsCompressed(head)) {
		return nil, nil
	}
	trust, err := trusted(fsys, u.Trust)
	if err != nil {
		return nil, err
	}
	f.Signature = Signature{State: SignedNot, Reason: "it has no sidecar that could be signed"}
	if f.Sidecar != nil {
		f.Signature = signature(fsys, f.real, data, trust)
	}
	return f, nil
}

func headOf(fsys node.Reader, name string) ([]byte, error) {
	st, err := fsys.Lstat(name)
	if err == nil && !st.Mode.IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, err
	}
	in, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	head := make([]byte, sealed.HeadSize)
	n, err := io.ReadFull(in, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}

// sealed is what the sidecar says of the file; nil: nothing.
func (f *SealedFile) sealed() *op.Sealed {
	if f.Sidecar == nil {
		return nil
	}
	return f.Sidecar.Sealed
}

// Bad returns what is wrong with it before its contents are looked at: a [*snapfile.Bad] if it was
// damaged, or a refusal where it is not known who made it.
func (f *SealedFile) Bad(unsigned bool) error {
	switch s := f.sealed(); {
	case f.Unread != nil:
		return bad(CheckSidecar, "%v", f.Unread)
	case f.Sidecar != nil && s == nil:
		return bad(CheckSidecar, "its sidecar describes a plain snapshot")
	case f.newer():
		return engine.Refuse("use that version of etcdpod, or a newer one", "%s is of the format %d, which this "+
			"etcdpod does not know", f.File, s.Format)
	case f.Signature.State == SignedForged:
		return bad(CheckSignature, "%s", f.Signature.Reason)
	case s != nil && s.Name != path.Base(f.real):
		return bad(CheckSidecar, "its sidecar is that of %s: it was renamed, or is another backup under this name",
			s.Name)
	case f.Signature.State != SignedTrusted && !unsigned:
		return engine.Refuse(f.Signature.Hint(), "nobody who is trusted has signed %s: %s", f.File, f.Signature.Reason)
	}
	return nil
}

// newer says whether another version of etcdpod has made it, in a format that this one does not
// know.
func (f *SealedFile) newer() bool { return f.sealed() != nil && f.sealed().Format > sealed.Format }

func bad(check, format string, args ...any) *snapfile.Bad {
	return &snapfile.Bad{Check: check, What: "the backup", Reason: fmt.Sprintf(format, args...)}
}

// Identities reads the secret keys that open it. It refuses those that do not, as far as the
// sidecar tells.
func (f *SealedFile) Identities(name string) ([]sealed.Identity, error) {
	if !f.Encrypted {
		return nil, nil
	}
	to := f.recipients()
	if name == "" {
		return nil, engine.Refuse("give the file of a secret key that opens it with --identity",
			"%s is encrypted%s", f.File, to)
	}
	data, err := f.fsys.ReadFile(name)
	if err != nil {
		return nil, engine.Refuse("give the file of a secret key that opens it with --identity",
			"cannot read the identity: %v; %s is encrypted%s", err, f.File, to)
	}
	ids, err := sealed.ParseIdentities(data)
	if err != nil {
		return nil, engine.Refuse("give a file of age identities (AGE-SECRET-KEY-…), or an SSH private key",
			"%s opens nothing: %v", name, err)
	}
	if s := f.sealed(); s != nil && len(s.Recipients) > 0 && !sealed.Fits(ids, s.Recipients) {
		return nil, f.wrongIdentity(name, ids)
	}
	return ids, nil
}

func (f *SealedFile) wrongIdentity(name string, ids []sealed.Identity) error {
	var of []string
	for _, id := range ids {
		of = append(of, sealed.Short(id.Recipient))
	}
	return engine.Refuse("give the file of another secret key with --identity",
		"%s does not open %s: it belongs to %s, and the backup is encrypted%s", name, f.File, strings.Join(of, ", "),
		f.recipients())
}

// recipients says to whom, as the end of a sentence.
func (f *SealedFile) recipients() string {
	s := f.sealed()
	if s == nil || len(s.Recipients) == 0 {
		return ", and no sidecar says to whom"
	}
	var to []string
	for _, name := range s.Recipients {
		to = append(to, sealed.Short(name))
	}
	return " to " + strings.Join(to, ", ")
}

// Stored holds what lies there against its sidecar, without a look inside.
func (f *SealedFile) Stored(ctx context.Context, progress func(done, total int64)) error {
	s := f.sealed()
	if s == nil {
		return bad(CheckSidecar, "it has no sidecar: without its identity nothing can be checked")
	}
	in, err := f.fsys.Open(f.real)
	if err != nil {
		return err
	}
	defer in.Close()
	sum, err := sealed.SumOf(&measured{ctx, in, 0, s.SizeBytes, progress})
	if err != nil {
		return err
	}
	return f.against(sum)
}

// against compares what was read with what the sidecar says was stored.
func (f *SealedFile) against(sum sealed.Sum) error {
	switch s := f.sealed(); {
	case s == nil:
	case sum.Size != s.SizeBytes:
		return bad(CheckSealed, "it has %d bytes, and %d were stored", sum.Size, s.SizeBytes)
	case sum.SHA256 != s.SHA256:
		return bad(CheckSealed, "its SHA-256 is %s, and that of what was stored is %s", sum.SHA256, s.SHA256)
	}
	return nil
}

// Unseal writes what is inside, and holds all of it against the sidecar. Until it has returned
// without an error, nothing is known of what it has written.
func (f *SealedFile) Unseal(
	ctx context.Context, ids []sealed.Identity, to io.Writer, most int64, progress func(done, total int64),
) (sealed.Sum, error) {
	in, err := f.fsys.Open(f.real)
	if err != nil {
		return sealed.Sum{}, err
	}
	defer in.Close()
	size, total := int64(-1), int64(0)
	if s := f.sealed(); s != nil {
		size, total = f.Sidecar.SizeBytes, s.SizeBytes
	}
	r, err := sealed.Open(&measured{ctx, in, 0, total, progress}, ids, size)
	if err == nil {
		defer r.Close()
		_, err = io.CopyBuffer(&bounded{to, most}, struct{ io.Reader }{r}, make([]byte, 1<<20))
	}
	switch {
	case errors.Is(err, sealed.ErrIdentity) && (f.sealed() == nil || !sealed.Fits(ids, f.sealed().Recipients)):
		return sealed.Sum{}, engine.Refuse("give the file of another secret key with --identity",
			"the identity does not open %s: it is encrypted%s", f.File, f.recipients())
	case errors.Is(err, sealed.ErrIdentity):
		return sealed.Sum{}, bad(CheckSealed, "its head is damaged: the identity belongs to it, and does not open it")
	case errors.Is(err, sealed.ErrDamaged):
		return sealed.Sum{}, cmp.Or(f.storedBad(ctx), error(bad(CheckSealed, "%v", err)))
	case err != nil:
		return sealed.Sum{}, err
	}
	sums := r.Sums()
	if err := f.against(sums.Stored); err != nil {
		return sealed.Sum{}, err
	}
	if f.Sidecar != nil && sums.Plain.SHA256 != f.Sidecar.SHA256 {
		return sealed.Sum{}, bad(CheckSidecar, "the SHA-256 of what is inside is %s, but its sidecar says %s: it is "+
			"another snapshot", sums.Plain.SHA256, f.Sidecar.SHA256)
	}
	return sums.Plain, nil
}

// storedBad says whether the stored bytes are those that were written: if not, that is why what is
// inside cannot be read.
func (f *SealedFile) storedBad(ctx context.Context) error {
	if f.sealed() == nil {
		return nil
	}
	return f.Stored(ctx, func(int64, int64) {})
}

// InScratch unseals into a file without a name, and has look read it.
func (f *SealedFile) InScratch(
	ctx context.Context, ids []sealed.Identity, progress func(done, total int64), look func(path string) error,
) error {
	dir := scratchDir(f.fsys)
	free, err := f.fsys.Free(dir)
	if err != nil {
		return fmt.Errorf("cannot determine the free space in %s: %w", dir, err)
	}
	const left = 64 << 20 // for everybody else
	if f.Sidecar != nil && free < uint64(f.Sidecar.SizeBytes)+left {
		return engine.Refuse("make room there, or set TMPDIR to another directory", "not enough space for the "+
			"snapshot in %s, where it is looked at: %s free, %s needed", dir, engine.Size(free),
			engine.Size(uint64(f.Sidecar.SizeBytes)+left))
	}
	scratch, name, err := node.Scratch(f.fsys.Real(dir))
	if err != nil {
		return err
	}
	defer scratch.Close()
	if _, err := f.Unseal(ctx, ids, scratch, int64(free)-left, progress); err != nil {
		return err
	}
	return look(name)
}

// scratchDir is where a snapshot is looked at: on the disk of etcdpod's own things where this user
// may write there.
func scratchDir(fsys node.Reader) string {
	if dir := os.Getenv("TMPDIR"); dir != "" && path.IsAbs(dir) {
		return dir
	}
	for _, dir := range []string{"/var/lib/etcdpod", "/var/lib"} {
		if st, err := fsys.Lstat(dir); err == nil && st.Mode.IsDir() && st.UID == os.Geteuid() {
			return dir
		}
	}
	return "/var/tmp"
}

// measured is a reader that ends with its context, and tells how far it is.
type measured struct {
	ctx         context.Context
	src         io.Reader
	done, total int64
	progress    func(done, total int64)
}

func (m *measured) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.src.Read(p)
	if m.done += int64(n); n > 0 && m.progress != nil && m.total > 0 {
		m.progress(min(m.done, m.total), m.total)
	}
	return n, err
}

// bounded does not fill a disk: a small file may hold far more than it looks.
type bounded struct {
	to   io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errors.New("there is no room for what is inside")
	}
	return b.to.Write(p)
}
