package op

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Sidecar is the JSON file beside a backup, FILE.json, mode 0600. Its field names are stable.
type Sidecar struct {
	Path string `json:"path"` // host path of the snapshot
	Node string `json:"node"` // etcd's --name
	// Hex, of the whole file, as sha256sum prints it.
	SHA256          string `json:"sha256"`
	Revision        int64  `json:"revision"`        // of an etcd that boots on it
	CompactRevision int64  `json:"compactRevision"` // 0: never compacted
	// What etcd's HashKV answers at revision, on this data.
	HashKV    uint32 `json:"hashKV"`
	Keys      int64  `json:"keys"`      // live ones
	SizeBytes int64  `json:"sizeBytes"` // of the file
	// Of the server that sent it; empty when the snapshot was made from a data directory.
	EtcdVersion    string            `json:"etcdVersion"`
	StorageVersion string            `json:"storageVersion"` // empty before etcd 3.6
	ClusterID      string            `json:"clusterID"`      // hex
	Members        []Member          `json:"members"`
	Fingerprints   map[string]string `json:"fingerprints"` // SHA-256 by host path
	TakenAt        time.Time         `json:"takenAt"`
	Seconds        float64           `json:"seconds"` // from the start to the end of the proof
	// What a snapshot made from a data directory may lack, in sentences.
	Caveats []string `json:"caveats,omitempty"`
}

// SidecarFile is the whole file: the sidecar, and what only a reader of the snapshot needs.
type SidecarFile struct {
	Sidecar
	// The SHA-256 state after each 64 MiB, so that two cores can compute the hash.
	HashSteps [][]byte `json:"hashSteps,omitempty"`
}

// ID is the id of a member or a cluster. In JSON and text it is hex, as etcdctl writes it: many
// programs could not read it exactly as a number.
type ID uint64

// String is hex without leading zeros.
func (id ID) String() string { return strconv.FormatUint(uint64(id), 16) }

// MarshalText is String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads hex.
func (id *ID) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	*id = ID(n)
	return err
}

// Member is one member of an etcd cluster.
type Member struct {
	ID        ID       `json:"id"`
	Name      string   `json:"name"`
	PeerURLs  []string `json:"peerURLs"`
	IsLearner bool     `json:"isLearner,omitempty"`
}

// SidecarOf returns the name of a snapshot's sidecar.
func SidecarOf(snapshot string) string { return snapshot + ".json" }

const nameTime = "20060102T150405Z"

// BackupName is etcd-<node>-<UTC>-r<revision>.db.
func BackupName(s Sidecar) string {
	return fmt.Sprintf("%s%d.db", nameUntilRevision(s.Node, s.TakenAt), s.Revision)
}

func nameUntilRevision(node string, at time.Time) string {
	return fmt.Sprintf("etcd-%s-%s-r", fileName(node), at.UTC().Format(nameTime))
}

// takenIn says whether one of the names is a backup that the node took in that second.
func takenIn(names []string, node string, at time.Time) bool {
	prefix := nameUntilRevision(node, at)
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, prefix) })
}

// fileName returns the node's name as used in file names: etcd takes any text for a --name.
func fileName(node string) string {
	return regexp.MustCompile(`[^A-Za-z0-9._-]`).ReplaceAllString(node, "_")
}

// isBackupOf says whether BackupName could have made the name for this node, and not for a node
// whose name starts the same.
func isBackupOf(node, name string) bool {
	return regexp.MustCompile(`^etcd-` + regexp.QuoteMeta(fileName(node)) + `-\d{8}T\d{6}Z-r\d+\.db$`).MatchString(name)
}

// sameOrigin says whether two backups are of the same node of the same Kubernetes cluster. A
// restore changes etcd's cluster id and keeps the CAs; rotating the CAs keeps the id.
func sameOrigin(a, b Sidecar) bool {
	if a.Node != b.Node {
		return false
	}
	for file, sum := range a.Fingerprints {
		if sum != "" && b.Fingerprints[file] == sum {
			return true
		}
	}
	return a.ClusterID == b.ClusterID
}

