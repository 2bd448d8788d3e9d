// Package journal records what a run is to do, what it has started and what it has finished, so
// that a run cut off at any instant can be resumed or rolled back. It knows files and records, not
// what an operation does.
//
// A journal is a file of lines, `<crc32 of the JSON, 8 hex digits> <JSON>\n`, one record per line,
// each made durable before the next step of the run. A crash can tear only the last line; a torn
// last line counts as never written.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Kind says what a record means.
type Kind string

// The records, in the order in which a run writes them: on the way forward, and when it rolls back,
// which it can until it is forward-only (see [State.Forward]).
//
//	begin ─ (start ─ finish)* ─ commit ─ [settle] ─ (start ─ finish)* ─ end
//	begin ─ (start ─ finish)* ─ [commit] ─ abort ─ (undo ─ undone)* ─ end
const (
	Begin Kind = "begin" // the run and its whole plan
	// An operation is about to be carried out; the record holds the identities that it recorded.
	Start  Kind = "start"
	Finish Kind = "finish" // its effect is durable, or it was skipped
	// The run is forward-only from here; on several nodes, once all of them hold this record.
	Commit Kind = "commit"
	// On several nodes: all were seen to hold the commit record, so this node goes forward whatever
	// becomes of the others.
	Settle Kind = "settle"
	Abort  Kind = "abort"  // the run rolls back from here; never reversed
	Undo   Kind = "undo"   // an operation is about to be undone
	Undone Kind = "undone" // its effect is durably gone
	End    Kind = "end"    // the run is closed
)

// Record is one line of a journal.
type Record struct {
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
	Run  *Run      `json:"run,omitempty"` // begin
	// Start, finish, undo, undone: index in the plan.
	Step  int             `json:"step,omitempty"`
	Op    json.RawMessage `json:"op,omitempty"`    // start
	Notes []string        `json:"notes,omitempty"` // finish, undone: what the operation reported
	// Those of the notes that are warnings, with their codes.
	Findings []finding.Finding `json:"findings,omitempty"`
	// Abort: why. Of a second start or undo of a step: why the one before did not succeed. End of a
	// run that has gone back: what does not serve again.
	Error string `json:"error,omitempty"`
}

// Run is the content of a journal's first record: who does what, and the plan.
type Run struct {
	ID       string            `json:"id"`
	Workflow string            `json:"workflow"`
	Command  []string          `json:"command"` // as typed, for people who read the journal
	Node     string            `json:"node"`
	Version  string            `json:"version"` // of etcdpod
	Plan     []Step            `json:"plan"`
	CommitAt int               `json:"commitAt"` // the commit record comes before this step
	Notes    map[string]string `json:"notes,omitempty"`
	Cluster  *Cluster          `json:"cluster,omitempty"` // nil for a run on one node
}

// Cluster is what a node must know about a run on several nodes to settle it from there.
type Cluster struct {
	// Coordinator is the node where the command was typed.
	Coordinator string `json:"coordinator"`
	// Nodes are all nodes, including the coordinator, in the order in which etcd is started.
	Nodes         []Peer `json:"nodes"`
	SSHCommand    string `json:"sshCommand"`
	RemoteCommand string `json:"remoteCommand"`
	// OldURLs is where versions before [NoteOldURLs] kept what that note holds now. It is read but
	// not written.
	OldURLs []string `json:"oldURLs,omitempty"`
}

// Peer is one of several nodes: its name, and the host to give to ssh.
type Peer struct {
	Name string `json:"name"`
	Host string `json:"host"`
}

// Typed is the node as --nodes takes it.
func (p Peer) Typed() string {
	if p.Host == p.Name {
		return p.Name
	}
	return p.Name + "=" + p.Host
}

// Step is one operation of the plan.
type Step struct {
	Phase string          `json:"phase"`
	Kind  string          `json:"kind"`
	Op    json.RawMessage `json:"op"`
}

// ErrDamaged says that a journal is damaged elsewhere than in a torn last line.
var ErrDamaged = errors.New("the journal is damaged")

// allocation is reserved on disk when the journal is created, so that a full disk cannot keep a run
// from being recorded or undone. A plan is a few KiB, a record without one about 100 bytes.
const allocation = 1 << 20

// Journal is the journal of one run. Only one process at a time writes it (see [Lock]).
type Journal struct {
	fs    node.FS
	clock node.Clock
	path  string
	size  int64 // of whole records, in bytes
}

