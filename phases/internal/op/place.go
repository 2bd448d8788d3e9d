package op

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// What puts new things where nothing is: the opposite of replacing. Nothing is ever overwritten, and going back takes away only what is known to be the run's own.

// PutCertificate puts a certificate, or the request for one, and its key, which the run has made in its folder, where nothing is yet.
type PutCertificate struct {
	Name    string       `json:"name"`
	From    string       `json:"from"` // the new pair, without .crt (or .csr) and .key; it is gone from there afterwards
	To      string       `json:"to"`   // likewise
	Attr    [2]node.Attr `json:"attr"` // of the certificate or request, and of the key
	Request bool         `json:"request,omitempty"`

	New [2]string `json:"new"` // SHA-256 of both, hex: what is at To is ours if it is these
}

func (p *PutCertificate) String() string {
	if p.Request {
		return fmt.Sprintf("put the request for %s in place: %s.key, then %s.csr", p.Name, p.To, p.To)
	}
	return fmt.Sprintf("put the new %s in place: %s.key, then %s.crt", p.Name, p.To, p.To)
}

func (p *PutCertificate) from() [2]string { return p.pair(p.From) }
func (p *PutCertificate) to() [2]string   { return p.pair(p.To) }

func (p *PutCertificate) pair(base string) [2]string {
	if p.Request {
		return requestAt(base)
	}
	return pairAt(base)
}

// Record notes which pair it is, and that neither file is there.
func (p *PutCertificate) Record(_ context.Context, t *Target) (err error) {
	for _, file := range p.to() {
		if exists(t, file) {
			return fmt.Errorf("cannot write %s: it has turned up since the run was planned", file)
		}
	}
	p.New, err = sums(t, p.from())
	return err
}

// Do writes the key first: whoever finds the certificate finds its key.
func (p *PutCertificate) Do(_ context.Context, t *Target) error {
	for _, i := range []int{1, 0} {
		if err := p.put(t, i); err != nil {
			return err
		}
	}
	return removePair(t, p.from())
}

func (p *PutCertificate) put(t *Target, i int) error {
	file := p.to()[i]
	if exists(t, file) { // by an earlier try
		if sum, err := sumOf(t, file); err != nil || sum != p.New[i] {
			return errors.Join(fmt.Errorf("cannot write %s: somebody else has put another file there", file), err)
		}
		return settleWritten(t, file)
	}
	from := p.from()[i]
	data, err := t.Host.FS.ReadFile(from)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", from, err)
	}
	if sumOfData(data) != p.New[i] {
		return fmt.Errorf("cannot write %s: %s is not what it was when the run began", file, from)
	}
	return node.WriteNew(t.Host.FS, file, data, p.Attr[i])
}

// Undo removes what is in place and is the run's own. A pair of which somebody else has replaced one file stays as it is: the other may be needed with it.
func (p *PutCertificate) Undo(_ context.Context, t *Target) error {
	for _, file := range p.to() {
		if !exists(t, path.Dir(file)) {
			return nil
		}
		if err := node.DropTemp(t.Host.FS, file); err != nil {
			return err
		}
	}
	for i, file := range p.to() {
		theirs, err := foreign(t, file, func(data []byte) bool { return sumOfData(data) == p.New[i] })
		if err != nil {
			return err
		}
		if theirs {
			t.report("%s.* are left there: somebody else has put %s there", p.To, path.Base(file))
			return syncDirs(t, file)
		}
	}
	for _, file := range p.to() { // the certificate first: whoever finds it finds its key
		if err := remove(t, file); err != nil {
			return err
		}
	}
	return nil
}

// foreign says whether a file is there and is not the run's own.
func foreign(t *Target, file string, own func(data []byte) bool) (bool, error) {
	there, err := t.Host.FS.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("cannot read %s: %w", file, err)
	}
	return !own(there), nil
}

func (p *PutCertificate) Done(_ context.Context, t *Target) (bool, error) {
	for i := range p.New {
		if exists(t, p.from()[i]) || !exists(t, p.to()[i]) {
			return false, nil
		}
	}
	now, err := sums(t, p.to())
	if err != nil || now != p.New {
		return false, err
	}
	return true, errors.Join(settleWritten(t, p.to()[1]), settleWritten(t, p.to()[0]), syncDirs(t, p.From))
}

func (p *PutCertificate) FilesOnly() bool { return true }

// PlaceManifest writes a manifest into the static-pod directory, where there is none of its name. The kubelet runs it from there, if it runs.
type PlaceManifest struct {
	Path string    `json:"path"`
	Data []byte    `json:"data"`
	Attr node.Attr `json:"attr"`
	// Pod is what the kubelet makes of it, and is ended before the manifest is taken away again. Without a name nothing is known to run here.
	Pod     Pod           `json:"pod"`
	Timeout time.Duration `json:"timeout"` // for it to end
	// Enrolment is that of the member which the manifest starts, where it joins a cluster: it leaves the cluster before its etcd is stopped. One that had got its vote
	// meanwhile would otherwise be missed: of two members, both are the quorum.
	Enrolment *Enrolment `json:"enrolment,omitempty"`
}

func (m *PlaceManifest) String() string { return "write " + m.Path }

// Record makes sure that it is not there: what is there later is the run's own.
func (m *PlaceManifest) Record(_ context.Context, t *Target) error {
	if exists(t, m.Path) {
		return fmt.Errorf("cannot write %s: it has turned up since the run was planned", m.Path)
	}
	return nil
}

func (m *PlaceManifest) Do(_ context.Context, t *Target) error {
	there, err := t.Host.FS.ReadFile(m.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return node.WriteNew(t.Host.FS, m.Path, m.Data, m.Attr)
	case err != nil:
		return fmt.Errorf("cannot read %s: %w", m.Path, err)
	case !bytes.Equal(there, m.Data):
		return fmt.Errorf("cannot write %s: somebody else has put another file there", m.Path)
	}
	return settleWritten(t, m.Path)
}

