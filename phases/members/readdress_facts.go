package members

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// ReaddressFacts are what following an address depends on.
type ReaddressFacts struct {
	*observe.Facts
	Ready bool // the API server

	Move move
	New  string
	Old  string // empty: the one that etcd advertises has not changed
	Here bool   // this node still has the old one
	// Names that etcd advertises instead of addresses; they stay.
	Names []string

	// As they are to be; the changes are empty where they are so already.
	After                 *observe.EtcdPod
	APIServer             observe.ManifestFile
	APIAfter              op.APIAccess
	EtcdChange, APIChange string
	Starts                *observe.Facts // what keeps these from starting

	Certs  []addressCert
	Config observe.ClusterConfiguration // empty where it cannot be read

	Cluster        uint64
	Data           *observe.Stopped // etcd's, where nobody lists the members; nil: not looked at
	Own            *observe.Member  // nil: see ClusterError
	ClusterError   error
	Change         *PeerChange // nil: etcd is alone, and does not answer
	Voters, Others int         // how many vote, and how many of the others answer
	Ways           []op.Access // to the members
	Left           []leftover  // kubeadm's files with the old address

	// Of a node that is one of several.
	Up    bool // its etcd serves its peers, although nobody serves clients
	First bool // its etcd serves nothing, and is where nobody looks for it: it starts first
	// Without says that the members were no quorum when the run was planned.
	Without bool
	Stays   bool       // the others find it where it is, and it stays there until they are a quorum
	Rest    []op.Other // the other members that serve when it is this one's turn

	r *roster
}

// addressCert is a certificate of etcd that names addresses.
type addressCert struct {
	name          string // kubeadm's
	cert, key, ca string // host paths
	at            string // host:port at which it is served afterwards
	keeps         []string
	issue         bool
	lacks         bool // the new address
	problem       error
}

// issued are the certificates that are made anew.
func (f *ReaddressFacts) issued() (all []addressCert) {
	for _, c := range f.Certs {
		if c.issue {
			all = append(all, c)
		}
	}
	return all
}

// moves says whether the members list other peer URLs than etcd is to have.
func (f *ReaddressFacts) moves() bool {
	return f.Own != nil && !f.Stays && !slices.Equal(slices.Sorted(slices.Values(f.Own.PeerURLs)),
		slices.Sorted(slices.Values(f.After.PeerURLs)))
}

// machine is what a node's interfaces tell.
type machine struct {
	has    func(address string) bool
	choose func() string // the address that kubeadm would advertise; empty: none
	lookup func(name string) ([]string, error)
}

func thisMachine(ctx context.Context) machine {
	return machine{
		has: func(address string) bool { return node.HasAddress(ctx, address) },
		choose: func() string {
			ip, err := utilnet.ChooseHostInterface()
			if err != nil {
				return ""
			}
			return ip.String()
		},
		lookup: func(name string) ([]string, error) {
			ctx, cancel := context.WithTimeout(ctx, callMember)
			defer cancel()
			return net.DefaultResolver.LookupHost(ctx, name)
		},
	}
}

func (o ReaddressOptions) observe(ctx context.Context, n *observe.Node, run string) (*ReaddressFacts, error) {
	seen, err := n.Observe(ctx, run)
	if err != nil {
		return nil, err
	}
	f := &ReaddressFacts{Facts: seen}
	if f.Etcd == nil {
		return f, nil
	}
	if err := o.decide(f, thisMachine(ctx)); err != nil {
		return nil, err
	}
	f.Ready = observe.HasAPIServer(f.Facts) && op.Serves(n.API.Ready(ctx, f.API))
	if f.Ready {
		f.Config, _ = n.ClusterConfiguration(ctx, f.API) // without it, kubeadm's defaults count
	}
	f.observeMembers(ctx, n)
	return f, f.rendered(ctx, n)
}

// rendered makes the manifests as they are to be, and looks at what they need.
func (f *ReaddressFacts) rendered(ctx context.Context, n *observe.Node) (err error) {
	if err = f.render(); err != nil {
		return err
	}
	if f.Etcd != nil {
		if f.After, err = n.EtcdPod(f.after()); err != nil {
			return err
		}
		f.tell()
		if f.Certs = nil; !f.Stays {
			f.observeCerts(n)
		}
	}
	starts := *f.Facts
	starts.Manifests, starts.Etcd = f.after(), f.After
	f.Starts = &starts
	n.ObserveStarts(ctx, f.Starts)
	f.Left = f.leftovers(n)
	return nil
}

