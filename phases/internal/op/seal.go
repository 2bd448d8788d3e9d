package op

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
)

// Sealed is what a sidecar says of a backup that is compressed, and perhaps encrypted: the file
// beside it is not the snapshot itself.
type Sealed struct {
	Format      int      `json:"format"` // version of docs/backup-format.md
	Name        string   `json:"name"`   // of the file: tells a renamed one
	SizeBytes   int64    `json:"sizeBytes"`
	SHA256      string   `json:"sha256"` // hex, of the file
	Compression string   `json:"compression" values:"zstd"`
	Encryption  string   `json:"encryption" values:"age,"`
	Recipients  []string `json:"recipients,omitempty"` // public keys; their owners can read it
	// SHA-256 fingerprint of the key that signed the sidecar; empty: nobody did.
	Signer string `json:"signer,omitempty"`
}

// StoredBytes is the length of the file beside the sidecar.
func (s Sidecar) StoredBytes() int64 {
	if s.Sealed != nil {
		return s.Sealed.SizeBytes
	}
	return s.SizeBytes
}

// SignatureOf returns the name of the signature over a snapshot's sidecar.
func SignatureOf(snapshot string) string { return SidecarOf(snapshot) + ".sig" }

// Sealing is how backups are sealed.
type Sealing struct {
	To  []sealed.Recipient // none: they are compressed, and not encrypted
	Key *sealed.Key        // nil: they are not signed
}

// Seal has the backup sealed. The snapshot itself is then made in Workspace.Plain.
func (d *Draft) Seal(how Sealing) { d.sealing = how }

// Suffix follows that of a snapshot in the names of what is sealed so.
func (s Sealing) Suffix() string {
	if len(s.To) == 0 {
		return sealed.Compressed
	}
	return sealed.Compressed + sealed.Encrypted
}

const (
	storedSuffix    = ".sealed"
	signatureSuffix = ".sig"
)

// SealBackup compresses and encrypts the proven snapshot into the directory of the backup, and
// reads back what the disk has of it.
type SealBackup struct {
	Workspace
	Recipients []string `json:"recipients,omitempty"`
	Signer     string   `json:"signer,omitempty"`
}

func (s *SealBackup) String() string {
	text := "compress it"
	switch n := len(s.Recipients); {
	case n == 1:
		text += ", and encrypt it to " + sealed.Short(s.Recipients[0])
	case n > 1:
		text += fmt.Sprintf(", and encrypt it to %d recipients", n)
	}
	return text + ", into " + s.Dir + "; read it back"
}

func (s *SealBackup) Do(ctx context.Context, t *Target) error {
	if err := s.seal(ctx, t); err != nil {
		return fmt.Errorf("cannot seal the backup: %w", s.readable(err))
	}
	return nil
}

func (s *SealBackup) seal(ctx context.Context, t *Target) error {
	name := s.at(s.file(storedSuffix))
	sums, err := s.write(ctx, t, name)
	if err != nil {
		return err
	}
	d := &s.sidecar
	if sums.Plain.SHA256 != d.SHA256 || sums.Plain.Size != d.SizeBytes {
		return fmt.Errorf("%s is not what was proven a moment ago: its SHA-256 is %s, and was %s", s.Snapshot(),
			sums.Plain.SHA256, d.SHA256)
	}
	again, err := s.readBack(ctx, t, name, sums.Stored.Size)
	if err != nil {
		return err
	}
	if again != sums.Stored {
		return fmt.Errorf("the disk does not return what was written to %s: %d bytes with the SHA-256 %s instead of "+
			"%d bytes with %s", name, again.Size, again.SHA256, sums.Stored.Size, sums.Stored.SHA256)
	}
	d.Sealed = &Sealed{Format: sealed.Format, SizeBytes: sums.Stored.Size, SHA256: sums.Stored.SHA256,
		Compression: "zstd", Recipients: s.Recipients, Signer: s.Signer}
	if len(s.Recipients) > 0 {
		d.Sealed.Encryption = "age"
	}
	return nil
}

