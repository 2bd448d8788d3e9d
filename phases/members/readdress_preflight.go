package members

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

func (o ReaddressOptions) preflight() readdressPhase {
	return readdressPhase{Name: "preflight", Short: "check everything first", Found: readdressFound,
		Findings: readdressWarned,
		Plan: func(_ context.Context, f *ReaddressFacts) ([]op.Op, error) {
			if err := checkReaddressed(f); err != nil || f.unchanged() {
				return nil, err
			}
			return nil, engine.Passes(f, checkReaddressNode, checkReaddressMembers, checkReaddressQuorum,
				checkReaddressCerts, checkReaddressStarts)
		}}
}

// unchanged says whether there is nothing to do.
func (f *ReaddressFacts) unchanged() bool {
	return f.ClusterError == nil && !f.restarts() && !f.moves() && f.APIChange == "" &&
		!slices.ContainsFunc(f.Certs, func(c addressCert) bool { return c.problem != nil })
}

func checkReaddressed(f *ReaddressFacts) error {
	if f.Etcd == nil {
		return cmp.Or(f.CheckControlPlane(), engine.Refuse("run the command on the node of the member whose address "+
			"changed", "no manifest in %s runs an etcd", f.ManifestDir))
	}
	return f.CheckManifests()
}

func checkReaddressNode(f *ReaddressFacts) error {
	return cmp.Or(f.CheckRuntime(), f.CheckKubeletRuns("change a static pod", "start the kubelet first"))
}

const addressPage = "/usr/share/doc/etcdpod/docs/runbooks/change-an-address.md"

// checkReaddressMembers refuses where the cluster would not take the new URL.
func checkReaddressMembers(f *ReaddressFacts) error {
	if f.ClusterError != nil {
		return engine.Refuse("start a member, or give the URL of one that answers with --endpoints; if the addresses "+
			"of all nodes have changed, see "+addressPage, "it is not known who is a member: %v", f.ClusterError)
	}
	if f.Own.IsLearner {
		return engine.Refuse("finish that first: `etcdpod join`", "the member of this node, %s, is a learner", f.Own.ID)
	}
	if f.Voters > 1 {
		if err := f.Etcd.CheckForced(); err != nil {
			return err
		}
	}
	if f.Change == nil || !f.moves() {
		return nil
	}
	return cmp.Or(f.Change.checkTaken(), f.Change.checkReachable())
}

// checkReaddressQuorum refuses where etcd would not serve at its new address, or nobody serves
// while it starts again. Of two members or of one, nobody does for that moment whatever is done.
func checkReaddressQuorum(f *ReaddressFacts) error {
	quorum := f.Voters/2 + 1
	switch {
	case f.Others+1 < quorum:
		return engine.Refuse("start the others first; if the addresses of several nodes have changed, have them "+
			"follow as one run, with --nodes: see "+addressPage,
			"%d of %d members that vote answer, which is too few for a quorum, even with this one", f.Others, f.Voters)
	case f.restarts() && f.Live != nil && f.Voters > 2 && f.Others < quorum:
		return engine.Refuse("start what does not answer first; if its address has changed, too, have both follow as "+
			"one run, with --nodes",
			"the cluster would lose quorum while this etcd restarts: %d of %d other members answer",
			f.Others, f.Voters-1)
	}
	return nil
}

func checkReaddressCerts(f *ReaddressFacts) error {
	for _, c := range f.Certs {
		if c.problem != nil {
			return c.problem
		}
	}
	return nil
}

// checkReaddressStarts looks at the manifests as they are to be; and at the present ones, where
// they run: the run may have to go back to them. An etcd whose address is gone may go on running
// for a while, and never starts again: then there is nothing to go back to.
func checkReaddressStarts(f *ReaddressFacts) error {
	if f.restarts() {
		if err := f.Starts.CheckStarts(f.After.File); err != nil {
			return err
		}
		if f.Live != nil && !f.doomed() {
			if err := f.CheckStarts(f.Etcd.File); err != nil {
				return err
			}
		}
	}
	if f.APIChange != "" {
		return f.Starts.CheckStarts(f.APIServer)
	}
	return nil
}

// doomed says whether etcd could not start again as it is, since its address is gone.
func (f *ReaddressFacts) doomed() bool { return f.Old != "" && !f.Here }