// Create creates the journal of a new run in dir, which must exist, and writes its begin record.
// dir and the journal are durable when it returns.
func Create(fsys node.FS, clock node.Clock, dir string, run Run) (*Journal, error) {
	j := &Journal{fs: fsys, clock: clock, path: path.Join(dir, Name)}
	if err := fsys.Allocate(j.path, allocation); err != nil {
		return nil, fmt.Errorf("cannot reserve space for journal %s: %w", j.path, err)
	}
	if err := j.Append(Record{Kind: Begin, Run: &run}); err != nil {
		return nil, err
	}
	if err := fsys.Sync(dir); err != nil {
		return nil, fmt.Errorf("cannot sync journal %s: %w", j.path, err)
	}
	return j, nil
}

// Append writes one record and makes it durable.
func (j *Journal) Append(r Record) error {
	r.Time = j.clock.Now().UTC()
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot write journal %s: %w", j.path, err)
	}
	line := fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(body), body)
	err = j.fs.Append(j.path, line)
	if err == nil {
		err = j.fs.Sync(j.path)
	}
	if err != nil {
		// The next record must not follow half a record.
		return errors.Join(fmt.Errorf("cannot write journal %s: %w", j.path, err), j.fs.Truncate(j.path, j.size))
	}
	j.size += int64(len(line))
	return nil
}

// Open opens the journal in dir for appending, and cuts off a torn last line. The state that it
// returns is durable: the process that wrote the last record may have been killed before it could
// sync it, and an effect that follows must not outlive its record. The same is true of the
// journal's name. It returns fs.ErrNotExist if the run never began.
func Open(fsys node.FS, clock node.Clock, dir string) (*Journal, *State, error) {
	j := &Journal{fs: fsys, clock: clock, path: path.Join(dir, Name)}
	state, valid, torn, err := read(fsys, j.path)
	if err != nil {
		return nil, nil, err
	}
	j.size = valid
	if torn {
		if err := fsys.Truncate(j.path, j.size); err != nil {
			return nil, nil, fmt.Errorf("cannot truncate the torn end of journal %s: %w", j.path, err)
		}
		// Truncating released the reserved room; even on a full disk there may be enough for the
		// rest.
		_ = fsys.Allocate(j.path, allocation)
	}
	for _, name := range []string{j.path, dir} {
		if err := fsys.Sync(name); err != nil {
			return nil, nil, fmt.Errorf("cannot sync journal %s: %w", j.path, err)
		}
	}
	return j, state, nil
}

// Read reads the journal in dir and changes nothing. It returns fs.ErrNotExist if the run never
// began.
func Read(fsys node.Reader, dir string) (*State, error) {
	state, _, _, err := read(fsys, path.Join(dir, Name))
	return state, err
}

// read also returns how many bytes the whole records take, and whether something torn follows them.
func read(fsys node.Reader, name string) (state *State, valid int64, torn bool, err error) {
	data, err := fsys.ReadFile(name)
	if err == nil {
		err = trusted(fsys, name)
	}
	if err != nil {
		return nil, 0, false, fmt.Errorf("cannot read journal %s: %w", name, err)
	}
	records, size, err := parse(data)
	if err != nil {
		return nil, 0, false, fmt.Errorf("cannot read journal %s: %w", name, err)
	}
	if len(records) == 0 {
		return nil, 0, false, fmt.Errorf("journal %s holds no run: %w", name, fs.ErrNotExist)
	}
	state, err = replay(records)
	if err != nil {
		return nil, 0, false, fmt.Errorf("cannot read journal %s: %w", name, err)
	}
	return state, int64(size), size < len(data), nil
}

// trusted refuses a journal that others may have written: what it says is carried out as root.
func trusted(fsys node.Reader, name string) error {
	st, err := fsys.Lstat(name)
	if err == nil && (st.Foreign() || st.Mode&fs.ModeSymlink != 0) {
		err = errors.New("others may have written it; if it is etcdpod's own, let it belong to root, with the mode " +
			"0600")
	}
	return err
}

// parse returns the records and how many bytes of data they take. Only the last line may be torn.
func parse(data []byte) ([]Record, int, error) {
	var records []Record
	valid := 0
	for valid < len(data) {
		line, rest, whole := bytes.Cut(data[valid:], []byte("\n"))
		r, err := parseLine(line)
		if err != nil || !whole {
			if len(bytes.Trim(rest, "\x00")) > 0 {
				return nil, 0, fmt.Errorf("%w at byte %d", ErrDamaged, valid)
			}
			return records, valid, nil
		}
		records = append(records, r)
		valid += len(line) + 1
	}
	return records, valid, nil
}

func parseLine(line []byte) (Record, error) {
	if remembered != nil {
		return remembered.parse(line)
	}
	return parseRecord(line)
}

func parseRecord(line []byte) (Record, error) {
	var r Record
	said, body, ok := bytes.Cut(line, []byte(" "))
	sum := crc32.ChecksumIEEE(body)
	if !ok || string(said) != fmt.Sprintf("%08x", sum) {
		return r, ErrDamaged
	}
	return r, json.Unmarshal(body, &r)
}
