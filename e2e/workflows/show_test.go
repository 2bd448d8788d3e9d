package workflows

import (
	"bufio"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/leash"
	"github.com/etcdpod/etcdpod/e2e/sandbox"
	"github.com/etcdpod/etcdpod/e2e/schema"
)

// What the terminal of a run shows, another one shows, too, from the beginning to the end.
func TestARunIsFollowedFromAnotherTerminal(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.change()
	restore, err := n.EtcdpodCommand(n.ctx, "restore", b.file, "--yes", "-o", "json")
	must(t, err)
	follow, err := n.EtcdpodCommand(n.ctx, "runs", "show", "--follow", "-o", "json")
	must(t, err)
	out, err := follow.StdoutPipe()
	must(t, err)
	lines := bufio.NewReader(out)
	var followed, shown []string
	finished := func(line string, list *[]string) {
		var e event
		decode(t, line, &e)
		if e.State == "finished" {
			*list = append(*list, e.Phase+" "+e.Operation)
		}
	}
	err = leash.Run(restore, &restore.Stdout, func(line string) {
		if finished(line, &shown); len(shown) != 2 || follow.Process != nil {
			return
		}
		must(t, follow.Start())
		for len(followed) < 1 { // the run waits meanwhile: it is followed while it is under way
			line, err := lines.ReadString('\n')
			must(t, err)
			finished(line, &followed)
		}
	})
	must(t, err)
	last, all := "", ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		finished(line, &followed)
		last, all = line, all+line
	}
	must(t, follow.Wait())
	must(t, schema.Check(follow.Args, all, "", 0))
	if len(shown) < 5 || !slices.Equal(followed, shown) {
		t.Errorf("the run shows\n%s\nand who follows it\n%s", strings.Join(shown, "\n"), strings.Join(followed, "\n"))
	}
	var result struct {
		Result struct{ State string }
	}
	if err := json.Unmarshal([]byte(last), &result); err != nil || result.Result.State != "completed" {
		t.Errorf("it ends with %v, %s", err, last)
	}
}

func TestWhatARunDidIsShownWhateverBecameOfIt(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.want(5, []string{"runs", "show"}, "nothing was run on this node yet")
	n.killWhen(atOperation("exchange "), "restore", b.file, "--yes")
	run := n.open()
	n.untouched(func() {
		n.want(3, []string{"runs", "show", "--follow"}, run.ID+": open", "etcdpod resume")
		n.want(0, []string{"runs", "show", run.ID[len(run.ID)-4:]}, "restore "+b.file, "exchange-data")
	})
	n.done("rollback")
	n.want(1, []string{"runs", "show", run.ID, "--follow"}, ": rolled back", "because rolled back as "+
		"requested", "undone ")
	n.want(5, []string{"runs", "show", "nowhere"}, "there is no run nowhere on this node")
}
