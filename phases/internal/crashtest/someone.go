package crashtest

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// someone is the second actor on a node: a person, or configuration management.
type someone struct {
	*Node
	manifests map[string]string // as they were before the run, by path
	kubelet   bool              // it ran before the run
	dir       bool              // the data directory was there before the run
	taken     map[string]string // files that were taken away
	back      map[string]bool   // manifests that were put back
	killed    bool              // the process under test dies at that instant
	unedited  bool              // an edit was taken back
	swapped   [2]string         // directories that were exchanged
	restart   bool              // the kubelet ran when they stopped all
	lost      error             // something of theirs is gone
	cancelled string            // a downgrade that they have cancelled
	told      string            // the last error before they mend
	given     []string          // writes on a disk that they took away, after they were told
}

// deed is one thing that the second actor does. do says whether there was anything to do; mend
// takes it back, once a run cannot go on because of it, and again at the end.
type deed struct {
	name string
	do   func(*someone) bool
	mend func(*someone)
}

const (
	etcdDir = "/var/lib/etcd"
	edited  = "# edited by somebody else\n"
	theirs  = "theirs"
)

// patience is how long an API server needs at most, once nobody looks.
const patience = 5 * time.Second

func deeds() []deed {
	nothing := func(*someone) {}
	return []deed{
		{"puts the API server's manifest back", func(s *someone) bool { return s.putBack("kube-apiserver.yaml") },
			(*someone).takeOut},
		{"puts the API server's manifest back and starts the kubelet", func(s *someone) bool {
			back := s.putBack("kube-apiserver.yaml")
			return s.startKubelet() || back
		}, (*someone).takeOut},
		{"puts all manifests back and starts the kubelet", func(s *someone) bool {
			if s.killed && s.half() {
				return false // docs/failure-model.md says so
			}
			back := s.putBack("")
			return s.startKubelet() || back
		}, (*someone).takeOut},
		{"starts the kubelet", (*someone).startKubelet, (*someone).kubeletAsBefore},
		{"starts an API server by hand", func(s *someone) bool { s.Machine.StartByHand(); return true },
			func(s *someone) { s.Machine.StopByHand() }},
		{"edits etcd's manifest", func(s *someone) bool { return s.edit("etcd.yaml") }, (*someone).unedit},
		{"edits the API server's manifest", func(s *someone) bool { return s.edit("kube-apiserver.yaml") },
			(*someone).unedit},
		{"edits the scheduler's manifest", func(s *someone) bool { return s.edit("kube-scheduler.yaml") },
			(*someone).unedit},
		{"mounts an empty disk over the data", func(s *someone) bool { return s.mount(nil) }, (*someone).unmount},
		{"mounts a disk with data over the data", func(s *someone) bool {
			if s.logElsewhere() != "" {
				return false // it would need a log there, too
			}
			return s.mount(map[string]string{etcdDir + "/member/snap/db": theirs,
				etcdDir + "/member/wal/0.wal": theirs})
		}, (*someone).unmount},
		{"puts the old data back", (*someone).swap, (*someone).swapBack},
		{"fills the disk", func(s *someone) bool { return s.fill("") }, (*someone).free},
		{"fills /etc", func(s *someone) bool { return s.fill("/etc/") }, (*someone).free},
		{"takes away a manifest that the run keeps", func(s *someone) bool {
			return s.takeAway(s.inRun("manifests/etcd.yaml"))
		}, (*someone).bringBack},
		{"takes away the snapshot", func(s *someone) bool { return s.takeAway("/backup/snapshot.db") },
			(*someone).bringBack},
		{"cancels a downgrade", func(s *someone) bool {
			s.cancelled = s.Machine.CancelDowngrade()
			return s.cancelled != ""
		}, (*someone).enableAgain},
		{"reboots the node", func(s *someone) bool { s.Machine.Reboot(sim.DropUnsynced, nil); return true }, nothing},
	}
}

