package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sealed"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// ListTargets lists the backups in targets, whichever cluster and node they are of. It reads names,
// lengths, sidecars and signatures. An error comes with what could be listed in spite of it.
func ListTargets(ctx context.Context, n *engine.Node, urls []string) (Listing, error) {
	l := Listing{Entries: []Entry{}}
	for _, url := range urls {
		if err := checkTarget(url); err != nil {
			return l, err
		}
	}
	trust, err := trusted(n.Host.FS, "")
	for _, url := range urls {
		l.Dirs = append(l.Dirs, bind.TargetName(url))
		found, failed := listTarget(ctx, n, url, trust)
		l.Entries, err = append(l.Entries, found...), cmp.Or(err, failed)
	}
	return l, err
}

// Add puts what another place has into one list.
func (l *Listing) Add(other Listing) {
	l.Dirs, l.Entries = append(l.Dirs, other.Dirs...), append(l.Entries, other.Entries...)
	slices.SortStableFunc(l.Entries, func(a, b Entry) int {
		return cmp.Or(b.TakenAt.Compare(a.TakenAt), strings.Compare(b.Path, a.Path))
	})
}

func listTarget(ctx context.Context, n *engine.Node, url string, trust []sealed.Trusted) ([]Entry, error) {
	store, err := n.Stores.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	there := map[string]op.Object{}
	var order []string
	for o, err := range store.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		there[o.Name], order = o, append(order, o.Name)
	}
	var found []Entry
	for _, name := range order {
		snapshot, isSidecar := strings.CutSuffix(name, ".json")
		_, whole := there[snapshot]
		_, described := there[op.SidecarOf(name)]
		switch {
		case op.IsBackup(path.Base(name)) && !described:
			e := Entry{Sidecar: Sidecar{Members: []observe.Member{}, Fingerprints: map[string]string{},
				TakenAt: there[name].Modified, SizeBytes: there[name].Size}}
			e.Path = store.String() + "/" + name
			e.odd(finding.SidecarMissing, "it does not count: it has no sidecar, as when it was cut off on its way")
			found = append(found, e)
		case isSidecar && op.IsBackup(path.Base(snapshot)):
			found = append(found, targetEntry(ctx, store, snapshot, there[snapshot], whole, trust))
		}
	}
	return found, ctx.Err()
}

// targetEntry describes one backup that has a sidecar.
func targetEntry(
	ctx context.Context, store op.StoreReader, name string, o op.Object, there bool, trust []sealed.Trusted,
) Entry {
	e := Entry{Sidecar: Sidecar{Members: []observe.Member{}, Fingerprints: map[string]string{}}}
	d, err := describedIn(ctx, store, name, trust)
	if err == nil {
		e.Sidecar, e.Signature, e.SignedBy = d.Sidecar.Sidecar, d.Signature.State, d.Signature.By
	}
	e.Path = store.String() + "/" + name
	switch {
	case err != nil:
		e.TakenAt, e.SizeBytes = o.Modified, o.Size
		e.odd(finding.SidecarUnreadable, "cannot read its sidecar: %v", err)
	case !there:
		e.odd(finding.SnapshotMissing, "only its sidecar exists")
	case o.Size != e.StoredBytes():
		e.odd(finding.SnapshotLength, "it has %d bytes, but its sidecar says %d", o.Size, e.StoredBytes())
	case d.Signature.State == SignedForged:
		e.odd(finding.BackupUntrusted, "its signature is wrong: %s", d.Signature.Reason)
	default:
		e.Whole = true
	}
	return e
}

// remote is what a target says of a backup, beside the backup itself.
type remote struct {
	Sidecar   op.SidecarFile
	Signature Signature

	data, sig []byte
}

// describedIn reads sidecar and signature of a backup in a target.
func describedIn(
	ctx context.Context, store op.StoreReader, name string, trust []sealed.Trusted,
) (*remote, error) {
	data, err := op.ReadObject(ctx, store, op.SidecarOf(name))
	if err != nil {
		return nil, err
	}
	s, err := op.ParseSidecar(data)
	if err != nil {
		return nil, err
	}
	if s.Sealed == nil || s.Sealed.Name != path.Base(name) {
		return nil, errors.New("it is that of another backup")
	}
	d := &remote{Sidecar: s, data: data}
	if d.sig, err = op.ReadObject(ctx, store, op.SignatureOf(name)); errors.Is(err, op.ErrNoObject) {
		d.Signature = Signature{State: SignedNot, Reason: "there is no signature"}
		return d, nil
	} else if err != nil {
		return nil, err
	}
	d.Signature = signed(data, d.sig, trust)
	return d, nil
}

