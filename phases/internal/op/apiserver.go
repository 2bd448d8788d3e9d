package op

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
)

// SetDataDir updates kubeadm's ClusterConfiguration after the data directory moved. Otherwise the
// next `kubeadm upgrade` would boot the old data.
type SetDataDir struct {
	API     APIAccess `json:"api"`
	DataDir string    `json:"dataDir"`
	Old     string    `json:"old"`
}

func (s *SetDataDir) String() string {
	return fmt.Sprintf("set etcd.local.dataDir to %s in kubeadm's ClusterConfiguration", s.DataDir)
}

func (s *SetDataDir) Record(ctx context.Context, t *Target) (err error) {
	s.Old, err = t.APIServer.DataDir(ctx, s.API)
	return err
}

func (s *SetDataDir) Do(ctx context.Context, t *Target) error { return s.set(ctx, t, s.DataDir) }

func (s *SetDataDir) Undo(ctx context.Context, t *Target) error { return s.set(ctx, t, s.Old) }

func (s *SetDataDir) set(ctx context.Context, t *Target, dir string) error {
	if s.Old == "" {
		t.report("this cluster has no kubeadm ClusterConfiguration: nothing to update")
		return nil
	}
	return t.APIServer.SetDataDir(ctx, s.API, dir)
}

func (s *SetDataDir) Done(ctx context.Context, t *Target) (bool, error) {
	now, err := t.APIServer.DataDir(ctx, s.API)
	return now == s.DataDir, err
}

// VerifyRestored reads every resource back through the API server and compares
// it with the snapshot.
type VerifyRestored struct {
	repeated
	API      APIAccess `json:"api"`
	Expected []Count   `json:"expected"`
	// Nodes are the nodes that were registered before. A kubelet registers only when it starts: the
	// kubelets of nodes missing from the snapshot must be restarted.
	Nodes []string `json:"nodes,omitempty"`
	// Second is set where another node of the run reports on the kubelets of all nodes.
	Second bool `json:"second,omitempty"`
	// Warnings are what the person should know afterwards of what came along in the snapshot.
	Warnings []finding.Finding `json:"warnings,omitempty"`
	// Notes are the same, in the journals of earlier versions.
	Notes []string `json:"notes,omitempty"`
	Watched
}

func (v *VerifyRestored) String() string { return "read every resource back through the API server" }

func (v *VerifyRestored) Do(ctx context.Context, t *Target) error {
	crashes, _ := v.watch(ctx, t, "kube-apiserver") // only to say more if it fails
	var got []Count
	err := poll(ctx, t, "cannot read back through the API server",
		time.Minute, time.Second, func(ctx context.Context) (err error) {
			if got, err = t.APIServer.Counts(ctx, v.API, 0); denied(err) != nil {
				return &finalError{err}
			}
			return err
		})
	if d := denied(err); d != nil {
		return v.unread(t, d)
	}
	if err != nil {
		return crashes.explain(ctx, t, err)
	}
	var total int64
	var words []string
	for _, c := range got {
		if total += c.Objects; c.Objects > 0 {
			words = append(words, fmt.Sprintf("%d %s", c.Objects, c.Resource))
		}
	}
	t.report("read back through the API server: %d objects: %s", total, strings.Join(words, ", "))
	v.reconcile(t, got)
	v.compare(t, got)
	if v.Second {
		return nil
	}
	for _, note := range v.Notes {
		t.report("%s", note)
	}
	for _, f := range v.Warnings {
		t.warn(f.Code, f.Subject, "%s", f.Text)
	}
	return v.nameNodes(ctx, t)
}

func (v *VerifyRestored) nameNodes(ctx context.Context, t *Target) error {
	registered, err := t.APIServer.Nodes(ctx, v.API)
	if d := denied(err); d != nil {
		return v.unread(t, d)
	}
	if err != nil {
		return err
	}
	var lost []string
	for _, name := range v.Nodes {
		if !slices.Contains(registered, name) {
			lost = append(lost, name)
		}
	}
	if len(lost) > 0 {
		t.warn(finding.KubeletsToRestart, strings.Join(lost, ", "), "these nodes joined after the snapshot was taken "+
			"and are no longer registered; restart their kubelets: %s", strings.Join(lost, ", "))
	}
	t.warn(finding.KubeletsToRestart, "workers", "also restart the kubelets of the workers (systemctl restart "+
		"kubelet): their in-memory state is from before the restore")
	return nil
}

// unread ends the look at once, and not the run: etcd's members were compared with the snapshot
// before the commit point, everything runs, and without a kubeconfig that works no later look could
// see more.
func (v *VerifyRestored) unread(t *Target, d *DeniedError) error {
	t.warn(finding.ObjectsNotReadBack, "",
		"check this yourself: the objects were not read back through the API server: %v; %s", d, d.Hint())
	if !v.Second {
		t.warn(finding.KubeletsToRestart, "all nodes",
			"restart the kubelets of all nodes (systemctl restart kubelet): their in-memory state is from before the "+
				"restore; which of them are no longer registered could not be checked")
	}
	return nil
}

// reconcile says how many of the snapshot's keys these are, so that what was proven and what was
// read back can be compared.
func (v *VerifyRestored) reconcile(t *Target, got []Count) {
	var keys, listed int64
	var others []string
	for _, want := range v.Expected {
		keys += want.Objects
		if slices.ContainsFunc(got, func(c Count) bool { return sameResource(c.Resource, want.Resource) }) {
			listed += want.Objects
			continue
		}
		others = append(others, fmt.Sprintf("%d %s", want.Objects, want.Resource))
	}
	if keys == 0 {
		return
	}
	text := fmt.Sprintf("the snapshot held %d of them", listed)
	if len(others) > 0 {
		more := "keys"
		if keys-listed == 1 {
			more = "key"
		}
		text += fmt.Sprintf(", and %d more %s below /registry/ that the API server does not list: %s", keys-listed,
			more, strings.Join(others, ", "))
	}
	t.report("%s", text)
}

// compare reports counts that a person should look at. A difference is no error: controllers are
// already writing, and objects expire.
func (v *VerifyRestored) compare(t *Target, got []Count) {
	for _, want := range v.Expected {
		known, objects := false, int64(0)
		for _, c := range got {
			if sameResource(c.Resource, want.Resource) {
				known, objects = true, objects+c.Objects
			}
		}
		if known && want.Objects > 0 && objects == 0 && !shortLived(want.Resource) {
			t.warn(finding.ObjectsMissing, want.Resource, "check this yourself: the API server shows none of the %d "+
				"%s that the snapshot held; they may have expired since", want.Objects, want.Resource)
		}
	}
}

// sameResource compares names; etcd stores built-in resources without their group.
func sameResource(served, stored string) bool {
	plural, _, _ := strings.Cut(served, ".")
	return served == stored || plural == stored
}

// shortLived resources expire on their own.
func shortLived(resource string) bool { return resource == "events" || resource == "leases" }

// Skippable for the same reason as AwaitAPIServer.
func (v *VerifyRestored) Skippable() {}

// Skippable for the same reason as AwaitAPIServer: the line can be edited by hand later.
func (s *SetDataDir) Skippable() {}
