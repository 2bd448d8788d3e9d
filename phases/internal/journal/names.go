package journal

import (
	"path"
	"regexp"
)

// Names in a run's folder, and of what a run keeps elsewhere.

// BackupsDir is the default directory for backups; host path, mode 0700.
const BackupsDir = Home + "/backups"

// HiddenDir is the name of the directory for what a run must keep on another mount than its folder:
// etcd tolerates it in its data directory, and the kubelet ignores hidden files.
func HiddenDir(run string) string { return ".etcdpod-" + run }

// NewCerts is where a run makes keys and certificates before it puts them in place.
func NewCerts(run string) string { return path.Join(RunDir(run), "new") }

// OldCerts is where a run keeps the keys and certificates that it replaced.
func OldCerts(run string) string { return path.Join(RunDir(run), "old") }

// Enrolled is where a run notes the id of the member that it adds.
func Enrolled(run string) string { return path.Join(RunDir(run), "member.json") }

// Claimed is where a run notes which data directory it has claimed.
func Claimed(run string) string { return path.Join(RunDir(run), "claimed.json") }

// Name is the file name of the journal in a run's folder; a folder with one is a run's.
const Name = "journal"

var runID = regexp.MustCompile(`^\d{8}T\d{6}Z-[a-z]+-[0-9a-f]{4}$`)

// IsRunID says whether a name can be a run's id.
func IsRunID(name string) bool { return runID.MatchString(name) }