// Fetching is what `fetch` is asked for.
type Fetching struct {
	URL string // of a backup in a target
	Dir string // host path
	Unsealing
}

// Fetched is a backup that was fetched from a target. The JSON names are stable.
type Fetched struct {
	Path      string `json:"path"` // on the node
	From      string `json:"from"`
	SizeBytes int64  `json:"sizeBytes"`
	SHA256    string `json:"sha256"` // hex, of the file
	Signature string `json:"signature" values:"trusted,untrusted,missing"`
	SignedBy  string `json:"signedBy,omitempty"`
}

// split parts the URL of a backup into that of its target, with the options, and its name.
func (f Fetching) split() (target, name string, err error) {
	whole, options, has := strings.Cut(f.URL, "?")
	rest, base := path.Split(whole)
	rest, cluster := path.Split(strings.TrimSuffix(rest, "/"))
	if !op.IsBackup(base) || cluster == "" || strings.HasSuffix(rest, "//") {
		return "", "", &engine.UsageError{Reason: "fetch needs the URL of a backup in a target, as `etcdpod backups " +
			"URL` lists it", Hint: "options of the target follow it: URL/CLUSTER/NAME?endpoint=…"}
	}
	if target = strings.TrimSuffix(rest, "/"); has {
		target += "?" + options
	}
	return target, cluster + "/" + base, checkTarget(target)
}

// Fetch fetches a backup, its sidecar and its signature into a directory. Nothing has its name
// there before the signature was checked, and the file is what the sidecar says.
func Fetch(
	ctx context.Context, n *engine.Node, f Fetching, progress func(done, total int64),
) (Fetched, error) {
	target, name, err := f.split()
	if err != nil {
		return Fetched{}, err
	}
	trust, err := trusted(n.Host.FS, f.Trust)
	if err != nil {
		return Fetched{}, err
	}
	store, err := n.Stores.Dial(ctx, target)
	if err != nil {
		return Fetched{}, err
	}
	defer store.Close()
	d, err := describedIn(ctx, store, name, trust)
	if errors.Is(err, op.ErrNoObject) {
		return Fetched{}, engine.Refuse("`etcdpod backups URL` lists what there is",
			"%s has no backup %s: %v", store, name, err)
	}
	if err != nil {
		return Fetched{}, fmt.Errorf("cannot read the sidecar of %s in %s: %w", name, store, err)
	}
	switch state := d.Signature.State; {
	case state == SignedForged:
		return Fetched{}, engine.Refuse("take another backup: somebody has changed this one",
			"the signature of %s in %s is wrong: %s", name, store, d.Signature.Reason)
	case state != SignedTrusted && !f.Unsigned &&
		(d.Sidecar.Sealed.Encryption != "" || strings.HasSuffix(name, sealed.Encrypted)):
		return Fetched{}, engine.Refuse(d.Signature.Hint(), "nobody who is trusted has signed %s in %s: %s", name,
			store, d.Signature.Reason)
	}
	at := path.Join(f.Dir, path.Base(name))
	if why, err := node.Exposed(n.Host.FS, observe.Nearest(n.Host.FS, f.Dir)); err != nil || why != "" {
		return Fetched{}, cmp.Or(err, engine.Refuse("use a directory that only root can write to",
			"cannot fetch a backup into %s, where others could replace it: %s", f.Dir, why))
	}
	if err := op.Fetch(ctx, n.Host.FS, store, name, at, d.data, d.sig, progress); err != nil {
		return Fetched{}, fmt.Errorf("cannot fetch %s from %s: %w", name, store, err)
	}
	s := d.Sidecar.Sealed
	return Fetched{Path: at, From: store.String() + "/" + name, SizeBytes: s.SizeBytes, SHA256: s.SHA256,
		Signature: d.Signature.State, SignedBy: d.Signature.By}, nil
}
