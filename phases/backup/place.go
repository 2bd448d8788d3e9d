package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// Place describes where a backup will go.
type Place struct {
	Dir     string   // host path
	At      string   // Dir with links followed, as far as it is there
	File    string   // host path; empty: the name depends on what the backup holds
	Missing []string // missing parent directories of a backup, Dir included, outermost first
	DirOdd  string   // why Dir cannot be used
	Exposed string   // why others could replace what is in Dir
	Within  string   // why what is in Dir would be run, or lost
	// It is on the file system of etcd's own data.
	BesideEtcd bool
	// File, or its sidecar's name, if it exists already and no dead backup left it.
	Taken   string
	Free    uint64   // bytes
	Need    int64    // bytes, at most
	Cluster string   // hex; known beforehand only for a data directory
	Caveats []string // what a data directory may lack
	Copied  string   // what it may lack because it may be a copy; see [Copied]
	// What an earlier backup holds that etcd does not; nil: nothing is known of any.
	Behind *op.Behind
	Since  time.Time // when a run of this node began the present cluster; zero: none did
}

// place examines where the backup will go. Links are followed first: what counts is where they
// lead.
func (o Options) place(n *observe.Node, seen *observe.Facts) (*Place, error) {
	b := &Place{Dir: o.Dir}
	if b.Dir == "" {
		b.Dir = DefaultDir
	}
	if o.File != "" {
		file, err := n.HostPath(o.File)
		if err != nil {
			return nil, err
		}
		b.File, b.Dir = file, path.Dir(file)
	}
	b.Dir = path.Clean(b.Dir)
	b.At = node.Resolved(n.FS, b.Dir)
	at := observe.Nearest(n.FS, b.At)
	for dir := b.At; dir != at; dir = path.Dir(dir) {
		b.Missing = append(b.Missing, dir)
	}
	slices.Reverse(b.Missing)
	st, err := n.FS.Lstat(at)
	if err != nil {
		return nil, fmt.Errorf("cannot look at %s: %w", at, err)
	}
	if !st.Mode.IsDir() {
		b.DirOdd = at + " is not a directory"
		return b, nil
	}
	if b.Exposed, err = node.Exposed(n.FS, at); err != nil {
		return nil, err
	}
	b.Within = within(n, seen, b.At)
	if b.Free, err = n.FS.Free(at); err != nil {
		return nil, fmt.Errorf("cannot determine the free space in %s: %w", at, err)
	}
	b.BesideEtcd = besideEtcd(n.FS, seen.Etcd, at)
	b.Taken, err = taken(n.FS, b)
	return b, err
}

const (
	theKubeletRuns = "the kubelet runs every file there"
	lostWithData   = "it would be lost along with the data"
)

// within says why a directory is no place for a backup.
func within(n *observe.Node, seen *observe.Facts, dir string) string {
	switch pod := seen.Etcd; {
	case node.Inside(n.FS, dir, seen.ManifestDir):
		return theKubeletRuns
	case pod != nil && (node.Inside(n.FS, dir, pod.DataDir) || pod.WALDir != "" && node.Inside(n.FS, dir, pod.WALDir)):
		return lostWithData
	case pod == nil && slices.ContainsFunc(observe.EtcdVolumes(seen.Manifests), func(volume string) bool {
		return node.Inside(n.FS, dir, volume)
	}):
		return lostWithData // which of them has the data is not known
	}
	return ""
}

// besideEtcd says whether a directory is on the file system of etcd's data, or of its WAL. What
// cannot be found out counts as no.
func besideEtcd(fsys node.Reader, pod *observe.EtcdPod, dir string) bool {
	here, err := fsys.FilesystemID(dir)
	if pod == nil || err != nil {
		return false
	}
	for _, data := range []string{pod.DataDir, pod.WALDir} {
		if data == "" {
			continue
		}
		if there, err := fsys.FilesystemID(observe.Nearest(fsys, data)); err == nil && there == here {
			return true
		}
	}
	return false
}

// taken returns the name that is in the way. Leftovers of a dead backup are not: the new one
// removes them.
func taken(fsys node.Reader, b *Place) (string, error) {
	if b.File == "" || len(b.Missing) > 0 {
		return "", nil
	}
	dead, err := op.DeadBackups(fsys, journal.Home)
	if err != nil {
		return "", err
	}
	at := path.Join(b.At, path.Base(b.File))
	for _, name := range []string{at, op.SidecarOf(at), op.SignatureOf(at)} {
		_, err := fsys.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) ||
			slices.ContainsFunc(dead, func(d op.DeadBackup) bool { return slices.Contains(d.Files, name) }) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot look at %s: %w", name, err)
		}
		return name, nil
	}
	return "", nil
}

// notes are what a person should know of the place.
func (p *Place) notes() (notes []finding.Finding) {
	if p.BesideEtcd {
		notes = append(notes, finding.New(finding.BackupBesideEtcd, p.Dir,
			"%s is on the same file system as etcd's data: if that is lost, so is the backup. Copy it elsewhere, "+
				"too", p.Dir))
	}
	if p.Exposed != "" {
		notes = append(notes, finding.New(finding.BackupExposed, p.Dir,
			"%s: others could replace or delete the backup", p.Exposed))
	}
	return notes
}

// checkPlace refuses an unusable place: the kubelet would read a backup among its manifests as one
// of them, and a backup with etcd's data would be lost with it.
func (o Options) checkPlace(f *Facts) error {
	const hint = "choose another place"
	b := f.Backup
	switch {
	case b.DirOdd != "":
		return engine.Refuse(hint, "cannot put a backup into %s: %s", b.Dir, b.DirOdd)
	case o.File != "" && len(b.Missing) > 0:
		return engine.Refuse("create the directory first", "cannot put a backup into %s: it does not exist", b.Dir)
	case b.Within != "":
		return engine.Refuse(hint, "cannot put a backup into %s: %s", b.Dir, b.Within)
	case b.Exposed != "" && !o.SharedDir:
		return engine.Refuse("use a directory that only root can write to, all its parents included, or remove "+
			"others' write permission (chmod go-w, or chmod +t); --shared-dir allows it as it is",
			"cannot put a backup into %s, where others could replace it: %s", b.Dir, b.Exposed)
	}
	return nil
}

func (o Options) checkTaken(f *Facts) error {
	if f.Backup.Taken == "" {
		return nil
	}
	return engine.Refuse("choose another FILE, or move this one away",
		"%s already exists: a backup never replaces a file", f.Backup.Taken)
}

// etcdRoom is left on etcd's own disk, in bytes: it makes its WAL in pieces of 64 MiB, one ahead,
// and stops when there is no room for one.
const etcdRoom = 256 << 20

func (o Options) checkRoom(f *Facts) error {
	if f.Sealing != nil {
		return o.checkSealedRoom(f)
	}
	// What etcd writes until the snapshot is taken, and the log of a stopped one.
	const more = 16 << 20
	need := uint64(f.Backup.Need) + more
	if f.Backup.BesideEtcd {
		need += etcdRoom
	}
	if f.Backup.Free >= need {
		return nil
	}
	return engine.Refuse("choose another place, or keep fewer backups with --keep",
		"not enough space for the backup in %s: %s free, %s needed",
		f.Backup.Dir, engine.Size(f.Backup.Free), engine.Size(need))
}
