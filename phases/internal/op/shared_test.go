package op_test

import (
	"context"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
)

// People edit manifests and certificates at any moment, also between the look of an operation and
// its rename. What they have saved last is in its place afterwards, however the operation ends.

const edit = "edited by somebody else"

// edits are the ways in which a program saves a file.
func edits() map[string]func(*sim.Machine, string) {
	return map[string]func(*sim.Machine, string){
		"in place":       func(m *sim.Machine, file string) { m.Write(file, edit) },
		"by a new inode": func(m *sim.Machine, file string) { m.TakeAway(file); m.Write(file, edit) },
	}
}

// sharedFiles are the files of an operation that others edit too.
func sharedFiles(o op.Op) []string {
	switch o := o.(type) {
	case *op.PutBackManifest:
		return []string{o.Path}
	case *op.WriteManifest:
		return []string{o.Path}
	case *op.ReplaceManifest:
		return []string{o.Path}
	case *op.TakeOutManifest:
		return []string{o.From}
	case *op.ReplaceCertificate:
		return []string{o.Cert, o.Key}
	case *op.PutCertificate:
		return []string{o.To + ".crt", o.To + ".key"}
	}
	return nil
}

func TestAnEditAtAnyMomentIsNeitherOverwrittenNorDeleted(t *testing.T) {
	for _, c := range cuttings() {
		m, _, o := c.begin(t, true)
		if m.NoExchange {
			continue // docs/failure-model.md says so
		}
		for _, file := range sharedFiles(o) {
			t.Run(c.name+" "+file, func(t *testing.T) {
				plays := 0
				for how, save := range edits() {
					for _, p := range []play{
						{"done, killed, done again", forward, (*sim.Machine).Revive, doAgain},
						{"done, killed, undone", forward, (*sim.Machine).Revive, undo},
						{"done, the power lost, done again", forward, losePower, doAgain},
						{"done, the power lost, undone", forward, losePower, undo},
						{"undone, killed, undone", thereAndBack, (*sim.Machine).Revive, undo},
						{"undone, the power lost, undone", thereAndBack, losePower, undo},
					} {
						plays += c.edited(t, file, how, save, p)
					}
				}
				t.Logf("%d plays", plays)
				if plays == 0 {
					t.Error("nobody edited anything")
				}
			})
		}
	}
}

type play struct {
	name  string
	first func(context.Context, op.Op, *op.Target) error
	crash func(*sim.Machine)
	then  func(context.Context, op.Op, *op.Target) error
}

func losePower(m *sim.Machine) { m.PowerLoss(sim.DropUnsynced, nil) }

func undo(ctx context.Context, o op.Op, t *op.Target) error { return o.Undo(ctx, t) }

func doAgain(ctx context.Context, o op.Op, t *op.Target) error {
	done, err := o.Done(ctx, t)
	if err == nil && !done {
		err = o.Do(ctx, t)
	}
	return err
}

// edited lets somebody save a file before each step, and cuts the operation off nowhere, and then
// at each later step.
func (c cutting) edited(t *testing.T, file, how string, save func(*sim.Machine, string), p play) (plays int) {
	t.Helper()
	for at := 1; ; at++ {
		for cut := 0; ; cut++ {
			m, target, o := c.begin(t, false)
			acted := false
			m.Meddle(at, func() { acted = true; save(m, file) })
			if cut > 0 {
				m.CrashAt = at + cut
			}
			first := p.first(t.Context(), o, target)
			if !acted {
				return plays
			}
			plays++
			crashed := m.Crashed()
			var then error
			if crashed {
				p.crash(m)
				then = p.then(t.Context(), o, target)
			}
			if now := string(m.Peek(file)); now != edit {
				t.Errorf("%s; saved %s before step %d, cut off at %d: it is %q; %v, then %v\n%s",
					p.name, how, at, m.CrashAt, now, first, then, m.Look())
			}
			if cut > 0 && !crashed {
				break
			}
		}
	}
}

// A directory may be gone by the time a run goes back: `kubeadm reset`, or rm -rf /etc/kubernetes.
func TestWithTheDirectoryGoneThereIsNothingToRemove(t *testing.T) {
	for _, c := range cuttings() {
		_, _, o := c.begin(t, true)
		dir := path.Dir(append(sharedFiles(o), "")[0])
		switch o.(type) {
		case *op.WriteManifest, *op.PutCertificate, *op.PutBackManifest, *op.ReplaceManifest, *op.ReplaceCertificate:
		default:
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			m, target, o := c.begin(t, true)
			if err := o.Do(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			for _, file := range m.Holds("") {
				if strings.HasPrefix(file, dir+"/") {
					m.TakeAway(file)
				}
			}
			m.TakeAway(dir)
			if err := o.Undo(t.Context(), target); err != nil {
				t.Errorf("it cannot be undone: %v", err)
			}
		})
	}
}

