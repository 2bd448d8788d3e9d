package op

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
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
	EtcdVersion    string   `json:"etcdVersion"`
	StorageVersion string   `json:"storageVersion"` // empty before etcd 3.6
	ClusterID      string   `json:"clusterID"`      // hex
	Members        []Member `json:"members"`
	// SHA-256 by host path, of the node's files that the data needs. Where nothing shows that the
	// data is of the node's own cluster, there are none.
	Fingerprints map[string]string `json:"fingerprints"`
	// Where the data came from: the URL of the etcd that sent it, or the data directory. Empty in
	// sidecars of earlier versions: in those, Node and Fingerprints are of the node that took the
	// backup, whatever it is of.
	Source  string    `json:"source,omitempty"`
	TakenAt time.Time `json:"takenAt"`
	Seconds float64   `json:"seconds"` // from the start to the end of the proof
	// What a snapshot made from a data directory may lack, in sentences.
	Caveats []string `json:"caveats,omitempty"`
	// Names of the members that held something else than the others when it was taken.
	Differ []string `json:"differ,omitempty"`
	// The earlier backup that holds what etcd did not hold when this one was taken.
	Behind *Behind `json:"behind,omitempty"`
	// How it is stored; nil: the file beside the sidecar is the snapshot itself.
	Sealed *Sealed `json:"sealed,omitempty"`
}

// Ahead says whether a backup is dated in the future, so that its age is not known: a clock was, or
// is, wrong. Clocks of several machines differ a little.
func (s Sidecar) Ahead(now time.Time) bool { return s.TakenAt.After(now.Add(time.Hour)) }

// SidecarFile is the whole file: the sidecar, and what only a reader of the snapshot needs.
type SidecarFile struct {
	Sidecar
	// The SHA-256 state after each 64 MiB, so that two cores can compute the hash.
	HashSteps [][]byte `json:"hashSteps,omitempty"`
}

