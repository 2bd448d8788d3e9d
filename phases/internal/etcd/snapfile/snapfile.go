// Package snapfile proves an etcd snapshot file good, or says what is wrong with it, offline and
// without changing it.
//
// It reads bbolt's file format by position into small buffers instead of mapping the file:
// data cannot change while it is checked, and memory use does not grow with the file. So no
// input crashes it, keeps it busy longer than its size warrants, or takes unbounded memory.
// It checks every length, offset and page id before use. Only the SHA-256 reads mapped
// memory, a few MiB at a time.
package snapfile

import (
	"fmt"
)

// The checks, in the order in which a failure is reported: a problem with the whole file
// explains problems inside it.
const (
	CheckFile      = "file"      // there, readable, regular
	CheckLength    = "length"    // whole pages and a trailer, as much as the meta pages promise
	CheckTrailer   = "trailer"   // the SHA-256 that etcd appended
	CheckMeta      = "meta"      // both meta pages
	CheckStructure = "structure" // every page of every bucket, and the freelist
	CheckKeys      = "keys"      // etcd's own records: revisions, keys and values, members
	// Of a data directory: that the write-ahead log goes on where the db ends.
	CheckLog = "log"
)

// Bad says that the file is not a good snapshot. It is the only error of [Check] and [Peek] about
// the contents; all others say that the file could not be read.
type Bad struct {
	Check string // which check failed: one of the Check constants
	// Bytes from the start of the file to the problem; 0 for the file as a whole.
	Offset int64
	Reason string // names the place, too
	What   string // the thing that is bad; empty: the snapshot
	// Bare means that all it lacks at first sight is the SHA-256 at its end, which etcd's own file,
	// member/snap/db, does not have.
	Bare bool
}

func (b *Bad) Error() string {
	names := map[string]string{CheckTrailer: "SHA-256 trailer",
		CheckMeta: "meta pages", CheckStructure: "page structure"}
	name := names[b.Check]
	if name == "" {
		name = b.Check
	}
	what := b.What
	if what == "" {
		what = "the snapshot"
	}
	if b.Check == CheckFile { // of what it holds nothing is known
		return fmt.Sprintf("%s cannot be read: %s", what, b.Reason)
	}
	return fmt.Sprintf("%s is bad: %s: %s", what, name, b.Reason)
}

func bad(check string, offset int64, format string, args ...any) *Bad {
	return &Bad{Check: check, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// Options says how much [Check] proves.
type Options struct {
	Quick bool // length, SHA-256 and meta pages only; the report then holds no more than that
	// Raw accepts a copy of member/snap/db, which has no trailer and may have one torn
	// meta page, as bbolt allows after a crash. A trailer is not compared. Pages and keys
	// are checked as usual, and for what a copy made while etcd wrote has wrong: pages of
	// different moments, and revisions that are missing.
	Raw bool
	// Drop removes what was read from the page cache at once. It is for a file that is not needed
	// again soon, and was written without leaving it in the cache.
	Drop bool
	// Steps from an earlier reading let two cores hash the file. Wrong ones only cost time.
	Steps Steps
	// Progress reports the work done, in bytes read of those to be read, about every 4 MiB, from
	// one goroutine at a time.
	Progress func(done, total int64)
}

// Report is what a snapshot holds.
type Report struct {
	SizeBytes int64  // of the file, trailer included
	SHA256    string // hex, of the whole file, as sha256sum prints it
	// Hex, of the data, as stored at the end of the file; empty if there is none.
	Trailer     string
	HashChecked bool  // the SHA-256 in the trailer was compared
	PageSize    int   // bytes
	Steps       Steps // of the hash of the data

	Revision                 int64 // of an etcd that boots on this data
	CompactRevision          int64 // of the last finished compaction; 0: there was none
	ScheduledCompactRevision int64 // of the last compaction that began; 0: there was none
	// HashKV is what etcd's Maintenance.HashKV answers on this data at HashRevision; comparable
	// only at the same HashCompactRevision (-1: never compacted).
	HashKV              uint32
	HashRevision        int64
	HashCompactRevision int64

	Keys      int64 // live at Revision
	Revisions int64 // entries of the key bucket, deletions and overwritten values included

	StorageVersion  string // major.minor.patch; empty before etcd 3.6
	ClusterVersion  string // major.minor.patch; empty if not stored
	ConsistentIndex uint64
	Term            uint64
	Members         []Member
	Removed         []uint64 // ids of members that the cluster once had
	Alarms          []Alarm

	// Stored says how the live objects of each resource below /registry/ are stored, and encrypted
	// ones anywhere, sorted.
	Stored []Stored
	// Last elements of live keys below /registry/masterleases/: the addresses of API
	// servers; at most 1024.
	MasterLeases []string
	// Those of MasterLeases whose entry has no lease: nothing removes it when the API server is
	// gone.
	DeadMasters []string
	// Values as they are stored, of what tells whether a node's files fit: those named by
	// [CASamples] and [TokenSamples].
	Samples map[string][]Sample
	// AdminBinding says that the ClusterRoleBinding is there that gives kubeadm's admin.conf its
	// rights (kubeadm, app/constants: ClusterAdminsGroupAndClusterRoleBinding).
	AdminBinding bool
	// Resources counts the live objects of each Kubernetes resource below /registry/,
	// under kubectl's names (pods, certificates.cert-manager.io). Beyond 4096 names,
	// objects count as "other".
	Resources map[string]int64
	Leases    int64
	Buckets   []string // top level, in order; at most 64
	Tail      []Record // of a raw database: its last records, in order
}

// Stored counts the live objects of a resource that are stored in the same way.
type Stored struct {
	Resource string // as in [Report.Resources]; empty: they are not below /registry/
	Custom   bool   // a CustomResourceDefinition of that name is there
	// Prefix `k8s:enc:<provider>:<version>:<key>:` of the values; empty: they are not encrypted. A
	// bare `k8s:enc:` stands for values whose prefix has no end, and for all beyond the 256th: no
	// key decrypts it, so nothing slips through.
	Prefix  string
	Objects int64
	Sample  *Sample // an encrypted one; nil: all that were looked at are too large
}

// Record is one entry of the key bucket.
type Record struct {
	Main, Sub int64 // revision
	Deleted   bool  // of the key there is no value from here on
	Key       string
	ValueCRC  uint32 // Castagnoli
	Created   int64  // revision; 0 if deleted
	Version   int64  // 1 when it was created; 0 if deleted
}

// Member is one member of the cluster as stored in the snapshot.
type Member struct {
	ID         uint64
	Name       string // empty: it never started
	PeerURLs   []string
	ClientURLs []string
	IsLearner  bool
}

// Alarm is an alarm that was raised when the snapshot was taken.
type Alarm struct {
	MemberID uint64
	Type     string // NOSPACE, CORRUPT, or the number of an unknown one
}
