package certs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// renewable are the certificates of etcd and of its clients, by kubeadm's names.
func renewable() []string {
	var names []string
	for _, s := range pki.EtcdSpecs() {
		if !s.IsCA() {
			names = append(names, s.Name)
		}
	}
	return names
}

// Names are what `certs renew` takes.
func Names() []string { return append(renewable(), "all") }

// knownNames refuses any other name.
func knownNames(names []string) error {
	for _, name := range names {
		if !slices.Contains(Names(), name) || name == "all" && len(names) > 1 {
			return &engine.UsageError{
				Reason: fmt.Sprintf("%q is not a certificate of etcd or its clients: these are %s",
					name, strings.Join(renewable(), ", ")),
				Hint: "kubeadm renews the others: `kubeadm certs renew`",
			}
		}
	}
	return nil
}

func isAll(names []string) bool { return slices.Equal(names, []string{"all"}) }

// chosen are the uses that a person named; for no names, or all, those whose files are there.
func chosen(n *observe.Node, names []string, uses certUses) ([]certUse, error) {
	if err := knownNames(names); err != nil {
		return nil, err
	}
	var chosen []certUse
	all := len(names) == 0 || isAll(names)
	for _, name := range renewable() {
		i := slices.IndexFunc(uses.leaves, func(u certUse) bool { return u.name == name })
		switch {
		case all && i >= 0 && n.Exists(uses.leaves[i].leaf.CertFile):
		case !all && slices.Contains(names, name) && i < 0:
			return nil, engine.Refuse("`etcdpod init phase certs` creates missing ones; for an external CA, use "+
				"`etcdpod certs generate-csr --config FILE`", "nothing on this node uses %s", name)
		case !all && slices.Contains(names, name):
		default:
			continue
		}
		chosen = append(chosen, uses.leaves[i])
	}
	return chosen, nil
}