// Somebody removes a file at any moment. Where another copy of the old one was there by then, one
// stays; and the run can be undone, or says what to copy back.
func TestAFileThatSomebodyRemovesIsNotLostWhereThereIsACopy(t *testing.T) {
	plays, refused := 0, 0
	for _, c := range cuttings() {
		_, _, o := c.begin(t, true)
		switch o.(type) {
		case *op.ReplaceManifest, *op.ReplaceCertificate:
		default:
			continue
		}
		for _, file := range sharedFiles(o) {
			for _, crash := range []func(*sim.Machine){(*sim.Machine).Revive, losePower} {
				for at := 1; ; at++ {
					played, copied := c.removed(t, file, at, crash)
					if played == 0 {
						break
					}
					plays, refused = plays+played, refused+copied
				}
			}
		}
	}
	t.Logf("%d plays, %d of them ask for a copy", plays, refused)
	if plays == 0 || refused == 0 {
		t.Error("nothing was removed")
	}
}

// removed lets somebody remove a file before a step, and cuts the operation off nowhere, and then
// at each later step; in refused of the plays it cannot be undone before a file is copied back.
func (c cutting) removed(t *testing.T, file string, at int, crash func(*sim.Machine)) (plays, refused int) {
	t.Helper()
	for cut := 0; ; cut++ {
		m, target, o := c.begin(t, false)
		old, acted, copies := string(m.Peek(file)), false, 0
		m.Meddle(at, func() {
			acted = true
			m.TakeAway(file)
			for _, name := range m.Holds(old) {
				if !strings.HasSuffix(name, ".etcdpod") { // which may be half a copy
					copies++
				}
			}
		})
		if cut > 0 {
			m.CrashAt = at + cut
		}
		_ = o.Do(t.Context(), target)
		if !acted {
			return plays, refused
		}
		plays++
		crashed := m.Crashed()
		if m.CrashAt = 0; crashed {
			crash(m)
		}
		err := o.Undo(t.Context(), target)
		if err != nil {
			refused++
		}
		if copies > 0 && len(m.Holds(old)) == 0 || err != nil && !strings.Contains(err.Error(), "copy") {
			t.Errorf("%s: %s removed before step %d, cut off %d later: %v\n%s", c.name, file, at, cut, err, m.Look())
		}
		if cut > 0 && !crashed {
			return plays, refused
		}
	}
}

// A certificate and its key belong together: somebody who has changed one or both of them after the
// run did is not left with a pair of two halves.
func TestUndoingACertificateLeavesNoHalfPair(t *testing.T) {
	c := cuttings()[slices.IndexFunc(cuttings(), func(c cutting) bool { return c.name == "replace-certificate" })]
	for _, tt := range []struct {
		name      string
		edited    []string
		cut       string // the step at which Do is killed; empty: it is not
		cert, key string // afterwards
		open      bool
	}{
		{"the certificate, after both were replaced", []string{"/pki/server.crt"}, "", edit, "key new", true},
		{"the key, after both were replaced", []string{"/pki/server.key"}, "", "cert new", edit, true},
		{"both, after both were replaced", []string{"/pki/server.crt", "/pki/server.key"}, "", edit, edit, false},
		{"both, after the key was replaced", []string{"/pki/server.crt", "/pki/server.key"},
			"exchange /pki/server.crt", edit, edit, false},
		{"the certificate, after the key was replaced", []string{"/pki/server.crt"}, "exchange /pki/server.crt",
			edit, "key old", false},
		{"none", nil, "exchange /pki/server.crt", "cert old", "key old", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, target, o := c.begin(t, true)
			m.Before = func(call string) {
				if tt.cut != "" && strings.HasPrefix(call, tt.cut) {
					m.Before = nil
					m.Kill()
				}
			}
			if err := o.Do(t.Context(), target); (err != nil) != (tt.cut != "") {
				t.Fatal(err)
			}
			m.Before = nil
			if m.Crashed() {
				m.Revive()
			}
			for _, file := range tt.edited {
				m.Write(file, edit)
			}
			err := o.Undo(t.Context(), target)
			if cert, key := string(m.Peek("/pki/server.crt")), string(m.Peek("/pki/server.key")); cert != tt.cert ||
				key != tt.key || (err != nil) != tt.open {
				t.Fatalf("it is %q with %q: %v", cert, key, err)
			}
			if !tt.open {
				return
			}
			for _, end := range []string{".crt", ".key"} { // as the error says
				m.Write("/pki/server"+end, string(m.Peek(runDir+"/old/server"+end)))
			}
			if err := o.Undo(t.Context(), target); err != nil {
				t.Errorf("after the old pair was copied back: %v", err)
			}
		})
	}
}

