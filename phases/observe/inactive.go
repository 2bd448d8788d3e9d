package observe

import (
	"bufio"
	"context"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/op"
)

// What etcd writes to its log when the connection to a peer is made, at the level info, and when it
// is lost, at the level warn (etcd, server/etcdserver/api/rafthttp/peer_status.go).
const (
	peerBecame = "peer became "
	etcdsTime  = "2006-01-02T15:04:05.999999Z0700"
)

var (
	peerTurned = regexp.MustCompile(peerBecame + `(in)?active\b.*peer-id\\?": ?\\?"([0-9a-f]+)`)
	// When that was: as runtimes say that implement CRI, as Docker does, or as etcd itself.
	lineTimes = []*regexp.Regexp{regexp.MustCompile(`^(\S+) (?:stdout|stderr) `),
		regexp.MustCompile(`"time":"([^"]+)"`), regexp.MustCompile(`"ts":"([^"]+)"`)}
	// A line of a level at which etcd also says that a connection was made: in JSON, or as plain
	// text; and either of them as Docker quotes it.
	wordy = regexp.MustCompile(`"level\\?":\\?"(info|debug)|(\t|\\t)(info|debug)(\t|\\t)`)
)

// mostLog is how much of a log is read: several times what the kubelet lets one grow to before it
// begins another.
const mostLog = 64 << 20

// silence is how long etcd may log nothing, and its log still counts as being written: while an API
// server uses it, it is compacted every 5 min; while a peer is away, it says so every few seconds.
const silence = 10 * time.Minute

// InactiveSince is since when this node's etcd has had no connection to other members, by id, as
// its log says. One that it has not been connected to since it was started is not in it, nor one of
// which the log says nothing any more. Where the log would not say that a connection was made
// again, nothing is concluded from it: a person may decide by this which member is dead.
func (n *Node) InactiveSince(ctx context.Context, files []ManifestFile, pod *EtcdPod) map[uint64]time.Time {
	containers, err := n.Runtime.Containers(ctx)
	if err != nil || pod == nil || !logsMade(pod) {
		return nil
	}
	c := ContainerOf(containers, files, pod.File, pod.Container)
	if c == nil || c.State != "running" {
		return nil
	}
	name := op.LogOf(ctx, n.Runtime, *c)
	log, err := n.FS.Open(name)
	if err != nil {
		return nil // nothing tells
	}
	defer log.Close()
	if s, ok := log.(io.Seeker); ok {
		if st, err := n.FS.Lstat(name); err == nil && st.Size > mostLog {
			_, _ = s.Seek(-mostLog, io.SeekEnd) // if not, all of it is read
		}
	}
	return lostIn(ctx, log, n.Clock.Now())
}

// logsMade says whether etcd logs what it says at the level info.
func logsMade(pod *EtcdPod) bool {
	level := strings.ToLower(pod.Setting("", "log-level"))
	return level == "" || level == "info" || level == "debug"
}

// lostIn reads a log for [Node.InactiveSince]. It must have a line of the level at which etcd says
// that a connection was made, and go on until now.
func lostIn(ctx context.Context, log io.Reader, now time.Time) map[uint64]time.Time {
	since, told, last := map[uint64]time.Time{}, false, ""
	for lines := bufio.NewReaderSize(log, 64<<10); ctx.Err() == nil; {
		line, err := lines.ReadString('\n')
		if id, at, lost := peerTurn(line); id != 0 && lost {
			since[id] = at
		} else if id != 0 {
			delete(since, id)
		}
		told = told || wordy.MatchString(line)
		switch {
		case err == nil:
			last = line
		case told && now.Sub(timeOf(last)) < silence:
			return since
		default:
			return nil
		}
	}
	return nil
}

// peerTurn reads a line that says that the connection to a peer was made or lost; the id is 0 in
// any other line.
func peerTurn(line string) (id uint64, at time.Time, lost bool) {
	if !strings.Contains(line, peerBecame) {
		return 0, at, false
	}
	turn := peerTurned.FindStringSubmatch(line)
	if turn == nil {
		return 0, at, false
	}
	id, err := strconv.ParseUint(turn[2], 16, 64)
	if err != nil {
		return 0, at, false
	}
	if at = timeOf(line); at.IsZero() {
		return 0, at, false
	}
	return id, at, turn[1] != ""
}

// timeOf is when a line was written; zero if it does not say.
func timeOf(line string) time.Time {
	for _, times := range lineTimes {
		found := times.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		for _, layout := range []string{time.RFC3339Nano, etcdsTime} {
			if at, err := time.Parse(layout, found[1]); err == nil {
				return at.UTC()
			}
		}
	}
	return time.Time{}
}
