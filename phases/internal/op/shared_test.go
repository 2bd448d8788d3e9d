package op_test

import (
	"context"
	"testing"

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
		_, _, o := c.begin(t, true)
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