// What lies beside a file before a run has begun did not come from it.
func TestWhatLiesBesideAFileBeforeARunIsNotPutInItsPlace(t *testing.T) {
	for _, c := range cuttings() {
		m, target, o := c.begin(t, true)
		for _, file := range sharedFiles(o) {
			if back, ok := o.(*op.PutBackManifest); ok {
				back.Alone = true // past the commit point nothing is put beside it
			}
			beside := path.Join(path.Dir(file), "."+path.Base(file)+".etcdpod-swap")
			m.Write(beside, "from a backup of the directory")
			r, records := o.(op.Recorder)
			if !records {
				t.Errorf("%s does not look", c.name)
				continue
			}
			if err := r.Record(t.Context(), target); err == nil || !strings.Contains(err.Error(), beside) {
				t.Errorf("%s: it says %v", c.name, err)
			}
			m.TakeAway(beside)
		}
	}
}

// Of two edits either may lie beside the file, by the instant at which an attempt was killed.
func TestOfTwoEditsNoneIsCalledTheLater(t *testing.T) {
	c := cuttings()[slices.IndexFunc(cuttings(), func(c cutting) bool { return c.name == "replace-manifest" })]
	m, target, o := c.begin(t, true)
	file := o.(*op.ReplaceManifest).Path
	beside := path.Join(path.Dir(file), "."+path.Base(file)+".etcdpod-swap")
	m.Write(file, "one edit")
	m.Write(beside, "another")
	err := o.Undo(t.Context(), target)
	if err == nil || !strings.Contains(err.Error(), beside) || strings.Contains(err.Error(), "later") {
		t.Errorf("it says %v", err)
	}
	if string(m.Peek(file)) != "one edit" || string(m.Peek(beside)) != "another" {
		t.Error("an edit was moved")
	}
}

// The old manifest may be taken away from where the run keeps it: then it cannot be put back.
func TestAReplacedManifestWhoseOldOneIsGoneIsNotCalledTheirs(t *testing.T) {
	c := cuttings()[slices.IndexFunc(cuttings(), func(c cutting) bool { return c.name == "replace-manifest" })]
	m, target, o := c.begin(t, true)
	if err := o.Do(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	m.TakeAway(o.(*op.ReplaceManifest).Kept)
	if err := o.Undo(t.Context(), target); err == nil || !strings.Contains(err.Error(), "was kept as") {
		t.Errorf("it says %v", err)
	}
}

// On a real disk: a link stays, what it leads to is exchanged, and nothing is left beside it.
func TestALinkStaysAndWhatItLeadsToIsReplaced(t *testing.T) {
	disk := node.OS(t.TempDir())
	for _, dir := range []string{"/etc/manifests", "/etc/store", "/run"} {
		if err := node.MkdirAll(disk, dir, node.Mine(0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.Create("/etc/store/api.yaml", []byte("old"), node.Mine(0o640)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../store/api.yaml", disk.Real("/etc/manifests/api.yaml")); err != nil {
		t.Fatal(err)
	}
	o := &op.ReplaceManifest{Path: "/etc/manifests/api.yaml", Data: []byte("new"), Old: sim.Sum([]byte("old")),
		Kept: "/run/api.yaml"}
	target := &op.Target{Host: &node.Host{FS: disk}}
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return o.Record(t.Context(), target) }, "old"},
		{func() error { return o.Do(t.Context(), target) }, "new"},
		{func() error { return o.Undo(t.Context(), target) }, "old"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		got, err := disk.ReadFile("/etc/store/api.yaml")
		if err != nil || string(got) != step.want {
			t.Errorf("it holds %q, %v, and not %q", got, err, step.want)
		}
		st, err := disk.Lstat("/etc/store/api.yaml")
		if err != nil || st.Mode.Perm() != 0o640 {
			t.Errorf("its mode is %v, %v", st.Mode, err)
		}
		for dir, n := range map[string]int{"/etc/manifests": 1, "/etc/store": 1} {
			if names, err := disk.ReadDir(dir); err != nil || len(names) != n {
				t.Errorf("in %s there are %v, %v", dir, names, err)
			}
		}
	}
	if to, err := os.Readlink(disk.Real("/etc/manifests/api.yaml")); err != nil || to != "../store/api.yaml" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}