// rotate removes the oldest backups of the node that took the newest, and leaves keep of them. A
// backup stays unless a sidecar says whose it is.
func rotate(t *Target, newest Sidecar, keep int) error {
	dir := path.Dir(newest.Path)
	names, err := t.Host.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	var others []Sidecar
	for _, name := range names {
		file := path.Join(dir, name)
		var s Sidecar
		if file == newest.Path || !isBackupOf(newest.Node, name) ||
			readJSON(t, SidecarOf(file), &s) != nil || !sameOrigin(newest, s) {
			continue
		}
		s.Path = file // the directory may have moved since
		others = append(others, s)
	}
	slices.SortFunc(others, func(a, b Sidecar) int {
		return cmp.Or(b.TakenAt.Compare(a.TakenAt), strings.Compare(b.Path, a.Path))
	})
	for _, old := range others[min(keep-1, len(others)):] {
		if err := remove(t, old.Path); err != nil {
			return err
		}
		if err := remove(t, SidecarOf(old.Path)); err != nil {
			return err
		}
		t.report("removed the old backup %s", old.Path)
	}
	return nil
}

// DeadBackup is what an interrupted backup left behind.
type DeadBackup struct {
	Workspace
	// The files still there, including the sidecar of a backup that was never completed.
	Files []string
}

// DeadBackups lists what interrupted backups left in a directory, without a backup
// that is running now.
func DeadBackups(fsys node.Reader, dir string) ([]DeadBackup, error) {
	names, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the backups: %w", err)
	}
	var dead []DeadBackup
	for _, name := range names {
		run, ok := runOf(name)
		if !ok {
			continue
		}
		w := Workspace{Dir: dir, Run: run}
		unlock, err := w.seize(fsys)
		if err != nil {
			return nil, err
		}
		if unlock == nil {
			continue
		}
		dead = append(dead, w.left(fsys))
		if err := unlock(); err != nil {
			return nil, err
		}
	}
	return dead, nil
}

// seize locks a dead backup; unlock is nil when the backup is alive, or nothing is left of it. It
// checks that the lock still has its name: someone may have removed it in between, and a live
// backup may have made its own.
func (w Workspace) seize(fsys node.Reader) (unlock func() error, err error) {
	before, err := fsys.Lstat(w.Lock())
	if err == nil {
		unlock, err = fsys.Lock(w.Lock())
	}
	if errors.Is(err, node.ErrLocked) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot tell whether a backup is being made in %s: %w", w.Dir, err)
	}
	if after, err := fsys.Lstat(w.Lock()); err != nil || after.Ino != before.Ino || after.Dev != before.Dev {
		return nil, unlock()
	}
	return unlock, nil
}

// runOf returns the run that a lock's name belongs to.
func runOf(name string) (run string, ok bool) {
	if name, ok = strings.CutPrefix(name, workspacePrefix); !ok {
		return "", false
	}
	return strings.CutSuffix(name, lockSuffix)
}

func (w Workspace) left(fsys node.Reader) DeadBackup {
	d := DeadBackup{Workspace: w}
	names := append(w.files(), w.Lock())
	if orphan := w.orphan(fsys); orphan != "" {
		names = append(names, orphan)
	}
	for _, name := range names {
		if _, err := fsys.Lstat(name); err == nil {
			d.Files = append(d.Files, name)
		}
	}
	return d
}

// orphan is the sidecar that a dead backup put in place before the snapshot got its name;
// empty if there is none.
func (w Workspace) orphan(fsys node.Reader) string {
	draft, err := readSidecar(fsys, w.draft())
	if err != nil || draft.Path == "" {
		return ""
	}
	there, err := readSidecar(fsys, SidecarOf(draft.Path))
	if err != nil || there.SHA256 != draft.SHA256 || !there.TakenAt.Equal(draft.TakenAt) {
		return ""
	}
	if _, err := fsys.Lstat(draft.Path); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return SidecarOf(draft.Path)
}

func readSidecar(fsys node.Reader, name string) (s Sidecar, err error) {
	data, err := fsys.ReadFile(name)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(data, &s)
}

// Remove removes what the dead backup left, if it is still dead.
func (d DeadBackup) Remove(fsys node.FS) (err error) {
	unlock, err := d.seize(fsys)
	if err != nil || unlock == nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if orphan := d.orphan(fsys); orphan != "" {
		if err := fsys.Remove(orphan); err != nil {
			return fmt.Errorf("cannot remove %s: %w", orphan, err)
		}
		// The draft names the orphan: the removal must be durable before the draft goes.
		if err := fsys.Sync(path.Dir(orphan)); err != nil {
			return fmt.Errorf("cannot make %s durable: %w", path.Dir(orphan), err)
		}
	}
	return d.remove(fsys)
}
