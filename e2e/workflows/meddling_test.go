package workflows

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// meddle does something again and again until the test's own function returns.
func (n *node) meddle(with func(context.Context), while func()) {
	ctx, stop := context.WithCancel(n.ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			with(ctx)
			time.Sleep(100 * time.Millisecond)
		}
	})
	while()
	stop()
	done.Wait()
}

// TestARestoreIsWholeWhateverSomebodyElseKeepsDoing lets others work on the node
// all through a restore.
func TestARestoreIsWholeWhateverSomebodyElseKeepsDoing(t *testing.T) {
	for name, with := range map[string]func(*node, []byte) func(context.Context){
		"starting the kubelet": func(n *node, _ []byte) func(context.Context) {
			return func(ctx context.Context) { _ = n.StartKubelet(ctx) } // it is cut off at the end
		},
		"putting etcd's manifest back": func(n *node, manifest []byte) func(context.Context) {
			return func(context.Context) {
				temp := n.Path(sandbox.ManifestDir + "/.meddler")
				if os.WriteFile(temp, manifest, 0o600) == nil {
					_ = os.Rename(temp, n.Path(sandbox.ManifestDir+"/etcd.yaml"))
				}
			}
		},
		"killing etcd": func(n *node, _ []byte) func(context.Context) {
			return func(ctx context.Context) {
				time.Sleep(time.Second)
				_ = n.Kill(ctx, "etcd") // it may be down
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, sandbox.Options{MaxBackoff: 500 * time.Millisecond})
			b := n.backup()
			n.change()
			before := n.state()
			manifest, err := os.ReadFile(n.Path(sandbox.ManifestDir + "/etcd.yaml"))
			must(t, err)
			var result sandbox.Result
			n.meddle(with(n, manifest), func() {
				result = n.run("restore", b.file, "--yes", "--stop-timeout", "5s", "--wait-timeout", "10s")
			})
			t.Logf("the restore ended with %d: %s", result.Code, lastLineOf(result.Stderr))
			if result.Code == 3 { // before its commit point, behind it, or on the way back
				result = n.run("resume")
			}
			switch n.lastRun().State {
			case "completed":
				n.wantNew(b, before)
			case "rolled back":
				n.wantOld(before)
			default:
				t.Errorf("exit code %d, and the run is %+v: %s", result.Code, n.lastRun(), result.Stderr)
			}
		})
	}
}

func lastLineOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestAnEtcdThatHangsIsNotRestoredOverUnasked(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.change()
	before := n.state()
	c, _, err := n.Container(n.ctx, "etcd")
	must(t, err)
	must(t, syscall.Kill(c.PID, syscall.SIGSTOP))
	n.refused([]string{b.file}, "cannot be queried")
	n.want(6, []string{"status"})
	must(t, syscall.Kill(c.PID, syscall.SIGCONT))
	n.wantOld(before)
}

func TestAManifestThatWasEditedWhileARunIsOpenIsKept(t *testing.T) {
	n := start(t, sandbox.Options{})
	b := n.backup()
	n.change()
	before := n.state()
	n.killWhen(atOperation("exchange "), "restore", b.file, "--yes")
	run := n.lastRun()
	original, err := os.ReadFile(n.Path(run.Path + "/manifests/etcd.yaml"))
	must(t, err)
	edited := append([]byte("# edited at three in the morning\n"), original...)
	must(t, os.WriteFile(n.Path(sandbox.ManifestDir+"/etcd.yaml"), edited, 0o600))
	resume(n, b, before)
	kept, err := os.ReadFile(n.Path(run.Path + "/manifests/etcd.yaml.1"))
	if err != nil || !bytes.Equal(kept, edited) {
		t.Errorf("what was edited is not kept: %v; there are %v", err, n.files(run.Path+"/manifests"))
	}
}

func TestAJournalThatIsDamagedStopsChangesAndNothingElse(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.done("restore", b.file, "--yes")
	run := n.lastRun()
	file := n.Path(run.Path + "/journal")
	journal, err := os.ReadFile(file)
	must(t, err)
	journal[len(journal)/4] ^= 1
	must(t, os.WriteFile(file, journal, 0o600))
	n.untouched(func() {
		for _, args := range [][]string{{"restore", b.file, "--yes"}, {"resume"}, {"rollback"}, {"prune", "--yes"}} {
			result := n.run(args...)
			if result.Code == 0 || !strings.Contains(result.Stderr, run.ID) ||
				!strings.Contains(result.Stderr, "damaged") {
				t.Errorf("%q over a damaged journal ended with %d: %s", args, result.Code, result.Stderr)
			}
		}
	})
	n.want(6, []string{"status"}, run.ID)
	n.want(0, []string{"runs"}, run.ID, "damaged")
	n.done("verify", b.file)
	n.done("backup")
}

func TestPathsAreTakenAsTheyAreTyped(t *testing.T) {
	n := start(t, sandbox.Options{NoAPIServer: true})
	b := n.backup()
	n.change()
	outside := t.TempDir() + "/outside.db"
	data, err := os.ReadFile(b.file)
	must(t, err)
	must(t, os.WriteFile(outside, data, 0o600))
	n.untouched(func() { n.want(2, []string{"restore", outside, "--yes"}, "not below the root") })
	n.done("verify", outside)
	link := filepath.Dir(b.file) + "/latest.db"
	must(t, os.Symlink(filepath.Base(b.file), link))
	before := n.state()
	n.done("restore", link, "--yes")
	n.wantNew(b, before)
}