// meet introduces the second actor to a node on which nothing has happened yet.
func meet(w *Node) *someone {
	s := &someone{Node: w, manifests: map[string]string{}, taken: map[string]string{},
		back: map[string]bool{}, kubelet: w.Machine.KubeletRuns()}
	w.Machine.Named = w.Name
	_, err := w.Machine.Lstat(etcdDir)
	s.dir = err == nil
	names, _ := w.Machine.ReadDir(TestManifestDir)
	for _, name := range names {
		file := path.Join(TestManifestDir, name)
		s.manifests[file] = string(w.Machine.Peek(file))
	}
	return s
}

// putBack puts manifests back that the run has taken out: one of them, or all.
func (s *someone) putBack(only string) (any bool) {
	for file, text := range s.manifests {
		if (only == "" || path.Base(file) == only) && s.Machine.Peek(file) == nil {
			s.Machine.Write(file, text)
			s.back[file] = true
			any = true
		}
	}
	return any
}

// half says whether the log is elsewhere, and only one of the two has been exchanged yet.
func (s *someone) half() bool {
	wal := s.logElsewhere()
	return wal != "" && s.Machine.HalfExchanged(etcdDir+"/member/snap/db", wal+"/0.wal")
}

// logElsewhere is where etcd's log is, if it is not with its data.
func (s *someone) logElsewhere() string {
	pod, err := sim.Parse(s.manifests[TestManifestDir+"/etcd.yaml"])
	if err != nil {
		return ""
	}
	wal, _ := pod.Flag("etcd", "wal-dir")
	return wal
}

// takeOut takes out again what was put back and is in the way of the open run. Past the commit
// point it may be where the run wants it, so only what is named then.
func (s *someone) takeOut() {
	for file := range s.back {
		wanted := s.open() == "" || s.Committed() && !strings.Contains(s.told, file)
		if !wanted && string(s.Machine.Peek(file)) == s.manifests[file] {
			s.Machine.TakeAway(file)
			delete(s.back, file)
		}
	}
	s.kubeletAsBefore()
}

func (s *someone) startKubelet() bool {
	ran := s.Machine.KubeletRuns()
	s.Machine.StartKubelet()
	return !ran
}

func (s *someone) kubeletAsBefore() {
	if !s.kubelet && s.open() == "" {
		s.Machine.StopKubelet()
		s.Machine.EndPods()
	}
}

// wentBack says whether the run has ended as if it had never been.
func (s *someone) wentBack() bool {
	runs, _ := journal.List(s.Machine.Disk)
	for _, r := range runs {
		if r.State == nil || !r.State.Ended || r.State.Aborted == "" {
			return false
		}
	}
	return true
}

func (s *someone) edit(name string) bool {
	file := path.Join(TestManifestDir, name)
	text := s.Machine.Peek(file)
	if _, theirs := s.manifests[file]; !theirs || text == nil {
		return false
	}
	s.Machine.Write(file, string(text)+edited)
	return true
}

// unedit checks first that nobody has deleted what was edited.
func (s *someone) unedit() {
	if !s.unedited && len(s.Machine.Holds(edited)) == 0 {
		s.lost = errors.New("an edited manifest is gone")
	}
	for file := range s.manifests {
		if text, was := strings.CutSuffix(string(s.Machine.Peek(file)), edited); was {
			s.Machine.Write(file, text)
			s.unedited = true
		}
	}
}

func (s *someone) mount(files map[string]string) bool {
	if s.Machine.EtcdServes() != "" {
		return false // a disk in use is not mounted over
	}
	if _, err := s.Machine.Lstat(etcdDir); err != nil {
		return false
	}
	s.Machine.MountOver(etcdDir, files)
	for name, text := range files {
		s.taken[name] = text
	}
	return true
}

