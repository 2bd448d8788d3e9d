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

// What etcd writes to its log when the connection to a peer is made and lost (etcd,
// server/etcdserver/api/rafthttp/peer_status.go).
const (
	peerBecame = "peer became "
	etcdsTime  = "2006-01-02T15:04:05.999999Z0700"
)

var (
	peerTurned = regexp.MustCompile(peerBecame + `(in)?active\b.*peer-id\\?": ?\\?"([0-9a-f]+)`)
	// When that was: as runtimes say that implement CRI, as Docker does, or as etcd itself.
	lineTimes = []*regexp.Regexp{regexp.MustCompile(`^(\S+) (?:stdout|stderr) `),
		regexp.MustCompile(`"time":"([^"]+)"`), regexp.MustCompile(`"ts":"([^"]+)"`)}
)

// mostLog is how much of a log is read: several times what the kubelet lets one grow to before it
// begins another.
const mostLog = 64 << 20

// InactiveSince is since when this node's etcd has had no connection to other members, by id, as
// its log says. One that it has not been connected to since it was started is not in it, nor one of
// which the log says nothing any more.
func (n *Node) InactiveSince(ctx context.Context, files []ManifestFile, pod *EtcdPod) map[uint64]time.Time {
	containers, err := n.Runtime.Containers(ctx)
	if err != nil || pod == nil {
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
	since := map[uint64]time.Time{}
	for lines := bufio.NewReaderSize(log, 64<<10); ctx.Err() == nil; {
		line, err := lines.ReadString('\n')
		if id, at, lost := peerTurn(line); id != 0 && lost {
			since[id] = at
		} else if id != 0 {
			delete(since, id)
		}
		if err != nil {
			return since
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
	for _, times := range lineTimes {
		found := times.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		for _, layout := range []string{time.RFC3339Nano, etcdsTime} {
			if at, err = time.Parse(layout, found[1]); err == nil {
				return id, at.UTC(), turn[1] != ""
			}
		}
	}
	return 0, at, false
}
