package apiserver

import (
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
		return engine.Refuse("kubeadm writes one: `kubeadm init phase control-plane apiserver`",
			"no manifest in %s runs an API server", f.ManifestDir)
	}
	if a.Second != "" {
		return engine.Refuse("the kubelet runs every file in that directory, whatever its name: move one of them away",
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
		return engine.Refuse("start what does not answer, ask another member with --endpoints, or name the servers "+
			"with --etcd-servers", "the members cannot be asked for: %v", a.MembersError)
	}
	if len(a.Learners) > 0 {
		m := a.Learners[0]
		if !m.IsLearner {
			return engine.Refuse("start it, or name the servers with --etcd-servers",
				"the member %s has never been started, and has no client URL yet", observe.MemberName(m))
		}
		return engine.Refuse("wait until it votes, then run the command again; or name the servers with "+
			"--etcd-servers", "the member %s is a learner: it would refuse what the API server asks for",
			observe.MemberName(m))
	}
	if o.AllMembers {
		err := checkServers(a.After.Servers)
		var usage *engine.UsageError
		if errors.As(err, &usage) {
			return engine.Refuse("name the servers with --etcd-servers",
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
			"there is no kubeconfig to ask the API server with whether it is ready")
	}
	return nil
}

func checkEtcdFiles(f *Facts) error {
	if wrong := f.APIServer.Wrong; len(wrong) > 0 {
		return engine.Refuse("paths are as the API server's container sees them, below what its manifest mounts: "+
			"kubeadm's is /etc/kubernetes/pki", "the API server could not read its files: %s",
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
		hint := "look at etcd there, and at the files that are shown to it"
		if len(good) > 0 {
			hint = "start what does not answer, or name those that do: --etcd-servers " + strings.Join(good, ",")
		}
		return engine.Refuse(hint, "the API server could not use all of them: %s", strings.Join(bad, "; "))
	}
	for _, s := range a.Answers {
		switch first := a.Answers[0]; {
		case s.Learner:
			return engine.Refuse("leave it out, or wait until it votes",
				"%s is a learner: it would refuse what the API server asks for", s.URL)
		case s.ClusterID != first.ClusterID:
			return engine.Refuse("name members of one cluster", "%s is of cluster %x, and %s of cluster %x",
				s.URL, s.ClusterID, first.URL, first.ClusterID)
		case s.want != 0 && s.MemberID != s.want:
			return engine.Refuse("name the servers with --etcd-servers",
				"at %s answers the member %s, and not the one that advertises this address", s.URL, s.Name)
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
	const hint = "if that is what you want, add --another-cluster"
	if a.Cluster == 0 {
		return engine.Refuse(hint, "what the API server uses now cannot be asked which cluster it is: %s may be of "+
			"another one, with other objects", a.Answers[0].URL)
	}
	return engine.Refuse(hint, "%s is of another cluster, with other objects: %x, and the API server uses %x now, "+
		"as %s tells", a.Answers[0].URL, a.Answers[0].ClusterID, a.Cluster, a.Known)
}
