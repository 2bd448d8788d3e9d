package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdpod/etcdpod/e2e/sandbox"
)

// story is the demo, chapter by chapter.
type story struct {
	*sandbox.Sandbox
	*teller
	ctx context.Context

	backup   string            // the file
	keys     map[string]string // at the backup
	revision int64             // the last one before the disaster
}

func (s *story) tell() error {
	begun := time.Now()
	for _, chapter := range []func() error{
		s.comesUp, s.isBackedUp, s.isDestroyed, s.asksForHelp, s.looksFirst, s.isKilled, s.resumes, s.isCompared,
	} {
		if err := chapter(); err != nil {
			return err
		}
	}
	s.heading(fmt.Sprintf("That is etcdpod: %.0f seconds, one restore killed half way, nothing lost.",
		(time.Since(begun) - s.paused).Seconds()))
	s.say("`make e2e` does the same, and more, to a real kubeadm control plane. The runbooks are in docs/runbooks.")
	return nil
}

const objects = 2000

func (s *story) comesUp() error {
	s.heading("A control plane comes up")
	s.say(`In %s, without root: a real etcd %s, started from kubeadm's manifest by a stand-in for the
		kubelet and the container runtime, and a stand-in for the API server, which stores its objects in that
		etcd over TLS. Paths are shown without that directory. Everything else is etcdpod's own output, cut at
		the dots.`, s.Root, s.EtcdVersion)
	begun := time.Now()
	if err := s.Start(s.ctx); err != nil {
		return err
	}
	if err := s.Load(s.ctx, objects, 1000); err != nil {
		return err
	}
	fmt.Fprintln(s.to)
	running, err := s.containers()
	if err != nil {
		return err
	}
	s.good("up after %.1f s: %s", time.Since(begun).Seconds(), running)
	s.good("%d Kubernetes-like objects are loaded: pods, secrets, deployments, …", objects)
	return nil
}

