package certs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// RenewOptions are what a person may ask of `certs renew`.
type RenewOptions struct {
	// Of certificates, as kubeadm has them; none, or all: those of etcd and its
	// clients that are there.
	Names []string
	// A host path: take certificates that another CA's keeper has signed from there, instead of
	// signing; laid out as `certs generate-csr` does.
	From string
	// For a program to end by itself; 0: see grace.
	StopTimeout time.Duration
	// For it to serve again; 0: 2 minutes.
	WaitTimeout time.Duration
}

// Renew is the workflow that gives certificates of etcd, and of its clients on this node, a new
// life. What uses them is started anew, one pod after the other.
func Renew(o RenewOptions) workflow {
	return workflow{Name: "renew", Observe: o.observe, Phases: []phase{
		o.preflight(),
		o.issue(),
		o.replace(),
		o.restartEtcd(),
		o.restartAPIServer(), // the commit point is at its end
	}}
}

type (
	phase = engine.Phase[*Facts]
	// workflow renews, or asks for, certificates.
	workflow = engine.Workflow[*observe.Node, *Facts]
)

// Facts are what renewing certificates, or asking for them, depends on.
type Facts struct {
	*observe.Facts
	// Of those that are in use; nil where kubeadm's configuration says which are to be.
	Renewal *RenewalFacts
	Request *RequestFacts
}

// RenewalFacts are what renewing depends on besides.
type RenewalFacts struct {
	Uses     []certUse                 // what is renewed
	Problems map[string][]*pki.Problem // of the CAs, by file
	External []string                  // CAs whose keys are not here, by file
	Exposed  []string                  // key files that everybody may read
	Signed   map[string]signedPair     // by name; with From only
	// As the cluster keeps it. Where it cannot be read, certificates keep what they have.
	Config      observe.ClusterConfiguration
	ConfigError error            // why it cannot be read
	Serving     bool             // etcd answers, with a quorum
	Ready       bool             // so does the API server
	Silent      []observe.Member // voting members elsewhere that do not answer
}

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

// knownNames refuses what is none of them.
func knownNames(names []string) error {
	for _, name := range names {
		if !slices.Contains(append(renewable(), "all"), name) || name == "all" && len(names) > 1 {
			return &engine.UsageError{
				Reason: fmt.Sprintf("%q is no certificate of etcd or of its clients: these are %s",
					name, strings.Join(renewable(), ", ")),
				Hint: "kubeadm renews the others: `kubeadm certs renew`",
			}
		}
	}
	return nil
}

func isAll(names []string) bool { return slices.Equal(names, []string{"all"}) }

// chosen are the uses with the names that a person typed; none, or all: those
// whose files are there.
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
			return nil, engine.Refuse("`etcdpod init phase certs` makes what is not there; an external CA is asked "+
				"for it with `etcdpod certs generate-csr --config FILE`", "no program of this node uses %s", name)
		case !all && slices.Contains(names, name):
		default:
			continue
		}
		chosen = append(chosen, uses.leaves[i])
	}
	return chosen, nil
}

func (o RenewOptions) observe(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	if o.From != "" && !path.IsAbs(o.From) {
		return nil, &engine.UsageError{Reason: "--from needs an absolute path"}
	}
	seen, err := n.Observe(ctx, id)
	if err != nil {
		return nil, err
	}
	f := &Facts{Facts: seen}
	uses := findUses(n, f.Manifests, f.Etcd)
	r := &RenewalFacts{Problems: map[string][]*pki.Problem{}, Serving: f.Live != nil,
		ConfigError: errors.New("no API server runs here")}
	if observe.HasAPIServer(f.Facts) {
		r.Config, r.ConfigError = n.ClusterConfiguration(ctx, f.API)
	}
	if r.Uses, err = chosen(n, o.Names, uses); err != nil {
		return nil, err
	}
	for i := range r.Uses {
		checkLeaf(n, &r.Uses[i], uses.cas, f.Now) // reads the files
		if key := r.Uses[i].leaf.KeyFile; readableByAll(n, key) {
			r.Exposed = append(r.Exposed, key)
		}
		if err := observeCA(n, r, r.Uses[i], f.Now); err != nil {
			return nil, err
		}
	}
	if o.From != "" {
		if err := observeSigned(n, r, o, f.Now); err != nil {
			return nil, err
		}
	}
	r.Ready = observe.HasAPIServer(f.Facts) && n.API.Ready(ctx, f.API) == nil
	r.Silent = slices.DeleteFunc(n.Silent(ctx, f.Live), func(m observe.Member) bool { return m.IsLearner })
	f.Renewal = r
	return f, nil
}

