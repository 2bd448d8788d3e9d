package journal

import (
	"path"
	"regexp"
)

// Names in a run's folder, and of what a run keeps elsewhere.

// BackupsDir is where backups go when nothing else is said; host path, mode 0700.
const BackupsDir = Home + "/backups"

// HiddenDir is the name of the directory in which a run keeps what must be on another mount than
// its folder: etcd tolerates it in its data directory, and the kubelet passes over hidden files.
func HiddenDir(run string) string { return ".etcdpod-" + run }

// NewCerts is where a run makes keys and certificates, before it puts them in place.
func NewCerts(run string) string { return path.Join(RunDir(run), "new") }

// OldCerts is where a run keeps the keys and certificates that it has replaced.
func OldCerts(run string) string { return path.Join(RunDir(run), "old") }

// Enrolled is where the id of the member that a run adds is written down.
func Enrolled(run string) string { return path.Join(RunDir(run), "member.json") }

// Name is the name of the journal in a run's folder, by which that is known.
const Name = "journal"

var runID = regexp.MustCompile(`^\d{8}T\d{6}Z-[a-z]+-[0-9a-f]{4}$`)

// IsRunID says whether a name is one that a run may have.
func IsRunID(name string) bool { return runID.MatchString(name) }
