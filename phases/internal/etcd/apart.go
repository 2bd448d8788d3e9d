package etcd

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
)

// Apart starts this program once more, with [ServeApart] between its standard streams, and gives it
// open files, from descriptor 3 on. How it ended, if not well, is an [*EndedError]. etcd's and
// bbolt's code works in goroutines of its own and on memory that is a file: a disk that fills or
// fails, or a file that somebody changes, ends the process that it runs in, and nothing in that
// process can prevent it. in writes what it reads; a nil Apart stays in this process.
type Apart func(ctx context.Context, files []*os.File, in func(io.Writer) error) (answer []byte, err error)

// EndedError is the end of a process that gave no answer.
type EndedError struct {
	How  string // "exit status 2", "signal: killed"
	Said string // the beginning of what it wrote to its standard error
}

func (e *EndedError) Error() string { return e.Said + " (" + e.How + ")" }

// verdict says whether the data or the machine is to blame.
func (e *EndedError) verdict() error {
	switch {
	case strings.Contains(e.Said, "SIGBUS"):
		return errors.New("etcd's own code gives up: the disk cannot be read, or the file was cut meanwhile")
	case strings.Contains(e.Said, "panic: "), strings.Contains(e.Said, "fatal error: "):
		_, said, _ := strings.Cut(e.Said, "panic: ")
		return gone(errors.New(said))
	}
	return fmt.Errorf("the etcdpod that ran etcd's own code ended: %w", e)
}

// job is what is done apart: one of three things.
type job struct {
	Restore *StageSpec
	Replay  *replaying // its entries follow
	Private bool       // to be a [Private] etcd in the working directory; there is no answer
}

// replaying applies raft entries to a db.
type replaying struct {
	DB                  string
	MemberID, ClusterID uint64
	Entries             int // how many

	// One after the other: together they may be larger than the db.
	next func() (*raftpb.Entry, error)
}

// answer is what came out.
type answer struct {
	Revision int64
	Bad      *snapfile.Bad
	Err      string // empty: it is done
	Errno    syscall.Errno
}

// refused is an error of the other process.
type refused struct {
	text  string
	errno syscall.Errno
}

func (r *refused) Error() string { return r.text }

func (r *refused) Unwrap() error {
	if r.errno == 0 {
		return nil
	}
	return r.errno
}

// do does a job; its paths are those of files as the other process has them.
func (a Apart) do(ctx context.Context, j job, files ...*os.File) (revision int64, err error) {
	if a == nil {
		return j.done()
	}
	out, err := a(ctx, files, j.send)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if ended := (*EndedError)(nil); errors.As(err, &ended) {
		return 0, ended.verdict()
	}
	if err != nil {
		return 0, err
	}
	var said answer
	if err := gob.NewDecoder(bytes.NewReader(out)).Decode(&said); err != nil {
		return 0, fmt.Errorf("the etcdpod that ran etcd's own code gave no answer: %w", err)
	}
	switch {
	case said.Bad != nil:
		return 0, said.Bad
	case said.Err != "":
		return 0, &refused{said.Err, said.Errno}
	}
	return said.Revision, nil
}

// descriptor is the path of the file with this number among those of [Apart.do].
func (a Apart) descriptor(i int, f *os.File) string {
	if a == nil {
		return fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	}
	const first = 3 // after the standard streams
	return fmt.Sprintf("/proc/self/fd/%d", first+i)
}

// ServeApart does one job, which comes from the process that started this one.
func ServeApart(in io.Reader, out io.Writer) error {
	j, err := receive(in)
	if err != nil {
		return err
	}
	if j.Private {
		return servePrivately()
	}
	var said answer
	if said.Revision, err = j.done(); err != nil {
		said.Err = err.Error()
		_ = errors.As(err, &said.Bad)
		_ = errors.As(err, &said.Errno)
	}
	return gob.NewEncoder(out).Encode(said)
}

func (j job) done() (revision int64, err error) {
	if j.Restore != nil {
		return j.Restore.restore()
	}
	return j.Replay.replay()
}

// send writes what receive reads.
func (j job) send(w io.Writer) error {
	to := gob.NewEncoder(w)
	if err := to.Encode(j); err != nil || j.Replay == nil {
		return err
	}
	for range j.Replay.Entries {
		e, err := j.Replay.next()
		if err != nil {
			return err
		}
		data, err := proto.Marshal(e)
		if err != nil {
			return err
		}
		if err := to.Encode(data); err != nil {
			return err
		}
	}
	return nil
}

func receive(in io.Reader) (j job, err error) {
	from := gob.NewDecoder(in)
	if err := from.Decode(&j); err != nil || j.Replay == nil {
		return j, err
	}
	j.Replay.next = func() (*raftpb.Entry, error) {
		e := &raftpb.Entry{}
		var data []byte
		if err := from.Decode(&data); err != nil {
			return e, err
		}
		return e, proto.Unmarshal(data, e)
	}
	return j, nil
}

// replaying is what replay needs of d.
func (d *DataDir) replaying(db string) *replaying {
	at := 0
	return &replaying{DB: db, MemberID: d.MemberID, ClusterID: d.ClusterID, Entries: len(d.log.entries),
		next: func() (*raftpb.Entry, error) {
			at++
			return d.log.entries[at-1], nil
		}}
}