// decide finds out which address takes the place of which. Two that etcd advertises and both exist
// are there on purpose: then only a person can say what has changed.
//
// etcd may advertise names instead. Then the address is where it listens, since that is never a
// name, and what the names lead to is not the node's to change.
func (o ReaddressOptions) decide(f *ReaddressFacts, has machine) error {
	var local, gone, here []string
	advertised := observe.HostsOf(slices.Concat(f.Etcd.PeerURLs, f.Etcd.ClientURLs))
	f.Names = slices.DeleteFunc(slices.Clone(advertised), func(host string) bool {
		return net.ParseIP(host) != nil || onlyHere(host)
	})
	if len(f.Names) > 0 {
		for _, flag := range []string{"listen-peer-urls", "listen-client-urls"} {
			for _, host := range observe.HostsOf(observe.SplitList(f.Etcd.Setting("", flag))) {
				if !onlyHere(host) {
					advertised = append(advertised, host)
				}
			}
		}
	}
	for _, host := range advertised {
		switch known := slices.Concat(local, gone, here); {
		case slices.ContainsFunc(known, func(h string) bool { return sameAddress(h, host) }):
		case onlyHere(host):
			local = append(local, host)
		case net.ParseIP(host) == nil:
		case has.has(host):
			here = append(here, host)
		default:
			gone = append(gone, host)
		}
	}
	switch f.New = o.Address; {
	case f.New != "":
	case len(gone) == 0 && len(here) > 0:
		f.New = here[0] // it may be the list of members that is wrong
	default:
		f.New = has.choose()
	}
	if err := f.checkNew(has); err != nil {
		return err
	}
	here = slices.DeleteFunc(here, func(h string) bool { return sameAddress(h, f.New) })
	switch {
	case len(gone) > 1:
		return engine.Refuse("change one of them by hand first", "etcd advertises several addresses, and this node "+
			"has none of them: %s", strings.Join(gone, ", "))
	case len(gone) == 1:
		f.Old = gone[0]
	case len(here) > 1:
		return engine.Refuse("change the one that is wrong by hand; or run the command again once the node does not "+
			"have it any more", "etcd advertises several addresses, and this node has all of them: %s",
			strings.Join(here, ", "))
	case len(here) == 1 && o.Address != "":
		f.Old, f.Here = here[0], true
	}
	f.Move = move{old: local, new: f.New}
	if f.Old != "" {
		f.Move.old = append([]string{f.Old}, local...)
	}
	return f.checkNames(has)
}

// checkNames refuses names that do not lead here: others would look for this member elsewhere.
func (f *ReaddressFacts) checkNames(has machine) error {
	lead := fmt.Sprintf("have the name lead to %s on all nodes, in DNS or /etc/hosts, and run the command again; if "+
		"the member is to have another name, see %s", f.New, addressPage)
	// Loopback is what distributions give a host's own name.
	leads := func(at string) bool { return sameAddress(at, f.New) || onlyHere(at) || has.has(at) }
	for _, name := range f.Names {
		at, err := has.lookup(name)
		switch {
		case err != nil || len(at) == 0:
			return engine.Refuse(lead, "etcd advertises a name that leads nowhere, %s: %s", name, f.Etcd.File.Path)
		case !slices.ContainsFunc(at, leads):
			return engine.Refuse(lead, "etcd advertises the name %s, which leads to %s, and this node does not have "+
				"that address", name, strings.Join(at, ", "))
		}
	}
	return nil
}

// checkNew refuses an address that cannot be this node's.
func (f *ReaddressFacts) checkNew(has machine) error {
	switch {
	case f.New == "":
		return engine.Refuse("give the address that it has now with --address", "this node has no default route, so "+
			"which of its addresses etcd is to have is not known")
	case onlyHere(f.New):
		return engine.Refuse("give the address at which the other nodes reach this one with --address",
			"at %s every host reaches itself", f.New)
	case !has.has(f.New):
		return engine.Refuse("give the address that it has now with --address: `ip address` shows it",
			"this node does not have the address %s", f.New)
	}
	return nil
}

