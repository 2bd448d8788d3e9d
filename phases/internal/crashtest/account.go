package crashtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/journal"
)

// Account sums up a journal, without times and names.
type Account struct {
	ID, Steps        string // Steps has one letter per step: its last record
	Phases           []int  // where each phase ends
	CommitAt         int
	Commit, Settle   bool
	Abort, End, Torn bool
}

// reading is a journal and its Account.
type reading struct {
	journal []byte
	account Account
}

// Read sums up a node's journal. It caches the last one: what is written never changes in place.
func (c *Cluster) Read(name string) Account {
	now, last := c.journal(name), c.accounts[name]
	if len(now) == 0 || len(now) != len(last.journal) || &now[0] != &last.journal[0] {
		last = reading{now, c.readAll(name, now)}
		c.accounts[name] = last
	}
	return last.account
}

// readAll must be fast: it runs at every record. It decodes only the first line as JSON, and only
// once.
func (c *Cluster) readAll(name string, written []byte) Account {
	first, rest, whole := bytes.Cut(written, []byte("\n"))
	if !whole {
		return Account{}
	}
	a, known := c.plans[name]
	if !known {
		var begun journal.Record
		if json.Unmarshal(first[9:], &begun) != nil {
			return Account{}
		}
		a = Account{ID: begun.Run.ID, CommitAt: begun.Run.CommitAt, Steps: strings.Repeat(".", len(begun.Run.Plan))}
		for i := range begun.Run.Plan {
			if i+1 == len(begun.Run.Plan) || begun.Run.Plan[i].Phase != begun.Run.Plan[i+1].Phase {
				a.Phases = append(a.Phases, i+1)
			}
		}
		c.plans[name] = a
	}
	steps := []byte(a.Steps)
	for line := range bytes.Lines(rest) {
		kind, after, ok := bytes.Cut(line[min(len(line), 18):], []byte(`"`))
		if !ok || !bytes.HasSuffix(line, []byte("\n")) {
			a.Torn = true
			break
		}
		switch journal.Kind(kind) {
		case journal.Commit:
			a.Commit = true
		case journal.Settle:
			a.Settle = true
		case journal.Abort:
			a.Abort = true
		case journal.End:
			a.End = true
		default:
			i := 0
			if _, number, ok := bytes.Cut(after[:min(len(after), 80)], []byte(`"step":`)); ok {
				number = number[:bytes.IndexAny(number, ",}")]
				i, _ = strconv.Atoi(string(number))
			}
			steps[i] = letters[journal.Kind(kind)]
		}
	}
	a.Steps = string(steps)
	return a
}

var letters = map[journal.Kind]byte{journal.Start: 's', journal.Finish: 'f', journal.Undo: 'u', journal.Undone: 'n'}

// Coarse is how far each phase got: one letter if all of its operations got equally far, "m" if
// not.
func (a Account) Coarse() string {
	var b strings.Builder
	fmt.Fprint(&b, a.Commit, a.Settle, a.Abort, a.End)
	from := 0
	for _, to := range a.Phases {
		if part := a.Steps[from:to]; strings.Trim(part, part[:1]) == "" {
			b.WriteString(part[:1])
		} else {
			b.WriteString("m")
		}
		from = to
	}
	return b.String()
}

// Begun says whether there is a run.
func (a Account) Begun() bool { return a.ID != "" }

// Done says whether all steps of the run are done.
func (a Account) Done() bool { return strings.Trim(a.Steps, "f") == "" }

// Reverted says whether nothing is left of the run, or there never was one.
func (a Account) Reverted() bool {
	return !a.Begun() || a.Abort && strings.Trim(a.Steps, ".n") == ""
}

// Key identifies the state: what is on the nodes and what runs there.
func (c *Cluster) Key() uint64 {
	h := fnv.New64a()
	for _, name := range c.Alive() {
		if _, ok := c.digests[name]; !ok {
			c.digests[name] = c.digest(name)
		}
		fmt.Fprintln(h, c.digests[name])
	}
	return h.Sum64()
}

func (c *Cluster) digest(name string) uint64 {
	a := c.Read(name)
	ran := []byte(a.ID)
	if len(ran) == 0 {
		ran = []byte("no run")
	}
	return c.Nodes[name].Machine.Digest(func(file string, data []byte) (string, []byte) {
		switch {
		case file == journal.Home+"/lock":
			return "", nil
		case path.Base(file) == "journal":
			data = fmt.Append(nil, a)
		}
		return strings.Replace(file, a.ID, "RUN", 1), bytes.ReplaceAll(data, ran, []byte("RUN"))
	})
}

// Judge checks a state against what the protocol rests on.
func (c *Cluster) Judge() error {
	if err := c.err(); err != nil {
		return err
	}
	all := map[string]Account{}
	some := Account{}
	for _, name := range c.Alive() {
		a := c.Read(name)
		all[name] = a
		some.Commit, some.Settle, some.Abort, some.End = some.Commit || a.Commit,
			some.Settle || a.Settle, some.Abort || a.Abort, some.End || a.End
	}
	for name, a := range all {
		switch {
		case strings.ContainsAny(a.Steps, "un") && !a.Abort:
			return fmt.Errorf("%s undoes, and has not recorded that it goes back", name)
		case some.Commit && !a.Abort && (!a.Begun() || strings.Trim(a.Steps[:a.CommitAt], "f") != ""):
			return fmt.Errorf("a node holds the commit record, and %s has not got that far", name)
		case some.Settle && (!a.Commit || a.Abort):
			return fmt.Errorf("a node is settled, and %s does not hold the commit record, or goes back", name)
		case some.End && !a.Reverted() && !(a.Settle && a.Done()):
			return fmt.Errorf("a run is closed, and %s is neither wholly done nor wholly back: %+v", name, a)
		}
	}
	return nil
}

// Settled says whether no run is open on any node.
func (c *Cluster) Settled() bool {
	return !slices.ContainsFunc(c.Alive(), func(name string) bool { a := c.Read(name); return a.Begun() && !a.End })
}