// encode returns what is written into the file, and signed.
func (s SidecarFile) encode() ([]byte, error) {
	data, err := json.MarshalIndent(s, "", "  ")
	return append(data, '\n'), err
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

// BackupName is etcd-<node>-<UTC>-r<revision>.db, and for a sealed one .db.zst or .db.zst.age.
func BackupName(s Sidecar) string {
	suffix := snapshotSuffix
	if s.Sealed != nil {
		suffix += sealed.Compressed
		if s.Sealed.Encryption != "" {
			suffix += sealed.Encrypted
		}
	}
	return fmt.Sprintf("%s%d%s", nameUntilRevision(s.Node, s.TakenAt), s.Revision, suffix)
}

// IsBackup says whether a name is that of a backup by its end.
func IsBackup(name string) bool {
	return strings.HasSuffix(strings.TrimSuffix(strings.TrimSuffix(name, sealed.Encrypted), sealed.Compressed),
		snapshotSuffix) && !strings.HasSuffix(name, snapshotSuffix+sealed.Encrypted)
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
	return regexp.MustCompile(`^etcd-` + regexp.QuoteMeta(fileName(node)) + `-\d{8}T\d{6}Z-r\d+\.db(\.zst(\.age)?)?$`).
		MatchString(name)
}

// sameOrigin says whether two backups are of the same node of the same Kubernetes cluster. A
// restore changes etcd's cluster id and keeps the CAs; rotating the CAs keeps the id.
func sameOrigin(a, b Sidecar) bool {
	switch same := a.ClusterID == b.ClusterID; {
	case a.Node != b.Node:
		return false
	case a.fromData() || b.fromData():
		// A person may look into any directory. The id of a cluster follows from its peer URLs, and
		// so another one may have the same.
		return same && !otherFiles(a, b)
	case same:
		return true
	}
	return ShareFile(a.Fingerprints, b.Fingerprints) && !otherPeers(a, b)
}

// fromData says whether a backup was made from a data directory: that may be an old one, or another
// node's, and says nothing about the etcd of that time.
func (s Sidecar) fromData() bool { return s.EtcdVersion == "" }

// otherFiles says whether two backups do not need the same files.
func otherFiles(a, b Sidecar) bool {
	if len(a.Fingerprints) == 0 || len(b.Fingerprints) == 0 {
		return len(b.Fingerprints) > 0 && a.Stray() || len(a.Fingerprints) > 0 && b.Stray()
	}
	return !ShareFile(a.Fingerprints, b.Fingerprints)
}

// Stray says whether a backup is of data that nothing shows to be of this node's own cluster, or of
// a node on which no file tells.
func (s Sidecar) Stray() bool { return s.Source != "" && len(s.Fingerprints) == 0 }

// otherPeers says whether a backup that an earlier version took is of another etcd than the node's,
// as of one for events: their members have no peer URL in common.
func otherPeers(a, b Sidecar) bool {
	if a.Source != "" && b.Source != "" || len(a.Members) == 0 || len(b.Members) == 0 {
		return false
	}
	return !ShareURL(a.Members, b.Members)
}

// ShareURL says whether two lists of members have a peer URL in common.
func ShareURL(a, b []Member) bool {
	var urls []string
	for _, m := range a {
		urls = append(urls, m.PeerURLs...)
	}
	return slices.ContainsFunc(b, func(m Member) bool {
		return slices.ContainsFunc(m.PeerURLs, func(url string) bool { return slices.Contains(urls, url) })
	})
}

// ShareFile says whether two lists of fingerprints have a file in common, which holds the same in
// both: they are of one cluster then.
func ShareFile(a, b map[string]string) bool {
	for file, sum := range a {
		if sum != "" && b[file] == sum {
			return true
		}
	}
	return false
}

// mostSidecar is far above any sidecar, in bytes.
const mostSidecar = 1 << 20

// ReadSidecar reads a sidecar that somebody else may have put there: never through a link. One that
// does not say which snapshot it describes, as an empty object, is none, nor is one of none at all.
func ReadSidecar(fsys node.Reader, name string) (s SidecarFile, st node.Stat, err error) {
	_, s, st, err = ReadSidecarBytes(fsys, name)
	return s, st, err
}

// ReadSidecarBytes also returns what was read, over which there may be a signature.
func ReadSidecarBytes(fsys node.Reader, name string) (data []byte, s SidecarFile, st node.Stat, err error) {
	data, st, err = fsys.ReadPlain(name, mostSidecar)
	if err == nil {
		s, err = ParseSidecar(data)
	}
	return data, s, st, err
}

// kept is an earlier backup of the same node and cluster; the numbers are inodes.
type kept struct {
	Sidecar
	snapshot, sidecar uint64
}

// earlier lists the backups of the node that took the newest. One counts only if it belongs to who
// makes the backups, and a sidecar that does, too, says whose it is.
func (k *KeepBackup) earlier(t *Target) (all []kept, err error) {
	newest := k.Draft.sidecar.Sidecar
	names, err := t.Host.FS.ReadDir(k.held.Dir)
	if err != nil {
		return nil, k.readable(err)
	}
	for _, name := range names {
		if name == path.Base(newest.Path) || !isBackupOf(newest.Node, name) {
			continue
		}
		st, err := t.Host.FS.Lstat(k.at(name))
		if err != nil || !k.own(st) {
			continue
		}
		s, described, err := ReadSidecar(t.Host.FS, k.at(SidecarOf(name)))
		if err != nil || !k.own(described) || !sameOrigin(newest, s.Sidecar) {
			continue
		}
		s.Path = path.Join(k.Dir, name) // the directory may have moved since
		all = append(all, kept{s.Sidecar, st.Ino, described.Ino})
	}
	return all, nil
}

// rotate removes the oldest backups, and leaves as many as asked for. It removes none if one of
// them holds what the newest does not, or the newest may be of wrong data: they may be all that is
// left of the data.
func (k *KeepBackup) rotate(t *Target) error {
	newest := k.Draft.sidecar.Sidecar
	others, err := k.earlier(t)
	if err != nil {
		return err
	}
	if newest.Behind != nil {
		return nil // the plan has said it
	}
	if k.Doubt != "" {
		if len(others) > 0 {
			t.warn(finding.BackupCleanup, k.Dir, "%s: no older backup is deleted", k.Doubt)
		}
		return nil
	}
	if b := FellBack(newest, sidecars(others), k.Since, t.Host.FS); b != nil {
		t.warn(finding.EtcdFellBack, b.Path, "%s is at revision %d of cluster %s, and this backup at revision %d "+
			"of cluster %s: no older backup is deleted",
			b.Path, b.Revision, b.ClusterID, newest.Revision, newest.ClusterID)
		return nil
	}
	others = slices.DeleteFunc(others, func(old kept) bool {
		if old.Ahead(newest.TakenAt) {
			t.report("%s is dated in the future: it is kept, and does not count as one of %d", old.Path, k.Keep)
			return true
		}
		return ofAnother(newest, old.Sidecar, k.Since)
	})
	slices.SortFunc(others, func(a, b kept) int {
		return cmp.Or(b.TakenAt.Compare(a.TakenAt), strings.Compare(b.Path, a.Path))
	})
	for _, old := range others[min(k.Keep-1, len(others)):] {
		files := []found{{old.Path, old.snapshot}, {SidecarOf(old.Path), old.sidecar}}
		if old.Sealed != nil {
			files = []found{files[0], {SignatureOf(old.Path), 0}, files[1]}
		}
		for _, file := range files {
			if err := k.drop(t, file.name, file.ino); err != nil {
				return err
			}
			if err := t.Host.FS.Sync(k.held.Dir); err != nil {
				return k.readable(err)
			}
		}
		t.report("removed the old backup %s", old.Path)
	}
	return nil
}

func sidecars(all []kept) (described []Sidecar) {
	for _, one := range all {
		described = append(described, one.Sidecar)
	}
	return described
}