// render makes the manifests as they are to be. Where only --initial-cluster lacks members, etcd is
// not started again for that.
func (f *ReaddressFacts) render() error {
	f.APIAfter, f.EtcdChange, f.APIChange = f.API, "", ""
	if err := f.renderEtcd(); err != nil {
		return err
	}
	api, container, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return nil
	}
	edited, err := f.Move.apiServer(api, container)
	if err != nil {
		return err
	}
	if f.APIServer, ok = replaced(api, edited.Bytes()); ok {
		m := f.Move.elsewhere()
		f.APIServer.Manifest, f.APIChange = edited, m.String()
		f.APIAfter.Server, f.APIAfter.Servers = m.url(f.API.Server), m.urls(f.API.Servers)
	}
	return nil
}

func (f *ReaddressFacts) renderEtcd() error {
	if f.Etcd == nil || f.Stays {
		return nil
	}
	own := f.Move
	own.others, own.cluster = nil, nil
	edited, err := own.etcd(f.Etcd)
	if err != nil || string(f.Etcd.File.Data) == string(edited.Bytes()) {
		return err
	}
	if edited, err = f.Move.etcd(f.Etcd); err != nil {
		return err
	}
	file, _ := replaced(f.Etcd.File, edited.Bytes())
	file.Manifest, f.EtcdChange = edited, own.String()
	f.After = &observe.EtcdPod{File: file}
	return nil
}

// replaced is a manifest with other text; false: it is the same.
func replaced(file observe.ManifestFile, data []byte) (observe.ManifestFile, bool) {
	same := string(file.Data) == string(data)
	file.Data = data
	return file, !same
}

// after are the manifests as they are to be.
func (f *ReaddressFacts) after() []observe.ManifestFile {
	all := slices.Clone(f.Manifests)
	for i := range all {
		switch {
		case f.EtcdChange != "" && all[i].Path == f.Etcd.File.Path:
			all[i] = f.After.File
		case f.APIChange != "" && all[i].Path == f.APIServer.Path:
			all[i] = f.APIServer
		}
	}
	return all
}

// observeMembers asks whoever answers. Where nobody does, the data says whether there is anybody
// else.
func (f *ReaddressFacts) observeMembers(ctx context.Context, n *observe.Node) {
	r, err := gather(ctx, n)
	if err == nil {
		f.ClusterError = f.take(r)
		return
	}
	f.ClusterError = err
	if f.Live != nil {
		return
	}
	// One that waits for a quorum serves no client yet.
	if access, err := n.Dialer().Access(f.Etcd.Peer); err == nil {
		_, err = etcd.PeerMembers(ctx, access)
		f.Up = err == nil
	}
	data, err := n.Stopped(ctx, f.Etcd)
	if err != nil {
		return
	}
	if f.Data = data; len(data.Members) != 1 || uint64(data.Members[0].ID) != data.MemberID {
		return
	}
	f.Own, f.Cluster, f.Voters, f.ClusterError = &data.Members[0], data.ClusterID, 1, nil
}

// take is what the members say.
func (f *ReaddressFacts) take(r *roster) error {
	own := r.own
	if f.Live != nil {
		own = slices.Index(ids(r.members), f.Live.MemberID)
	}
	if own < 0 {
		return engine.Refuse("`etcdpod members` lists them", "none of the cluster's members is this node's: none has "+
			"the name %s, or one of the peer URLs %s", f.Etcd.Name, strings.Join(f.Etcd.PeerURLs, ","))
	}
	f.r, f.Cluster, f.Own = r, r.cluster, &bind.MembersOf(r.members[own : own+1])[0]
	for i, m := range r.members {
		if m.IsLearner {
			continue
		}
		f.Voters++
		if i != own && r.answers[i].Err == nil {
			f.Others++
			f.Ways = append(f.Ways, r.answers[i].way)
		}
	}
	f.Move.cluster = bind.MembersOf(r.members)
	return nil
}

