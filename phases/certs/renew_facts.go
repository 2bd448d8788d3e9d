package certs

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// RenewalFacts are what is known about the certificates to renew.
type RenewalFacts struct {
	Uses     []certUse                 // what is renewed
	Problems map[string][]*pki.Problem // of the CAs, by file
	External []string                  // CAs whose keys are not here, by file
	Exposed  []string                  // key files that everybody may read
	Signed   map[string]signedPair     // by name; with From only
	// As the cluster stores it. If it cannot be read, certificates keep their old settings.
	Config      observe.ClusterConfiguration
	ConfigError error            // why it cannot be read
	Serving     bool             // etcd answers, with a quorum
	Ready       bool             // the API server is ready
	Silent      []observe.Member // voting members elsewhere that do not answer
	Host        string           // this machine's name
	Size        int64            // of etcd's database; 0: not known
	// Deaf are addresses where etcd listens and cannot be reached from here, although it is at
	// others: nothing is waited for there.
	Deaf []string
}

func (o RenewOptions) check() error {
	if o.From != "" && !path.IsAbs(o.From) {
		return &engine.UsageError{Reason: "--from needs an absolute path"}
	}
	return knownNames(o.Names)
}

func (o RenewOptions) observe(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
	seen, err := n.Observe(ctx, id)
	if err != nil {
		return nil, err
	}
	f := &Facts{Facts: seen}
	uses := findUses(n, f.Manifests, f.Etcd, f.Etcd == nil && n.TraceOfEtcd(f.Manifests) != "")
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
	r.Ready = observe.HasAPIServer(f.Facts) && op.Serves(n.API.Ready(ctx, f.API))
	r.Host, r.Size, r.Deaf = n.Name, n.SizeOf(f.Facts), deaf(shown(ctx, n, r.Uses, f.Now))
	r.Silent = slices.DeleteFunc(n.Silent(ctx, f.Live), func(m observe.Member) bool { return m.IsLearner })
	f.Renewal = r
	return f, nil
}

// deaf are the addresses where nothing answers, of certificates that are served at another one.
func deaf(all []ServedReport) (deaf []string) {
	for _, s := range all {
		heard := slices.ContainsFunc(all, func(o ServedReport) bool {
			return o.Name == s.Name && o.Error == ""
		})
		if s.Error != "" && heard {
			deaf = append(deaf, s.Address)
		}
	}
	return deaf
}

// readableByAll is false for a file that cannot be examined: reading it says why.
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