// unmount checks that nobody has touched what was on the disk.
func (s *someone) unmount() {
	if s.open() == "" && len(s.taken) == 0 && s.Machine.EtcdServes() != "" {
		return // an empty disk that a new member has come to use
	}
	s.stopAll()
	held := s.Machine.Unmount()
	s.takeAlong(held)
	for name, text := range s.taken {
		if held[name] != text {
			s.lost = fmt.Errorf("what was on the other disk is gone: %s", name)
		}
	}
	s.taken = map[string]string{}
	if names, err := s.Machine.ReadDir(etcdDir); err == nil && len(names) == 0 && !s.dir && s.wentBack() {
		s.Machine.TakeAway(etcdDir) // it was left there, as the report said: it was not empty
	}
	s.startAll()
}

// takeAlong notes which writes go with the disk: its owner must have been told.
func (s *someone) takeAlong(held map[string]string) {
	for _, write := range s.Machine.Acked() {
		for _, text := range held {
			switch {
			case !strings.Contains(text+"\n", write+"\n"):
			case strings.Contains(s.told, "clients have written to it"):
				s.given = append(s.given, write)
			default:
				s.lost = fmt.Errorf("%q is on the disk that is taken away, and all that was said is %q", write, s.told)
			}
		}
	}
}

// stopAll is what a person does before he moves data: otherwise etcd runs on it. startAll lets the
// kubelet run again where it did.
func (s *someone) stopAll() {
	s.restart = s.Machine.KubeletRuns()
	s.Machine.StopKubelet()
	s.Machine.EndPods()
}

func (s *someone) startAll() {
	if s.restart {
		s.Machine.StartKubelet()
	}
}

// swap puts the old data back; what runs on the other is stopped first, unless a run looks after
// it. Once no run is open, that is nothing that etcdpod has to do with.
func (s *someone) swap() bool {
	live, old := etcdDir+"/member", s.Machine.OldMember()
	if _, err := s.Machine.Lstat(live + "/wal"); err != nil || old == "" || old == live || s.open() == "" ||
		s.Machine.EtcdServes() != "" && (!s.killed || s.Machine.Members != nil) {
		return false // a member that votes is not stopped
	}
	s.swapped = [2]string{live, old}
	s.stopAll()
	s.Machine.Swap(live, old)
	s.startAll()
	return true
}

func (s *someone) swapBack() {
	if s.swapped[0] == "" || s.Machine.OldMember() != s.swapped[0] || s.open() == "" {
		return
	}
	if _, err := s.Machine.Lstat(s.swapped[1]); err != nil {
		return
	}
	s.stopAll()
	s.Machine.Swap(s.swapped[0], s.swapped[1])
	s.startAll()
}

func (s *someone) fill(below string) bool {
	s.Machine.Full, s.Machine.FullBelow = true, below
	return true
}

// enableAgain is for a run that cannot go back any more. One that can does.
func (s *someone) enableAgain() {
	if s.open() != "" && s.Committed() {
		s.Machine.Downgrade(s.cancelled)
	}
}

func (s *someone) free() { s.Machine.Full = false }

func (s *someone) inRun(name string) string {
	if id := s.open(); id != "" {
		return path.Join(journal.RunDir(id), name)
	}
	return ""
}

func (s *someone) takeAway(name string) bool {
	data := s.Machine.Peek(name)
	if name == "" || data == nil {
		return false
	}
	s.taken[name] = string(data)
	s.Machine.TakeAway(name)
	return true
}

func (s *someone) bringBack() {
	for name, text := range s.taken {
		if _, err := s.Machine.Lstat(path.Dir(name)); err == nil && s.Machine.Peek(name) == nil &&
			(s.open() != "" || !strings.HasPrefix(name, journal.Home)) {
			s.Machine.Write(name, text)
		}
	}
	s.taken = map[string]string{}
}

// open is the id of the open run.
func (w *Node) open() string {
	runs, _ := journal.List(w.Machine.Disk)
	for _, r := range runs {
		if r.State != nil && !r.State.Ended {
			return r.ID
		}
	}
	return ""
}