// tell is what the members are to be told, and how, now that it is known how etcd is to be.
func (f *ReaddressFacts) tell() {
	if f.Own == nil {
		return
	}
	if f.r != nil && f.r.answers == nil { // nobody knows which of the others still answer by then
		f.Ways = append([]op.Access{f.After.Access}, f.Ways...)
	} else {
		f.Ways = append(f.Ways, f.After.Access)
	}
	if f.r == nil {
		return
	}
	of := slices.Index(ids(f.r.members), uint64(f.Own.ID))
	f.Change = &PeerChange{r: f.r, of: of, Before: f.Own.PeerURLs, After: f.After.PeerURLs}
}

// observeCerts looks which of etcd's certificates do not fit the new address.
func (f *ReaddressFacts) observeCerts(n *observe.Node) {
	for _, c := range []struct{ name, section, prefix string }{
		{"etcd-server", observe.ClientSecurity, ""},
		{"etcd-peer", observe.PeerSecurity, "peer-"},
	} {
		made := addressCert{name: c.name, cert: f.Etcd.SettingFile(c.section, c.prefix+"cert-file"),
			key: f.Etcd.SettingFile(c.section, c.prefix+"key-file"),
			ca:  f.Etcd.SettingFile(c.section, c.prefix+"trusted-ca-file")}
		urls := f.After.ClientURLs
		if c.section == observe.PeerSecurity {
			urls = f.After.PeerURLs
		}
		i := slices.IndexFunc(urls, func(u string) bool {
			host := observe.HostOf(u)
			return observe.Secure(u) && (sameAddress(host, f.New) || slices.Contains(f.Names, host))
		})
		if made.cert == "" || i < 0 {
			continue // it speaks plain HTTP there
		}
		made.at = observe.DialAddress(urls[i])
		made.judge(n, f)
		f.Certs = append(f.Certs, made)
	}
}

// judge reads the certificate, and the CA if a new one is needed.
func (c *addressCert) judge(n *observe.Node, f *ReaddressFacts) {
	data, err := n.FS.ReadFile(c.cert)
	if err != nil {
		c.problem = engine.Refuse("create it: `etcdpod init phase certs`", "cannot read %s: %v", c.cert, err)
		return
	}
	there, err := pki.Inspect(c.cert, data, f.Now)
	if err != nil {
		c.problem = engine.Refuse("move it and its key away, and create it: `etcdpod init phase certs`", "%v", err)
		return
	}
	c.names(there.SANs, f.Old, f.New, f.Here)
	if !c.issue {
		return
	}
	ca, caErr := n.ReadOptional(c.ca)
	key, keyErr := n.ReadOptional(keyBeside(c.ca))
	for _, err := range []error{caErr, keyErr} {
		if err != nil {
			c.problem = engine.Refuse("see why root cannot read it", "%v", err)
			return
		}
	}
	for _, p := range pki.CheckCA(c.ca, ca, keyBeside(c.ca), key, f.Now) {
		c.problem = engine.Refuse(p.Fix, "%s cannot be issued for %s: %s", c.name, f.New, p.What)
		return
	}
	if key == nil {
		c.external(f)
	}
}

// external is for a CA whose key is elsewhere: a name too many does no harm.
func (c *addressCert) external(f *ReaddressFacts) {
	if c.issue = false; c.lacks {
		c.problem = engine.Refuse(fmt.Sprintf("have the CA sign one that is for %s as well, with the key from "+
			"`etcdpod certs generate-csr`; install it with `etcdpod certs renew --from DIR`, and run the command "+
			"again", f.New),
			"%s is not for %s, and the key of its CA is not here: %s", c.cert, f.New, keyBeside(c.ca))
	}
}

// names decides which names a certificate keeps. The old address stays as long as this node has it:
// a connection to a peer may come from there, and a peer accepts only addresses that the
// certificate names. Afterwards it goes, as kubeadm's own certificate would not have it: some day
// another machine has that address.
func (c *addressCert) names(there []string, old, new string, here bool) {
	has := func(address string) bool {
		return slices.ContainsFunc(there, func(name string) bool { return sameAddress(name, address) })
	}
	stale := func(name string) bool {
		return !here && old != "" && sameAddress(name, old)
	}
	c.lacks = !has(new)
	c.issue = c.lacks || slices.ContainsFunc(there, stale)
	c.keeps = slices.DeleteFunc(slices.Clone(there), stale)
}