// readableByAll is false of a file that cannot be looked at: reading it says why.
func readableByAll(n *observe.Node, file string) bool {
	resolved, err := n.Resolve(file)
	if err != nil {
		return false
	}
	st, err := n.FS.Lstat(resolved)
	return err == nil && st.Mode&0o004 != 0
}

func caKeyOf(caFile string) string { return strings.TrimSuffix(caFile, path.Ext(caFile)) + ".key" }

func observeCA(n *observe.Node, r *RenewalFacts, use certUse, now time.Time) error {
	file := use.leaf.CAFile
	key, err := n.ReadOptional(caKeyOf(file))
	if err != nil {
		return err
	}
	r.Problems[file] = pki.CheckCA(file, use.leaf.CA, caKeyOf(file), key, now)
	if key == nil && !slices.Contains(r.External, file) {
		r.External = append(r.External, file)
	}
	return nil
}

func (o RenewOptions) preflight() phase {
	return phase{Name: "preflight", Short: "refuse what cannot end well, before anything is touched", Found: o.found,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			return nil, engine.Passes(f, o.checkNode, o.checkFiles, o.checkCA, o.checkSigned, o.checkQuorum)
		}}
}

func (o RenewOptions) found(f *Facts) []string {
	var still []string
	if f.Live != nil && f.Live.Voters() == 2 && o.restarts(f, "etcd") {
		still = []string{"of two members both are the quorum: while etcd here starts anew, the cluster stands still"}
	}
	if o.From != "" {
		return still
	}
	found := []string{
		"names and addresses: those of the old certificates, and those that kubeadm's configuration asks for",
	}
	if err := f.Renewal.ConfigError; err != nil {
		found = []string{
			fmt.Sprintf("names, addresses and the kind of key stay those of the old certificates: kubeadm's "+
				"configuration cannot be read: %v", err),
		}
	}
	for _, use := range f.Renewal.Uses {
		if c, err := pki.Inspect(use.leaf.CertFile, use.leaf.Cert, f.Now); err == nil {
			found = append(found, fmt.Sprintf("%s ends on %s", use.name, c.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return append(found, still...)
}

func (o RenewOptions) checkNode(f *Facts) error {
	if len(f.Renewal.Uses) == 0 && o.From != "" {
		return engine.Refuse("it must be laid out as `etcdpod certs generate-csr` does: etcd/server.crt beside "+
			"etcd/server.key", "there is no certificate of etcd in %s", o.From)
	}
	if len(f.Renewal.Uses) == 0 {
		return engine.Refuse("`etcdpod certs check` shows what there is",
			"no manifest in %s names a certificate of etcd that could be renewed", f.ManifestDir)
	}
	if len(o.pods(f)) == 0 {
		return f.CheckKubelet()
	}
	if err := f.CheckKubeletRuns("start anew what uses the certificates", "start the kubelet"); err != nil {
		return err
	}
	return f.CheckRuntime()
}

// checkFiles: a certificate that is not there has no names to go on with, and one that cannot be
// read may be anything.
func (o RenewOptions) checkFiles(f *Facts) error {
	for _, use := range f.Renewal.Uses {
		l := use.leaf
		if l.Cert == nil || l.Key == nil {
			hint := "have it made: `etcdpod init phase certs`"
			if o.From != "" {
				hint = "there is nothing to be replaced: copy what was signed there, and its key, and have " +
					"it looked at: `etcdpod init phase certs`"
			}
			return engine.Refuse(hint, "%s cannot be renewed: %s or %s is not there", use.name, l.CertFile, l.KeyFile)
		}
		if _, err := pki.Inspect(l.CertFile, l.Cert, f.Now); err != nil {
			return engine.Refuse("move it and its key away, and have it made: `etcdpod init phase certs`",
				"%s cannot be renewed: %v", use.name, err)
		}
	}
	if len(f.Renewal.Exposed) > 0 { // the new key would take over the mode
		key := f.Renewal.Exposed[0]
		return engine.Refuse(fmt.Sprintf("type `chmod 0600 %s`, and then the command again", key),
			"everybody on this machine may read the key %s", key)
	}
	return nil
}

func (o RenewOptions) checkCA(f *Facts) error {
	for _, use := range f.Renewal.Uses {
		file := use.leaf.CAFile
		if o.From == "" && slices.Contains(f.Renewal.External, file) {
			return engine.Refuse("ask the CA that has the key: `etcdpod certs generate-csr` makes keys and requests, "+
				"and `etcdpod certs renew --from DIR` takes what was signed",
				"%s cannot be renewed here: the CA's key %s is not there", use.name, caKeyOf(file))
		}
		for _, p := range f.Renewal.Problems[file] {
			return engine.Refuse(p.Fix, "%s cannot be renewed: %s", use.name, p.What)
		}
	}
	return nil
}

// checkQuorum: a cluster that serves must go on serving while this member starts anew. One of one
// member or of two cannot, whatever the order; it stands still for that moment.
func (o RenewOptions) checkQuorum(f *Facts) error {
	if f.Live == nil || !o.restarts(f, "etcd") || len(f.Renewal.Silent) == 0 {
		return nil
	}
	voters := f.Live.Voters()
	if others := voters - 1 - len(f.Renewal.Silent); others < voters/2+1 {
		return engine.Refuse("start what does not answer first; then renew one node after the other",
			"while etcd here starts anew, the cluster would stand still: %d of %d members do not answer: %s",
			len(f.Renewal.Silent), voters, strings.Join(observe.MemberNames(f.Renewal.Silent), ", "))
	}
	return nil
}

func (o RenewOptions) issue() phase {
	return phase{Name: "issue-certificates", Short: "make new keys and certificates in the run's folder",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := []op.Op{&op.MakeDirectory{Path: journal.NewCerts(f.Run), Attr: node.Mine(0o700)}}
			for _, use := range f.Renewal.Uses {
				if signed, ok := f.Renewal.Signed[use.name]; ok {
					ops = append(ops, &op.AdoptCertificate{Name: use.name,
						From: signed.base, To: path.Join(journal.NewCerts(f.Run), use.name), Sums: signed.sums})
					continue
				}
				ops = append(ops, &op.IssueCertificate{Issuance: f.issuance(use),
					To: path.Join(journal.NewCerts(f.Run), use.name)})
			}
			return ops, nil
		}}
}

// issuance is what a renewed certificate is made from.
func (f *Facts) issuance(use certUse) op.Issuance {
	c := f.Renewal.Config
	i := op.Issuance{
		Name: use.name, Old: use.leaf.CertFile, CACert: use.leaf.CAFile, CAKey: caKeyOf(use.leaf.CAFile),
		NodeName: f.Node, Algorithm: c.EncryptionAlgorithm, Validity: c.CertificateValidityPeriod,
	}
	switch use.port {
	case "client":
		i.SANs = slices.Concat(c.ServerCertSANs, use.leaf.Names.Strings())
	case "peer":
		i.SANs = slices.Concat(c.PeerCertSANs, use.leaf.Names.Strings())
	}
	if f.Etcd != nil { // kubeadm advertises etcd where it advertises the API server
		for _, host := range observe.HostsOf(f.Etcd.PeerURLs) {
			if net.ParseIP(host) != nil {
				i.AdvertiseAddress = host
				break
			}
		}
	}
	return i
}

func (o RenewOptions) replace() phase {
	return phase{Name: "replace-certificates", Short: "put the new ones in the place of the old, which are kept",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := []op.Op{&op.MakeDirectory{Path: journal.OldCerts(f.Run), Attr: node.Mine(0o700)}}
			for _, pod := range o.pods(f) {
				ops = append(ops, o.restart(f, pod, true))
			}
			for _, use := range f.Renewal.Uses {
				ops = append(ops, &op.ReplaceCertificate{
					Name: use.name, Cert: use.leaf.CertFile,
					Key: use.leaf.KeyFile, From: path.Join(journal.NewCerts(f.Run), use.name),
					Kept: path.Join(journal.OldCerts(f.Run), use.name),
				})
			}
			return ops, nil
		}}
}

func (o RenewOptions) restart(f *Facts, pod op.Pod, back bool) op.Op {
	return &op.RestartPod{Pod: pod, Grace: o.grace(f, pod), Limit: o.limit(), Back: back}
}

// grace is how long a program may take to end. An etcd takes 7 s, in which it serves nobody, to let
// go of who watches (server/embed/etcd.go: stopServers), and then gives the leadership away: of use
// to other members only, and no write that it has acknowledged is lost without. An API server takes
// itself out of the list of API servers at once, and then waits for its watchers, too.
func (o RenewOptions) grace(f *Facts, pod op.Pod) time.Duration {
	etcd := f.Etcd != nil && pod.Name == f.Etcd.File.Manifest.Name()
	switch {
	case o.StopTimeout > 0:
		return o.StopTimeout
	case etcd && f.Live != nil && len(f.Live.Members) > 1:
		return 30 * time.Second
	case etcd:
		return 0
	}
	return 3 * time.Second
}

// renewLimit is how long a pod may take to serve again.
const renewLimit = 2 * time.Minute

// restarts says whether a program uses one of the certificates.
func (o RenewOptions) restarts(f *Facts, program string) bool {
	return slices.ContainsFunc(f.Renewal.Uses, func(u certUse) bool { return u.program == program })
}

// pods are those that are started anew, etcd's first.
func (o RenewOptions) pods(f *Facts) []op.Pod {
	var pods []op.Pod
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if m, c, ok := observe.Program(f.Manifests, name); ok && o.restarts(f, name) {
			pods = append(pods, op.Pod{Namespace: m.Manifest.Namespace(),
				Name: m.Manifest.Name(), Containers: []string{c}})
		}
	}
	return pods
}

func (o RenewOptions) restartPod(f *Facts, name string) []op.Op {
	var ops []op.Op
	m, _, ok := observe.Program(f.Manifests, name)
	for _, pod := range o.pods(f) {
		if ok && pod.Name == m.Manifest.Name() {
			ops = append(ops, o.restart(f, pod, false))
		}
	}
	return ops
}

func (o RenewOptions) limit() time.Duration {
	if o.WaitTimeout > 0 {
		return o.WaitTimeout
	}
	return renewLimit
}

// restartEtcd waits only for what was there before: certificates that have expired everywhere are
// renewed on one node after the other, and until then there is no quorum.
func (o RenewOptions) restartEtcd() phase {
	return phase{Name: "restart-etcd", Short: "start etcd anew, and see that it serves, with the new certificates",
		InTurn: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := o.restartPod(f, "etcd")
			if len(ops) > 0 && f.Renewal.Serving {
				ops = append(ops, &op.AwaitAnswer{Access: f.Etcd.Access, Limit: o.limit()})
			}
			for _, use := range f.Renewal.Uses {
				if use.program != "etcd" || use.port == "client" && !f.Renewal.Serving {
					continue
				}
				for _, at := range use.addresses {
					ops = append(ops, &op.AwaitServed{Program: "etcd",
						Address: at, Access: use.show, File: use.leaf.CertFile, Limit: o.limit()})
				}
			}
			return ops, nil
		}}
}

func (o RenewOptions) restartAPIServer() phase {
	return phase{Name: "restart-apiserver", Short: "start the API server anew, and wait until it is ready",
		InTurn: true, Commit: true,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			ops := o.restartPod(f, "kube-apiserver")
			if len(ops) > 0 && f.Renewal.Ready {
				ops = append(ops, &op.AwaitAPIServer{API: f.API, Limit: o.limit()})
			}
			return ops, nil
		}}
}