// write writes the sealed file, durably.
func (s *SealBackup) write(ctx context.Context, t *Target, name string) (sums sealed.Sums, err error) {
	from, err := t.Host.FS.Open(s.plain())
	if err != nil {
		return sums, err
	}
	defer from.Close()
	if err := t.Host.FS.Create(name, nil, node.Mine(0o600)); err != nil {
		return sums, err
	}
	to := newAppender(t.Host.FS, name)
	src := &watched{ctx: ctx, src: from, total: s.sidecar.SizeBytes, progress: t.progress}
	sums, err = sealed.Write(to, src, sealed.Options{To: s.sealing.To})
	if written := to.finish(); err == nil {
		err = written
	}
	if err == nil {
		err = t.Host.FS.Sync(name)
	}
	if err != nil {
		return sums, err
	}
	st, err := t.Host.FS.Lstat(name)
	if err == nil && !s.own(st) {
		err = errors.New("it is not the file that was written")
	}
	if err != nil {
		return sums, err
	}
	s.stored = st.Ino
	s.note(t, func(r *record) { r.Stored = st.Ino })
	return sums, nil
}

// readBack reads the file from the disk, and not from the memory that it was written from, where
// that can be asked for.
func (s *SealBackup) readBack(ctx context.Context, t *Target, name string, size int64) (sealed.Sum, error) {
	f, err := t.Host.FS.Open(name)
	if err != nil {
		return sealed.Sum{}, err
	}
	defer f.Close()
	node.Uncached(f)
	return sealed.SumOf(&watched{ctx: ctx, src: f, total: size, progress: t.progress})
}

func (s *SealBackup) Undo(_ context.Context, t *Target) error {
	if s.Draft == nil || s.held == nil {
		return nil
	}
	if err := s.drop(t, s.file(storedSuffix), s.stored); err != nil {
		return err
	}
	return s.readable(t.Host.FS.Sync(s.held.Dir))
}

func (s *SealBackup) Done(context.Context, *Target) (bool, error) { return false, nil }

// keepSealed puts the three files of a sealed backup in place, the sidecar last: without it nothing
// counts.
func (k *KeepBackup) keepSealed(t *Target, s SidecarFile) error {
	s.Sealed.Name = path.Base(s.Path)
	k.Draft.sidecar.Sealed = s.Sealed
	files, err := k.describe(s)
	if err != nil {
		return err
	}
	stored := k.at(k.file(storedSuffix))
	for i, f := range files {
		if err := t.Host.FS.Create(k.at(f.temp), f.data, node.Mine(0o600)); err != nil {
			return err
		}
		if err := t.Host.FS.Sync(k.at(f.temp)); err != nil {
			return err
		}
		st, err := t.Host.FS.Lstat(k.at(f.temp))
		if err != nil {
			return err
		}
		files[i].ino = st.Ino
	}
	sidecar, rest := files[0], files[1:]
	k.note(t, func(r *record) {
		r.Path, r.Sidecar = s.Path, sidecar.ino
		if len(rest) > 0 {
			r.Signature = rest[0].ino
		}
	})
	if err := t.Host.FS.Rename(stored, k.at(s.Path)); err != nil {
		return err
	}
	k.Kept = s.Path
	if now, err := t.Host.FS.Lstat(k.at(s.Path)); err != nil || now.Ino != k.stored {
		return errors.Join(err, errors.New("someone has put another file in its place"))
	}
	for _, f := range rest {
		if err := t.Host.FS.Rename(k.at(f.temp), k.at(f.name)); err != nil {
			return err
		}
		k.Signature, k.signed = f.name, f.ino
	}
	// What the sidecar makes count must have its name for good before.
	if err := t.Host.FS.Sync(k.held.Dir); err != nil {
		return err
	}
	if err := t.Host.FS.Rename(k.at(sidecar.temp), k.at(sidecar.name)); err != nil {
		return err
	}
	k.Sidecar, k.described = sidecar.name, sidecar.ino
	return t.Host.FS.Sync(k.held.Dir)
}

