package apiserver

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// errUnchanged ends the checks: there is nothing to do.
var errUnchanged = errors.New("nothing to do")

// checkAPIServer refuses unless exactly one manifest runs an API server, and can be read.
func checkAPIServer(f *Facts) error {
	a := f.APIServer
	if a.File.Path == "" {
		for _, m := range f.Manifests {
			if m.Manifest == nil && strings.Contains(string(m.Data), "kube-apiserver") {
				return engine.Refuse("fix the file", "cannot read %s: %v", m.Path, m.Error)
			}
		}
		return cmp.Or(f.CheckControlPlane(), engine.Refuse("create one with `kubeadm init phase control-plane "+
			"apiserver`", "no manifest in %s runs an API server", f.ManifestDir))
	}
	if a.Second != "" {
		return engine.Refuse("the kubelet runs every file in that directory, whatever its name: move one of them out",
			"two manifests run an API server: %s and %s", a.File.Path, a.Second)
	}
	if a.File.Manifest.Wrapped(a.Container) {
		return engine.Refuse("edit the file by hand",
			"cannot read the API server's flags: in %s a shell or another wrapper starts it", a.File.Path)
	}
	return nil
}

func checkManifests(f *Facts) error { return f.CheckManifests() }

// checkMembers refuses unless all members can be listed, and can serve.
func (o Options) checkMembers(f *Facts) error {
	a := f.APIServer
	if a.MembersError != nil {
		return engine.Refuse("start what does not answer, query another member with --endpoints, or give the servers "+
			"with --etcd-servers", "the members cannot be listed: %v", a.MembersError)
	}
	if len(a.Learners) > 0 {
		m := a.Learners[0]
		if !m.IsLearner {
			return engine.Refuse("start it, or give the servers with --etcd-servers",
				"member %s has never been started, so it has no client URL yet", observe.MemberName(m))
		}
		return engine.Refuse("wait until it is promoted, then run the command again; or give the servers with "+
			"--etcd-servers", "member %s is a learner: it would refuse the API server's requests",
			observe.MemberName(m))
	}
	if o.AllMembers {
		err := checkServers(a.After.Servers)
		var usage *engine.UsageError
		if errors.As(err, &usage) {
			return engine.Refuse("give the servers with --etcd-servers",
				"the members cannot be listed as they advertise themselves: %s", usage.Reason)
		}
		return err
	}
	return nil
}

// checkChange refuses unless the edit is possible, and the node can carry it out.
func (o Options) checkChange(f *Facts) error {
	a := f.APIServer
	if unchanged(a) {
		return errUnchanged
	}
	if _, err := rewire(f.Facts, a.After, nil); err != nil {
		return err
	}
	if err := f.CheckKubeletRuns("restart the API server", "start the kubelet"); err != nil {
		return err
	}
	if err := f.CheckRuntime(); err != nil {
		return err
	}
	if err := f.CheckStarts(a.File); err != nil {
		return err
	}
	if f.API.Kubeconfig == "" {
		return engine.Refuse("put an administrator's kubeconfig at /etc/kubernetes/admin.conf",
			"there is no kubeconfig with which to check whether the API server is ready")
	}
	return nil
}

func checkEtcdFiles(f *Facts) error {
	if wrong := f.APIServer.Wrong; len(wrong) > 0 {
		return engine.Refuse("give paths as the API server's container sees them, below a mount in its manifest; "+
			"kubeadm mounts /etc/kubernetes/pki", "the API server could not read its files: %s",
			strings.Join(wrong, "; "))
	}
	return nil
}

// checkAnswers refuses a server that does not answer when dialled as the API server would, or that
// is not a voting member of the cluster whose data the API server has.
func (o Options) checkAnswers(f *Facts) error {
	a := f.APIServer
	var bad, good []string
	for _, s := range a.Answers {
		switch {
		case s.Error != nil && !slices.Contains(bad, s.Error.Error()):
			// A key that belongs to another certificate fails the same way everywhere.
			bad = append(bad, s.Error.Error())
		case s.Error == nil && !s.Learner:
			good = append(good, s.URL)
		}
	}
	if len(bad) > 0 {
		hint := "check etcd there, and the files presented to it"
		if len(good) > 0 {
			hint = "start what does not answer, or use those that do: --etcd-servers " + strings.Join(good, ",")
		}
		return engine.Refuse(hint, "the API server could not use all of them: %s", strings.Join(bad, "; "))
	}
	for _, s := range a.Answers {
		switch first := a.Answers[0]; {
		case s.Learner:
			return engine.Refuse("leave it out, or wait until it is promoted",
				"%s is a learner: it would refuse the API server's requests", s.URL)
		case s.ClusterID != first.ClusterID:
			return engine.Refuse("use members of one cluster only", "%s is in cluster %x, but %s in cluster %x",
				s.URL, s.ClusterID, first.URL, first.ClusterID)
		case s.want != 0 && s.MemberID != s.want:
			return engine.Refuse("give the servers with --etcd-servers",
				"member %[2]s answers at %[1]s, not the one that advertises this address", s.URL, s.Name)
		}
	}
	return o.checkCluster(f)
}

// checkCluster refuses another cluster: it has other objects, or none.
func (o Options) checkCluster(f *Facts) error {
	a := f.APIServer
	if o.AnotherCluster || len(a.Answers) == 0 || a.Answers[0].ClusterID == a.Cluster {
		return nil
	}
	const hint = "if you want that, add --another-cluster"
	if a.Cluster == 0 {
		return engine.Refuse(hint, "the cluster that the API server uses now cannot be determined: %s may be another "+
			"one, with other objects", a.Answers[0].URL)
	}
	return engine.Refuse(hint, "%s is another cluster, with other objects: %x, while the API server now uses %x, "+
		"according to %s", a.Answers[0].URL, a.Answers[0].ClusterID, a.Cluster, a.Known)
}