func (s *story) isBackedUp() error {
	s.heading("It is backed up")
	s.say("Length, SHA-256, page structure and every key are checked before the file gets its name. " +
		"There is nothing to configure: the endpoint and certificates are in etcd's manifest.")
	var err error
	if s.keys, err = s.AllKeys(s.ctx); err != nil {
		return err
	}
	if err := s.run(0, []string{"backup"}, s.output("done: take", "done: verify", "done: keep", "verified"),
		"verified"); err != nil {
		return err
	}
	files, err := filepath.Glob(s.Path("/var/lib/etcdpod/backups/*.db"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("the backups are %v: %v", files, err)
	}
	s.backup = files[0]
	fmt.Fprintln(s.to)
	s.good("to compare with later: %d keys (without leases, which change all the time), SHA-256 %.16s…",
		len(s.keys), sum(s.keys))
	return nil
}

func (s *story) isDestroyed() error {
	s.heading("Disaster")
	s.say("Someone deletes all pods and secrets, and the cluster limps on. " +
		"Then the disk loses etcd's database.")
	fmt.Fprintln(s.to)
	if err := s.deleteObjects(); err != nil {
		return err
	}
	if err := s.damageData(); err != nil {
		return err
	}
	api, err := s.API()
	if err != nil {
		return err
	}
	if err := s.eventually("the API server is down", func() (bool, error) {
		return api.Do(s.ctx, http.MethodGet, "/readyz", nil, nil) != nil, s.ctx.Err()
	}); err != nil {
		return err
	}
	s.bad("the API server is not ready; kubectl is of no use now")
	return nil
}

func (s *story) deleteObjects() error {
	etcd, err := s.EtcdClient()
	if err != nil {
		return err
	}
	defer etcd.Close()
	gone, err := etcd.Txn(s.ctx).Then(clientv3.OpDelete("/registry/pods/", clientv3.WithPrefix()),
		clientv3.OpDelete("/registry/secrets/", clientv3.WithPrefix()),
		clientv3.OpPut("/registry/configmaps/default/written-after-the-backup", `{"apiVersion":"v1",`+
			`"kind":"ConfigMap","metadata":{"name":"written-after-the-backup","namespace":"default"}}`)).Commit()
	if err != nil {
		return err
	}
	s.revision = gone.Header.Revision
	s.bad("%d objects deleted, one written since the backup",
		gone.Responses[0].GetResponseDeleteRange().Deleted+gone.Responses[1].GetResponseDeleteRange().Deleted)
	return nil
}

// damageData overwrites the database while etcd is down, and lets the kubelet find that out.
func (s *story) damageData() error {
	if err := s.StopKubelet(s.ctx); err != nil {
		return err
	}
	if err := s.Kill(s.ctx, "etcd"); err != nil {
		return err
	}
	ended := func(attempts int) func() (bool, error) {
		return func() (bool, error) {
			c, found, err := s.Container(s.ctx, "etcd")
			return found && c.State == "exited" && c.Attempt >= attempts, err
		}
	}
	if err := s.eventually("etcd has ended", ended(0)); err != nil {
		return err
	}
	if err := os.WriteFile(s.DataPath()+"/member/snap/db", make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	if err := s.StartKubelet(s.ctx); err != nil {
		return err
	}
	if err := s.eventually("etcd fails on the damaged database", ended(1)); err != nil {
		return err
	}
	s.bad("/var/lib/etcd/member/snap/db is all zeros: etcd crashes whenever the kubelet starts it")
	return nil
}

func (s *story) asksForHelp() error {
	s.heading("Three in the morning: what is wrong, and what now?")
	return s.run(6, []string{"status"}, s.output("attention", "  ! ", "newest backup", "Next"), "etcd", "Next:")
}

func (s *story) looksFirst() error {
	s.heading("Look first")
	s.say("A dry run only reads. It prints the operations of the real run; here, its phases.")
	return s.run(0, []string{"restore", "--dry-run", s.backup},
		s.outline, "- exchange", "commit point", "Nothing was changed")
}

func (s *story) isKilled() error {
	s.heading("The restore, and another accident")
	s.say(`The new data is built and verified beside the old. Then the kubelet and the containers are stopped
		and the two are exchanged in one step. Just as that begins, the restore is killed.`)
	return s.runAndKill("exchange-data", []string{"restore", "--yes", s.backup},
		lines("done: stage", "done: stop", "done: move", "exchange-data"))
}

func (s *story) resumes() error {
	s.heading("Nothing stays half done")
	s.say(`The control plane is down, and its manifests are where the kubelet does not look: even a reboot
		would start nothing. A journal on disk records every step, so etcdpod knows how far it got.`)
	fmt.Fprintln(s.to)
	running, err := s.containers()
	if err != nil {
		return err
	}
	if strings.Contains(running, "running") {
		return fmt.Errorf("in the fence these run: %s", running)
	}
	s.bad("%s", running)
	if err := s.run(6, []string{"status"}, s.output("a run is open", "open run", "Next"),
		"a run is open", "exchange", "etcdpod resume"); err != nil {
		return err
	}
	if err := s.run(3, []string{"restore", "--yes", s.backup},
		s.output("is open", "hint"), "etcdpod resume", "etcdpod rollback"); err != nil {
		return err
	}
	return s.run(0, []string{"resume"}, s.output("done: exchange",
		"done: start", "done: wait", "serves", "commit point", "read back", "Finished"), "commit point", "Finished")
}

func (s *story) isCompared() error {
	s.heading("Is everything back?")
	now, err := s.AllKeys(s.ctx)
	if err != nil {
		return err
	}
	s.good("at the backup: %d keys, SHA-256 %.16s…", len(s.keys), sum(s.keys))
	if diff := sandbox.Diff(s.keys, now); len(diff) > 0 {
		return fmt.Errorf("%d keys differ from the backup: %.300s", len(diff), strings.Join(diff, ", "))
	}
	s.good("restored:      %d keys, SHA-256 %.16s…: every key and value is the same", len(now), sum(now))
	etcd, err := s.EtcdClient()
	if err != nil {
		return err
	}
	defer etcd.Close()
	got, err := etcd.Get(s.ctx, "/registry/configmaps/default/written-after-the-backup")
	if err != nil {
		return err
	}
	if got.Count != 0 {
		return fmt.Errorf("an object that was written after the backup is still there")
	}
	if got.Header.Revision <= s.revision {
		return fmt.Errorf("revisions went back from %d to %d", s.revision, got.Header.Revision)
	}
	s.good("what was written after the backup is gone; revisions went from %d to %d, so that no "+
		"watcher sees them go back", s.revision, got.Header.Revision)
	api, err := s.API()
	if err != nil {
		return err
	}
	if err := api.Do(s.ctx, http.MethodGet, "/readyz", nil, nil); err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	var running string
	if err := s.eventually("all of the control plane runs", func() (all bool, err error) {
		running, err = s.containers()
		return !strings.Contains(running, "exited"), err
	}); err != nil {
		return err
	}
	s.good("the API server is ready; %s", running)
	return nil
}
