package together

import (
	"context"
	"encoding/json"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// localLink asks the node that this process runs on.
type localLink struct {
	part *Participant
	*patient
}

// local is a link to this node; each event of it shows that something goes on.
func local(part *Participant) localLink {
	l := localLink{part, part.Node.here}
	alive := func(emit func(engine.Event)) func(engine.Event) {
		return func(e engine.Event) {
			l.lives()
			emit(e)
		}
	}
	part.Node = part.Node.telling(alive(part.Node.Emit))
	if part.Run != nil {
		part.Run.Emit = alive(part.Run.Emit)
	}
	return l
}

// answered is what came of a question.
type answered struct {
	out any
	err error
}

func (l localLink) Ask(ctx context.Context, question string, with, answer any, _ *Body) error {
	in, err := json.Marshal(with)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ask := func() (a answered) {
		a.err = engine.Guarded(func() (err error) {
			a.out, err = l.part.Answer(ctx, question, in, nil)
			return err
		})
		return a
	}
	a, limit := answered{}, l.part.patience(message{Ask: question, With: in})
	if l.part.Node.OneByOne { // in tests nodes act one after another
		a = ask()
	} else if a, err = patiently(l.patient, question, limit, ask); err != nil {
		return err
	}
	if a.err != nil || answer == nil {
		return a.err
	}
	data, err := json.Marshal(a.out)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, answer)
}

// Close gives up the node's lock, unless something still works there: only its end unlocks it.
func (l localLink) Close() error {
	if l.hung.Load() {
		return nil
	}
	return l.part.leave()
}
