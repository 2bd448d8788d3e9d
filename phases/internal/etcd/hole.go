package etcd

import (
	"fmt"
	"path/filepath"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// Hole is a place between what the db has and the last committed raft entry where entries are
// missing: what stands before it is whole, and what came after it is lost.
type Hole struct {
	First  uint64 // index of the first entry that is missing
	Reason string // what is there instead, as the end of a sentence
}

// HoleError says that a data directory has a hole. It wraps a [*snapfile.Bad].
type HoleError struct{ Hole }

func (e *HoleError) Error() string {
	return fmt.Sprintf("raft entry %d is missing: %s", e.First, e.Reason)
}

// Unwrap makes it a verdict on the data.
func (e *HoleError) Unwrap() error {
	return &snapfile.Bad{Check: snapfile.CheckLog, What: "the data", Reason: e.Error()}
}

// badLog says that the log does not go with the db, or is none.
func badLog(format string, args ...any) error {
	return &snapfile.Bad{Check: snapfile.CheckLog, What: "the write-ahead log", Reason: fmt.Sprintf(format, args...)}
}

// findHole looks for missing entries. Whatever may stand behind damage may have been acknowledged:
// etcd does not sync its note of what is committed.
func (d *DataDir) findHole() *Hole {
	l := d.log
	last := max(l.last(), d.ConsistentIndex)
	hole := func(format string, args ...any) *Hole {
		return &Hole{First: last + 1, Reason: fmt.Sprintf(format, args...)}
	}
	committed := max(l.hard.GetCommit(), l.beyond.commit)
	switch {
	case l.first > d.ConsistentIndex+1 && len(l.entries) == 0 && l.damage != nil && l.end == 0:
		return hole("the db ends at entry %d, but the log in %s begins with entry %d",
			d.ConsistentIndex, filepath.Base(l.damage.File), l.first)
	case l.damage != nil && !l.damage.Torn && l.beyond.last > last:
		return hole("the log is damaged, in %v; entries up to %d follow the damage", l.damage, l.beyond.last)
	case l.damage != nil && !l.damage.Torn:
		return hole("the log is damaged, in %v", l.damage)
	case l.gap != nil:
		return hole("%v", l.gap)
	case committed > last:
		return hole("the log says that entries up to %d were committed, but ends with %d", committed, l.end)
	case l.end < d.ConsistentIndex:
		// etcd syncs an entry to the log before it applies it. On such data it answers nobody, or
		// takes no write, until it has written as many entries as are missing.
		return hole("the log ends with entry %d, but the db has applied all up to %d: the end of the log is lost, "+
			"or it was copied before the db", l.end, d.ConsistentIndex)
	}
	return nil
}

// own is false for a db that the leader sent: another member made it.
func (d *DataDir) own() bool { return d.DB == dbPath(d.Dir) }

// checkJoint refuses a db and a log that are not of one history: the db's last entry must be the
// log's entry of that index.
func (d *DataDir) checkJoint() error {
	l, term := d.log, d.Contents.Term
	if last := l.shared.last(); last != nil && term != 0 && last.GetIndex() == d.ConsistentIndex &&
		last.GetTerm() != term {
		return badLog("its entry %d is of term %d, but the db has applied one of term %d: they are not of one history",
			d.ConsistentIndex, last.GetTerm(), term)
	}
	for _, s := range l.snapshots {
		if d.own() && s.GetIndex() == d.ConsistentIndex && s.GetIndex() <= d.log.hard.GetCommit() &&
			term != 0 && s.GetTerm() != 0 && s.GetTerm() != term {
			return badLog("it says that entry %d is of term %d, but the db has applied one of term %d: they are not "+
				"of one history", d.ConsistentIndex, s.GetTerm(), term)
		}
	}
	before := term
	for _, e := range l.entries {
		if e.GetTerm() < before {
			return badLog("its entry %d is of term %d, but the one before is of term %d: they are not of one history",
				e.GetIndex(), e.GetTerm(), before)
		}
		before = e.GetTerm()
	}
	if err := d.checkHistory(); err != nil {
		return err
	}
	return d.checkEffects()
}

// checkMember refuses a log of a member that the db has never had, unless it may have become one
// where entries are missing.
func (d *DataDir) checkMember() error {
	if d.Hole != nil || !d.own() {
		return nil
	}
	return badLog("it belongs to member %x of cluster %x, which is not among the members in the db: they are of "+
		"different clusters", d.MemberID, d.ClusterID)
}
