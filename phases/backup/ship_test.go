package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

const (
	shareA, shareB = "/mnt/a", "/mnt/b"
	toA, toB       = "file://" + shareA, "file://" + shareB
)

// shipCases send backups to directories of the simulated disk.
func shipCases() []backupCase {
	return []backupCase{
		{"to one target", Options{Dir: "/backups", To: []string{toA}, Away: true, EncryptTo: []string{testRecipient}},
			3, 3},
		{"by a rule", Options{Dir: "/backups", To: []string{toA}, Away: true, EncryptTo: []string{testRecipient},
			SignKey: SignKey, Rules: KeepRules{Last: 2}}, 3, 3},
		{"to two targets and a directory", Options{Dir: "/backups", To: []string{toA, toB},
			EncryptTo: []string{testRecipient}}, 4, 3},
	}
}

func newShipWorld(t *testing.T, c backupCase) *backupWorld {
	t.Helper()
	w := newBackupWorld(t, c)
	for _, share := range []string{shareA, shareB} {
		err := node.MkdirAll(w.Machine.Disk, share, node.Mine(0o700))
		if err == nil {
			err = w.Machine.Disk.Create(share+"/etcdpod-target", nil, node.Mine(0o600))
		}
		for _, name := range []string{share + "/etcdpod-target", share, "/mnt", "/"} {
			err = errors.Join(err, w.Machine.Disk.Sync(name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// send takes a backup with real targets on the simulated disk, as far as wrap does not change them.
func (w *backupWorld) send(o Options, wrap func(op.Store) op.Store) (Made, error) {
	w.Process.Stores = wrapped{bind.NewStores(w.Process.Host.FS), wrap}
	return Take(context.Background(), w.Process.Node, w.workflow(o).On(w.Process.Look), func(engine.Plan) error {
		return nil
	})
}

type wrapped struct {
	op.Stores
	wrap func(op.Store) op.Store
}

func (s wrapped) Dial(ctx context.Context, url string) (op.Store, error) {
	store, err := s.Stores.Dial(ctx, url)
	if err == nil && s.wrap != nil {
		store = s.wrap(store)
	}
	return store, err
}

// sent counts the backups in a target, and holds each to being whole; more is what is there beside.
func (w *backupWorld) sent(share string) (whole int, more []string, err error) {
	dirs, _ := w.Machine.ReadDir(share)
	for _, dir := range dirs {
		if dir == "etcdpod-target" {
			continue
		}
		names, err := w.Machine.ReadDir(path.Join(share, dir))
		if err != nil {
			return 0, nil, err
		}
		for _, name := range names {
			if !op.IsBackup(name) || strings.HasPrefix(name, ".") {
				backup, _, _ := strings.Cut(name, ".json")
				if strings.HasSuffix(name, ".json") && !slices.Contains(names, backup) {
					return 0, nil, fmt.Errorf("%s counts, and its data is not there", name)
				}
				if strings.HasPrefix(name, ".") || !slices.Contains(names, backup) {
					more = append(more, name)
				}
				continue
			}
			n, err := w.sealedBackup(path.Join(share, dir, name))
			if err != nil {
				return 0, nil, err
			}
			if whole += n; n == 0 {
				more = append(more, name)
			}
		}
	}
	return whole, more, nil
}

// A backup that is stopped anywhere on its way is in a target wholly, or does not count there; the
// next one ends well, and leaves nothing of it.
func TestABackupKilledOnItsWayIsWholeOrDoesNotCount(t *testing.T) {
	for _, c := range shipCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// Each step is stopped in one of the ways; in the full matrix in all of them.
			ways := crashtest.Crashes()
			for i, how := range ways {
				at, by := 1+i, len(ways)
				if os.Getenv("ETCDPOD_MATRIX") == "full" {
					at, by = 1, 1
				}
				for ; ; at += by {
					w := newShipWorld(t, c)
					for range w.options.Rules.Last { // there are as many as stay
						if _, err := w.send(c.options, nil); err != nil {
							t.Fatal(err)
						}
						w.Restart()
					}
					w.Machine.CrashAt = w.Machine.Steps + at
					_, err := w.send(c.options, nil)
					if !w.Machine.Crashed() {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					call := w.Machine.Calls[len(w.Machine.Calls)-1]
					how.After(w.Node, w.Machine.CrashAt)
					w.Restart()
					if err := w.afterStop(); err != nil {
						t.Fatalf("%s at step %d, %q: %v", how.Name, at, call, err)
					}
				}
				if at < 40 {
					t.Errorf("%s: only %d steps", how.Name, at)
				}
			}
		})
	}
}

func (w *backupWorld) afterStop() error {
	before := map[string]int{}
	for _, url := range w.options.To {
		share := strings.TrimPrefix(url, "file://")
		whole, _, err := w.sent(share)
		if err != nil {
			return fmt.Errorf("in %s: %w", share, err)
		}
		if before[share] = whole; whole < w.options.Rules.Last {
			return fmt.Errorf("%s has only %d backups", share, whole)
		}
	}
	if _, err := w.backups(); err != nil {
		return err
	}
	made, err := w.send(w.options, nil)
	if err != nil {
		return fmt.Errorf("the next backup: %w", err)
	}
	if len(made.Grave()) > 0 {
		return fmt.Errorf("the next backup: %v", made.Grave())
	}
	w.Machine.PowerLoss(sim.DropUnsynced, rand.New(rand.NewPCG(1, 1)))
	if left := append(w.plainLeft(), w.hidden()...); len(left) > 0 {
		return fmt.Errorf("left on the node: %v", left)
	}
	for share, n := range before {
		whole, more, err := w.sent(share)
		want := n + 1
		if last := w.options.Rules.Last; last > 0 {
			want = min(want, last)
		}
		if err != nil || whole != want || len(more) > 0 {
			return fmt.Errorf("%s has %d backups, and had %d; beside them %v; %v", share, whole, n, more, err)
		}
	}
	return nil
}

// lying is a target that does something else than it says.
type lying struct {
	op.Store
	flip, cut, refuse bool
	part              string // of the names that it lies about
}

func (l lying) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := l.Store.Open(ctx, name)
	if err != nil || !strings.HasSuffix(name, l.part) || !l.flip && !l.cut {
		return r, err
	}
	data, err := io.ReadAll(r)
	if l.flip {
		data[len(data)/2] ^= 1
	} else {
		data = data[:len(data)/2]
	}
	return io.NopCloser(bytes.NewReader(data)), errors.Join(err, r.Close())
}

func (l lying) Put(ctx context.Context, name string, r io.Reader) error {
	if l.refuse && strings.HasSuffix(name, l.part) {
		return errors.New("the store does not allow it")
	}
	return l.Store.Put(ctx, name, r)
}

func TestATargetThatDoesNotReturnWhatWasSentHasNoBackup(t *testing.T) {
	for name, l := range map[string]lying{
		"a byte is flipped":             {flip: true, part: ".age"},
		"the end is missing":            {cut: true, part: ".age"},
		"the sidecar is another":        {flip: true, part: ".json"},
		"the signature is another":      {flip: true, part: ".sig"},
		"the data is refused":           {refuse: true, part: ".age"},
		"the sidecar is refused":        {refuse: true, part: ".json"},
		"the signature is refused":      {refuse: true, part: ".sig"},
		"everything is refused, or lie": {refuse: true},
	} {
		t.Run(name, func(t *testing.T) {
			one, both := shipCases()[0], shipCases()[2]
			w := newShipWorld(t, one)
			lies := func(s op.Store) op.Store { l := l; l.Store = s; return l }
			_, err := w.send(one.options, lies)
			if err == nil || !strings.Contains(err.Error(), "no target has the backup") {
				t.Errorf("alone: %v", err)
			}
			if whole, _, err := w.sent(shareA); whole != 0 || err != nil {
				t.Errorf("%d count, %v", whole, err)
			}
			// The other target and the directory have it all the same.
			w = newShipWorld(t, both)
			made, err := w.send(both.options, func(s op.Store) op.Store {
				if s.String() == toA {
					return lies(s)
				}
				return s
			})
			if err != nil || len(made.Grave()) != 1 || made.Grave()[0].Code != finding.BackupNotSent ||
				made.Targets[0].Proven || !made.Targets[1].Proven {
				t.Fatalf("%+v, %v", made, err)
			}
			a, _, errA := w.sent(shareA)
			b, _, errB := w.sent(shareB)
			here, err := w.backups()
			if a != 0 || b != 1 || here != 4 || errors.Join(errA, errB, err) != nil {
				t.Errorf("%d, %d and %d; %v, %v, %v", a, b, here, errA, errB, err)
			}
		})
	}
}

// A target that is not mounted is named before etcd is asked for anything.
func TestATargetThatIsNotThereIsNamedFirst(t *testing.T) {
	c := shipCases()[0]
	w := newBackupWorld(t, c)
	if err := node.MkdirAll(w.Machine.Disk, shareA, node.Mine(0o700)); err != nil {
		t.Fatal(err)
	}
	before := w.Machine.Look("/var/lib/etcdpod")
	_, err := w.send(c.options, nil)
	if err == nil || !strings.Contains(err.Error(), "nothing is mounted there") ||
		!strings.Contains(engine.Hint(err), "target check --create "+toA) {
		t.Errorf("%v; %s", err, engine.Hint(err))
	}
	if now := w.Machine.Look("/var/lib/etcdpod"); now != before {
		t.Errorf("it changed\n%s\ninto\n%s", before, now)
	}
}

func TestTargetsThatMakeNoSenseAreRefused(t *testing.T) {
	for says, o := range map[string]Options{
		"holds a password": {To: []string{"sftp://u:hunter22@host/dir"}},
		"twice":            {To: []string{"s3://b/p", "s3://b/p/?path-style=true"}},
		"works on a --dir": {To: []string{toA}, Away: true, Keep: 3},
	} {
		o.Dir = "/backups"
		var usage *engine.UsageError
		err := Workflow(o).Checked()
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), says) ||
			strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// far is the engine of a world with real targets.
func (w *backupWorld) far(wrap func(op.Store) op.Store) *engine.Node {
	w.Process.Stores = wrapped{bind.NewStores(w.Process.Host.FS), wrap}
	return w.Process.Node
}

func TestBackupsInTargetsAreListedAndFetched(t *testing.T) {
	c := shipCases()[0]
	c.options.SignKey = SignKey
	w := newShipWorld(t, c)
	made, err := w.send(c.options, nil)
	if err != nil {
		t.Fatal(err)
	}
	url := made.Targets[0].URL()
	if made.Path != url || !strings.HasPrefix(url, toA+"/1/etcd-cp1-") {
		t.Errorf("it is said to be at %s, and at %s", made.Path, url)
	}
	cut := path.Join(shareA, "1/etcd-cp2-20200101T000000Z-r9.db.zst.age")
	if err := w.Machine.Disk.Create(cut, []byte("half"), node.Mine(0o600)); err != nil {
		t.Fatal(err)
	}
	l, err := ListTargets(t.Context(), w.far(nil), []string{toA, toB})
	l.Add(Listing{})
	if err != nil || len(l.Entries) != 2 || !slices.Equal(l.Dirs, []string{toA, toB}) {
		t.Fatalf("%+v, %v", l, err)
	}
	good, half := l.Entries[0], l.Entries[1]
	if good.Path != url || !good.Whole || good.Note != "" || good.Signature != SignedTrusted ||
		good.Revision != simRevision {
		t.Errorf("the good one is %+v", good)
	}
	if half.Whole || !strings.Contains(half.Note, "does not count") || half.SHA256 != "" {
		t.Errorf("what was cut off is %+v", half)
	}
	fetch := func(f Fetching, wrap func(op.Store) op.Store) (Fetched, error) {
		return Fetch(t.Context(), w.far(wrap), f, func(int64, int64) {})
	}
	to := Fetching{URL: url, Dir: "/backups"}
	for says, l := range map[string]lying{"its SHA-256 is": {flip: true, part: ".age"},
		"cut off": {cut: true, part: ".age"}, "sidecar of": {cut: true, part: ".json"},
		"signature of": {flip: true, part: ".sig"}} {
		before := w.Machine.Look(journal.Home)
		_, err := fetch(to, func(s op.Store) op.Store { l := l; l.Store = s; return l })
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
		if now := w.Machine.Look(journal.Home); now != before {
			t.Errorf("%s: it changed\n%s\ninto\n%s", says, before, now)
		}
	}
	got, err := fetch(to, nil)
	if err != nil || got.Path != "/backups/"+path.Base(url) || got.Signature != SignedTrusted {
		t.Fatalf("%+v, %v", got, err)
	}
	if n, err := w.sealedBackup(got.Path); n != 1 || err != nil {
		t.Errorf("fetched is %d, %v", n, err)
	}
	if _, err := fetch(to, nil); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("once more: %v", err)
	}
	for says, f := range map[string]Fetching{
		"has no backup":             {URL: strings.Replace(url, "-r5", "-r6", 1), Dir: "/backups"},
		"needs the URL of a backup": {URL: toA, Dir: "/backups"}} {
		if _, err := fetch(f, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	// Nobody here trusts the key any more.
	if err := w.Machine.Disk.Remove(SignKey); err != nil {
		t.Fatal(err)
	}
	to.Dir = "/var"
	var refused *engine.RefusedError
	if _, err := fetch(to, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "nobody who is trusted") {
		t.Errorf("of an unknown signer: %v", err)
	}
	to.Unsigned = true
	if _, err := fetch(to, nil); err != nil {
		t.Error(err)
	}
}

// keeping is a target that keeps some names locked.
type keeping struct {
	op.Store
	locked string
}

func (k keeping) Delete(ctx context.Context, name string) error {
	if k.locked != "" && strings.Contains(name, k.locked) {
		return op.ErrObjectLocked
	}
	return k.Store.Delete(ctx, name)
}

// short lists nothing but the first name.
type short struct{ op.Store }

func (s short) List(ctx context.Context, prefix string) iter.Seq2[op.Object, error] {
	return func(yield func(op.Object, error) bool) {
		for o, err := range s.Store.List(ctx, prefix) {
			yield(o, err)
			return
		}
	}
}

func TestRulesDeleteOnlyWhatIsThisNodesAndCounts(t *testing.T) {
	o := Options{Dir: "/backups", To: []string{toA}, Away: true, EncryptTo: []string{testRecipient}, SignKey: SignKey}
	w := newShipWorld(t, backupCase{options: o})
	var sent []string
	send := func(wrap func(op.Store) op.Store) string {
		made, err := w.send(o, wrap)
		if err != nil {
			t.Fatal(err)
		}
		w.Restart()
		sent = append(sent, made.Targets[0].Name)
		return made.Targets[0].Name
	}
	for range 4 {
		send(nil)
	}
	read := func(name string) []byte {
		data, err := w.Machine.ReadFile(path.Join(shareA, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	// What is not this node's, or does not count, stays whatever its name says.
	others := map[string][]byte{}
	for _, suffix := range []string{"", ".json", ".json.sig"} {
		base := sent[0] + suffix
		for old, other := range map[string]string{"etcd-cp1-": "etcd-cp2-", "-cp1-": "-cp1-x-", "1/": "2/",
			"-r5": "-r4"} { // two other nodes, another cluster, and another backup
			others[strings.Replace(base, old, other, 1)] = read(base)
		}
	}
	forged := strings.Replace(sent[1], "-r5", "-r3", 1) // what nobody here has signed
	others[forged] = read(sent[1])
	others[forged+".json"] = bytes.ReplaceAll(read(sent[1]+".json"), []byte(path.Base(sent[1])),
		[]byte(path.Base(forged)))
	others[forged+".json.sig"] = read(sent[1] + ".json.sig")
	for name, data := range others {
		at := path.Join(shareA, name)
		err := node.MkdirAll(w.Machine.Disk, path.Dir(at), node.Mine(0o700))
		if err == nil {
			err = w.Machine.Disk.Create(at, data, node.Mine(0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	there := func(name string) bool {
		_, err := w.Machine.Lstat(path.Join(shareA, name))
		return err == nil
	}
	o.Rules = KeepRules{Last: 2}
	send(func(s op.Store) op.Store { return short{s} })
	for _, name := range sent {
		if !there(name) || !there(name+".json") {
			t.Fatalf("after a short list %s is gone", name)
		}
	}
	send(func(s op.Store) op.Store { return keeping{s, path.Base(sent[1])} })
	for i, name := range sent {
		stays := i == 1 || i >= len(sent)-2
		if there(name) != stays || there(name+".json") != stays || there(name+".json.sig") != stays {
			t.Errorf("%d, %s: it is there: %v", i, name, there(name))
		}
	}
	for name := range others {
		if !there(name) {
			t.Errorf("%s is gone", name)
		}
	}
}