func readdressFound(f *ReaddressFacts) (found []string) {
	if f.Own == nil || f.unchanged() {
		return nil
	}
	found = append(found, fmt.Sprintf("this node's member is %s (%s); the others reach it at %s, and will at %s",
		f.Own.ID, observe.MemberName(*f.Own), strings.Join(f.Own.PeerURLs, ","),
		strings.Join(f.After.PeerURLs, ",")))
	if f.Live != nil && f.doomed() {
		found = append(found, fmt.Sprintf("etcd still runs, but could not start again: this node does not have %s any "+
			"more. If this run goes back, etcd stays down", f.Old))
	}
	switch {
	case f.Old != "" && f.Here && len(f.Certs) > 0:
		found = append(found, fmt.Sprintf("this node still has %s: it stays among the names of etcd's certificates, "+
			"since connections to the others may come from there", f.Old))
	case f.Old != "" && len(f.issued()) > 0:
		found = append(found, fmt.Sprintf("this node does not have %s any more: etcd's new certificates are not for "+
			"that address", f.Old))
	}
	return found
}

func readdressWarned(f *ReaddressFacts) (warned []finding.Finding) {
	if f.Own == nil || f.unchanged() {
		return nil
	}
	if f.restarts() {
		if f.Voters <= 2 && f.Live != nil {
			warned = append(warned, finding.New(finding.EtcdNoWrites, "",
				"a cluster of one or two members takes no writes while this etcd restarts"))
		}
		warned = append(warned, f.Starts.StartDoubts(f.After.File)...)
	}
	for _, l := range f.Left {
		warned = append(warned, finding.New(finding.AddressLeft, l.file, "%s: %s", l.what, l.cure))
	}
	return warned
}

// leftover is a file of kubeadm's that has the old address, or lacks the new one.
type leftover struct{ file, what, cure string }

// kubeletFlags are where kubeadm and its packages have the kubelet's flags.
var kubeletFlags = [...]string{"/var/lib/kubelet/kubeadm-flags.env", "/etc/default/kubelet", "/etc/sysconfig/kubelet"}

// kubeconfigs are those that kubeadm makes, by its names for them.
var kubeconfigs = [...]string{"admin", "super-admin", "kubelet", "controller-manager", "scheduler"}

// leftovers are what kubeadm made for the old address, and etcdpod leaves to it.
func (f *ReaddressFacts) leftovers(n *observe.Node) (left []leftover) {
	if f.Old == "" {
		return nil
	}
	if m, c, ok := observe.Program(f.Manifests, "kube-apiserver"); ok {
		file := observe.HostFile(m, c, observe.FlagOf(m, c, "tls-cert-file"))
		data, err := n.ReadOptional(file)
		if cert, problem := pki.Inspect(file, data, f.Now); err == nil && problem == nil && f.APIChange != "" &&
			!slices.ContainsFunc(cert.SANs, func(name string) bool { return sameAddress(name, f.New) }) {
			key := strings.TrimSuffix(file, path.Ext(file)) + ".key"
			left = append(left, leftover{file, fmt.Sprintf("the API server's certificate is not for %s", f.New),
				fmt.Sprintf("`mv %s %s /root/`, then `kubeadm init phase certs apiserver "+
					"--apiserver-advertise-address %s`, with the --config or the names of the first time",
					file, key, f.New)})
		}
	}
	for _, name := range kubeconfigs {
		file := "/etc/kubernetes/" + name + ".conf"
		data, err := n.ReadOptional(file)
		if err != nil || !namesAddress(string(data), f.Old) {
			continue
		}
		cure := fmt.Sprintf("`mv %s /root/`, then `kubeadm init phase kubeconfig %s --apiserver-advertise-address %s`",
			file, name, f.New)
		if name == "kubelet" { // its certificate is renewed by the kubelet, in a file of its own
			cure = fmt.Sprintf("`sed -i 's|%s|%s|' %s`, then `systemctl restart kubelet`", f.Old, f.New, file)
		}
		left = append(left, leftover{file, fmt.Sprintf("%s names %s", file, f.Old), cure})
	}
	for _, file := range kubeletFlags {
		data, err := n.ReadOptional(file)
		if err == nil && namesAddress(string(data), f.Old) {
			left = append(left, leftover{file, fmt.Sprintf("the kubelet's flags name %s", f.Old), fmt.Sprintf(
				"`sed -i 's|%s|%s|' %s`, then `systemctl restart kubelet`", f.Old, f.New, file)})
		}
	}
	if observe.HasAPIServer(f.Facts) {
		left = append(left, leftover{"ConfigMaps", fmt.Sprintf("the cluster's ConfigMaps may name %s", f.Old),
			"`kubectl -n kube-system edit configmap kubeadm-config`, `kubectl -n kube-system edit configmap " +
				"kube-proxy` and `kubectl -n kube-public edit configmap cluster-info`"})
	}
	return left
}

// namesAddress says whether a text has an address, and not only one that begins or ends alike.
func namesAddress(text, address string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], address)
		if i < 0 {
			return false
		}
		from, to := at+i, at+i+len(address)
		part := func(b byte) bool { return b == '.' || b >= '0' && b <= '9' }
		if (from == 0 || !part(text[from-1])) && (to == len(text) || !part(text[to])) {
			return true
		}
		at = from + 1
	}
}