// Undo takes away no manifest that is not the run's own: whoever has changed it wants it to run, with the data and the certificates that would be taken away next.
func (m *PlaceManifest) Undo(ctx context.Context, t *Target) error {
	there := exists(t, path.Dir(m.Path))
	if there {
		if err := errors.Join(node.DropTemp(t.Host.FS, m.Path), m.own(t)); err != nil {
			return err
		}
	}
	if m.Enrolment != nil {
		if err := m.Enrolment.leave(ctx, t); err != nil {
			return err
		}
	}
	if !there {
		return nil
	}
	if m.Pod.Name != "" && exists(t, m.Path) {
		if err := endPod(ctx, t, m.Pod, m.Timeout); err != nil {
			return err
		}
		if err := m.own(t); err != nil { // that has taken its time
			return err
		}
	}
	return remove(t, m.Path)
}

func (m *PlaceManifest) own(t *Target) error {
	theirs, err := foreign(t, m.Path, func(data []byte) bool { return bytes.Equal(data, m.Data) })
	if theirs {
		return fmt.Errorf("cannot take %s away: somebody else has changed it, or put it there, since the run began; move it out of the directory first", m.Path)
	}
	return err
}

// endPod stops the kubelet, so that nothing is started again, and ends the pod's containers.
func endPod(ctx context.Context, t *Target, pod Pod, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := stopKubelet(ctx, t); err != nil {
		return err
	}
	return Fence{Timeout: limit}.stopContainers(ctx, t, []Pod{pod})
}

func (m *PlaceManifest) Done(_ context.Context, t *Target) (bool, error) {
	there, err := t.Host.FS.ReadFile(m.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !bytes.Equal(there, m.Data) {
		return false, err
	}
	return true, settleWritten(t, m.Path)
}

func (m *PlaceManifest) FilesOnly() bool { return m.Pod.Name == "" }

// ClaimData makes the directory of a new member's data. When the run goes back, what an etcd of the run has written there by then is not deleted, but kept.
type ClaimData struct {
	Dir  string    `json:"dir"`
	Attr node.Attr `json:"attr"`
	Keep string    `json:"keep"` // where Dir/member goes then, on the same mount
	// Pod is etcd's, which is ended first. Without a name nothing is known to run here, and what is in the directory is left there.
	Pod     Pod           `json:"pod"`
	Timeout time.Duration `json:"timeout"` // for it to end

	NoDir    bool `json:"noDir"`    // there was no directory
	NoMember bool `json:"noMember"` // there was no data in it
}

func (c *ClaimData) String() string {
	return "make the data directory " + c.Dir + ", if it is not there"
}

func (c *ClaimData) member() string { return path.Join(c.Dir, "member") }

// Record notes what there was.
func (c *ClaimData) Record(_ context.Context, t *Target) error {
	c.NoDir, c.NoMember = !exists(t, c.Dir), !exists(t, c.member())
	return nil
}

func (c *ClaimData) Do(_ context.Context, t *Target) error {
	if err := t.Host.FS.Mkdir(c.Dir, c.Attr); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make the data directory %s: %w", c.Dir, err)
	}
	return syncDirs(t, c.Dir)
}

func (c *ClaimData) Undo(ctx context.Context, t *Target) error {
	switch mine := c.Pod.Name != "" && c.NoMember; {
	case mine && exists(t, c.member()):
		if err := c.moveAside(ctx, t); err != nil {
			return err
		}
	case mine && exists(t, c.Keep) && exists(t, c.Dir): // moved by an earlier try, which may not have got to the sync
		if err := syncDirs(t, c.Keep, c.member()); err != nil {
			return err
		}
	}
	if !c.NoDir {
		return nil
	}
	made := MakeDirectory{Path: c.Dir, Attr: c.Attr}
	return made.Undo(ctx, t)
}

// moveAside needs a stopped kubelet, so that nothing is started again, and an etcd that has ended. The kubelet is started when the run has gone back.
func (c *ClaimData) moveAside(ctx context.Context, t *Target) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	f := Fence{DataDirs: []string{c.Dir}, Databases: []string{path.Join(c.member(), "snap/db")}, Timeout: c.Timeout}
	if err := endPod(ctx, t, c.Pod, c.Timeout); err != nil {
		return err
	}
	if err := f.proveUnused(ctx, t); err != nil {
		return err
	}
	unlock, err := f.lock(t)
	if err != nil {
		return err
	}
	err = node.MkdirAll(t.Host.FS, path.Dir(c.Keep), node.Mine(0o700))
	if err == nil {
		err = node.Move(t.Host.FS, c.member(), c.Keep)
	}
	if err == nil {
		t.report("what etcd has written is kept as %s", c.Keep)
	}
	return errors.Join(err, unlock())
}

func (c *ClaimData) Done(_ context.Context, t *Target) (bool, error) {
	if !exists(t, c.Dir) {
		return false, nil
	}
	return true, syncDirs(t, c.Dir)
}

func (c *ClaimData) FilesOnly() bool { return c.Pod.Name == "" }

// KeepKubelet has the kubelet running again when the run has gone back, as it ran before: on the way back it must be stopped for a while.
type KeepKubelet struct{}

func (k *KeepKubelet) String() string { return "(on the way back: start the kubelet again)" }

func (k *KeepKubelet) Do(context.Context, *Target) error           { return nil }
func (k *KeepKubelet) Undo(ctx context.Context, t *Target) error   { return startKubelet(ctx, t) }
func (k *KeepKubelet) Done(context.Context, *Target) (bool, error) { return true, nil }
