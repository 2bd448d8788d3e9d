package status

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// data is what the disk and the other members say about etcd's data, where the log of its container
// may be gone or say nothing.
type data struct {
	room    map[string]uint64 // bytes left, by the directory that etcd writes to
	nothing bool              // etcd's directory holds no data, of whatever cluster
	log     *etcd.LogAlone    // what is left where only the db is gone; nil: that is not so
	// What the others know this node's member as, if nothing of it is here.
	emptied *observe.Member
}

// etcdRoom is as little as etcd may have left: it makes its log in pieces of 64 MiB, one ahead, and
// ends when there is no room for one.
const etcdRoom = 128 << 20

func lookAtData(ctx context.Context, n *observe.Node, f *observe.Facts) (d data) {
	if f.Etcd == nil {
		return d
	}
	d.room = map[string]uint64{}
	for _, dir := range []string{f.Etcd.DataDir, f.Etcd.WALDir} {
		if dir == "" {
			continue
		}
		if free, err := n.FS.Free(observe.Nearest(n.FS, dir)); err == nil {
			d.room[dir] = free
		}
	}
	if f.Live != nil {
		return d
	}
	d.log = n.LogAlone(f.Etcd)
	own := false
	if d.nothing, own = holds(ctx, n, f.Etcd); !own {
		d.emptied = n.KnownToOthers(ctx, f.Etcd)
	}
	return d
}

// youngest is more than the db of an etcd has that began on nothing and has not heard of its
// cluster yet. bbolt makes it grow by 16 MiB.
const youngest = 64 << 20

// holds says whether etcd's directory holds no data at all, and whether this node's member is in
// it. What cannot be read counts as data of this member. An etcd that ends because the cluster
// believes it to have more has made a little before, which knows no member.
func holds(ctx context.Context, n *observe.Node, pod *observe.EtcdPod) (nothing, own bool) {
	if n.NoData(pod) {
		return true, false
	}
	if st, err := n.FS.Lstat(path.Join(pod.DataDir, "member/snap/db")); err != nil || st.Size > youngest {
		return false, true
	}
	stopped, err := n.Stopped(ctx, pod)
	if err != nil {
		return false, true
	}
	return len(stopped.Members) == 0 && stopped.Revision <= 1,
		slices.ContainsFunc(stopped.Members, func(m observe.Member) bool {
			return observe.ShareURL(m.PeerURLs, pod.PeerURLs)
		})
}

func (s seen) judgeData() (w found) {
	switch m := s.data.emptied; {
	case m != nil:
		w = append(w, finding.New(finding.EtcdEmptied, s.facts.Etcd.DataDir,
			"the cluster knows this node as member %s at %s, but %s holds none of its data: it was emptied",
			m.ID, strings.Join(m.PeerURLs, ", "), s.facts.Etcd.DataDir))
	case s.data.nothing && !s.stoppedByRun():
		w = append(w, finding.New(finding.EtcdDataMissing, s.facts.Etcd.DataDir,
			"etcd's data directory %s holds no data", s.facts.Etcd.DataDir))
	case s.data.log != nil && !s.stoppedByRun():
		text := "the db of etcd is missing from its data directory %s; its log is there, and whole"
		if !s.data.log.Whole {
			text = "the db of etcd is missing from its data directory %s, and its log does not go back to the beginning"
		}
		w = append(w, finding.New(finding.EtcdDataMissing, s.facts.Etcd.DataDir, text, s.facts.Etcd.DataDir))
	}
	for _, dir := range s.data.full() {
		w = append(w, finding.New(finding.DiskFull, dir, "the file system of %s has only %s left: etcd exits when it "+
			"has no room for the next 64 MiB of its log. Free some space there: `du -xhd1` shows what takes it", dir,
			engine.Size(s.data.room[dir])))
	}
	return w
}

// full are the directories in which etcd has too little room, in order.
func (d data) full() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(d.room)), func(dir string) bool { return d.room[dir] >= etcdRoom })
}

// mendData is what to do first, if the data tells.
func (s seen) mendData() string {
	if m := s.data.emptied; m != nil {
		return "bring it back as a new member: " + s.facts.Etcd.JoinAgain(m.ID.String())
	}
	if full := s.data.full(); len(full) > 0 {
		return "free some space on the file system of " + full[0]
	}
	return ""
}

// findData says what to do where etcd's directory holds no data, or no db: nothing can be saved.
func (s seen) findData() string {
	if log := s.data.log; log != nil && log.Whole {
		return fmt.Sprintf("start etcd: it makes its db anew from its log, and nothing is lost. Do not empty %s",
			s.facts.Etcd.DataDir)
	}
	as, file := s.facts.Etcd.Source("data-dir", "")
	restore := "look for a backup that was kept elsewhere: `etcdpod backups --dir DIR`"
	if newest := s.newest(); newest != nil {
		which, file := s.toRestore(newest)
		restore = fmt.Sprintf("see what restoring %s would do: `etcdpod restore %s --dry-run`", which, file)
	}
	if s.data.log != nil {
		return fmt.Sprintf("if somebody has moved %s/member/snap/db away, put it back; if it is lost, %s",
			s.facts.Etcd.DataDir, restore)
	}
	return fmt.Sprintf("if etcd's data is on another disk, mount it at %s; if it is in another directory, correct %s "+
		"in %s; if it is lost, %s. On a new node nothing is wrong: etcd makes its data when it first starts",
		s.facts.Etcd.DataDir, as, file, restore)
}