// describing is a small file beside a sealed one.
type describing struct {
	name, temp string
	data       []byte
	ino        uint64
}

// describe makes the sidecar, and the signature over it where there is a key.
func (k *KeepBackup) describe(s SidecarFile) ([]describing, error) {
	data, err := s.encode()
	if err != nil {
		return nil, err
	}
	all := []describing{{name: SidecarOf(s.Path), temp: k.file(sidecarSuffix), data: data}}
	if k.sealing.Key == nil {
		return all, nil
	}
	sig, err := sealed.Sign(*k.sealing.Key, data)
	if err != nil {
		return nil, err
	}
	return append(all, describing{name: SignatureOf(s.Path), temp: k.file(signatureSuffix), data: sig}), nil
}

// plain is where the snapshot itself is reached.
func (w Workspace) plain() string {
	if w.Plain == "" {
		return w.at(w.Snapshot())
	}
	return w.Snapshot()
}

// dropPlain removes the snapshot itself from etcdpod's own directory.
func (w Workspace) dropPlain(t *Target) error {
	if w.Plain == "" {
		return nil
	}
	return dropPlain(t.Host.FS, w.Snapshot())
}

func dropPlain(fsys node.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", name, err)
	}
	if err := fsys.Sync(path.Dir(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot sync %s: %w", path.Dir(name), err)
	}
	return nil
}

// appender writes to a file in large pieces, while the next ones are made, and syncs now and then:
// the last sync of a large file would stall etcd's own. finish must be called.
type appender struct {
	fsys       node.FS
	name       string
	piece      []byte // being filled
	full, free chan []byte
	failed     chan struct{} // closed at the first error
	ended      chan struct{}
	err        error // once failed or ended
}

const (
	pieceBytes = 1 << 20
	pieces     = 4 // with the one that is being filled
	syncBytes  = 64 << 20
)

func newAppender(fsys node.FS, name string) *appender {
	a := &appender{fsys: fsys, name: name, piece: make([]byte, 0, pieceBytes), full: make(chan []byte, pieces),
		free: make(chan []byte, pieces), failed: make(chan struct{}), ended: make(chan struct{})}
	for range pieces - 1 {
		a.free <- make([]byte, 0, pieceBytes)
	}
	go a.append()
	return a
}

func (a *appender) append() {
	defer close(a.ended)
	synced := 0
	for piece := range a.full {
		if a.err != nil {
			continue
		}
		a.err = a.fsys.Append(a.name, piece)
		if synced += len(piece); a.err == nil && synced >= syncBytes {
			synced = 0
			a.err = a.fsys.Sync(a.name)
		}
		if a.err != nil {
			close(a.failed)
			continue
		}
		a.free <- piece[:0]
	}
}

func (a *appender) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), cap(a.piece)-len(a.piece))
		a.piece, rest = append(a.piece, rest[:n]...), rest[n:]
		if len(a.piece) < cap(a.piece) {
			break
		}
		a.full <- a.piece
		select {
		case a.piece = <-a.free:
		case <-a.failed:
			a.piece = nil
			return 0, a.err
		}
	}
	return len(p), nil
}

// finish writes the rest, and waits until all is written.
func (a *appender) finish() error {
	if len(a.piece) > 0 {
		a.full <- a.piece
	}
	close(a.full)
	<-a.ended
	return a.err
}

// watched is a reader that ends with its context, and tells how far it is.
type watched struct {
	ctx         context.Context
	src         io.Reader
	done, total int64
	progress    func(done, total int64)
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.src.Read(p)
	if w.done += int64(n); n > 0 {
		w.progress(min(w.done, w.total), w.total)
	}
	return n, err
}
