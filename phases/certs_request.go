package phases

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// RequestOptions are what a person may ask of `certs generate-csr`.
type RequestOptions struct {
	Names []string // as for `certs renew`
	Dir   string   // --csr-dir, a host path: etcd/server.key and etcd/server.csr and so on are written below it
}

// CertRequests are the files that `certs generate-csr` wrote; the names in JSON are stable.
type CertRequests struct {
	Requests []string `json:"requests"` // host paths, each ending in .csr; the key is beside it
}

// RequestCerts makes keys and requests, and returns where they are.
func (n *Node) RequestCerts(ctx context.Context, o RequestOptions) (CertRequests, error) {
	made := CertRequests{Requests: []string{}}
	err := n.Do(ctx, RequestCerts(o), func(p Plan) error {
		for _, phase := range p.Phases {
			for _, o := range phase.ops {
				if r, ok := o.(*op.RequestCertificate); ok {
					made.Requests = append(made.Requests, r.To+".csr")
				}
			}
		}
		return nil
	})
	return made, err
}

// RequestFacts describe where requests are to be written.
type RequestFacts struct {
	Missing []string // directories on the way that are not there, outermost first
	Taken   []string // files that are there already
}

func (o RequestOptions) observe(ctx context.Context, n *Node, id string) (*Facts, error) {
	if !path.IsAbs(o.Dir) {
		return nil, &UsageError{Reason: "--csr-dir needs an absolute path: keys and requests are written there", Hint: "it must not be the directory whose keys are in use"}
	}
	f, err := RenewOptions{Names: o.Names}.observe(ctx, n, id)
	if err != nil {
		return nil, err
	}
	f.Request = &RequestFacts{}
	for _, use := range f.Renewal.Uses {
		to, err := o.place(use)
		if err != nil {
			return nil, err
		}
		for dir := path.Dir(to); dir != "/" && !n.thereIs(dir); dir = path.Dir(dir) {
			if !slices.Contains(f.Request.Missing, dir) {
				f.Request.Missing = append(f.Request.Missing, dir)
			}
		}
		for _, file := range []string{to + ".key", to + ".csr"} {
			if n.thereIs(file) {
				f.Request.Taken = append(f.Request.Taken, file)
			}
		}
	}
	slices.Sort(f.Request.Missing) // a directory comes before what is in it
	return f, nil
}

// place is where a request goes, without .csr: as kubeadm has it below the certificates directory.
func (o RequestOptions) place(use certUse) (string, error) {
	s, err := pki.EtcdSpec(use.name)
	return path.Join(o.Dir, s.Base), err
}

func (o RequestOptions) preflight() Phase {
	return Phase{Name: "preflight", Short: "refuse what cannot be asked for, before anything is written", Found: RenewOptions{}.found,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			if len(f.Renewal.Uses) == 0 {
				return nil, refuse("`etcdpod certs check` shows what there is", "no manifest in %s names a certificate of etcd", f.ManifestDir)
			}
			if len(f.Request.Taken) > 0 {
				return nil, refuse("name another --csr-dir, or move away what is there", "%s is there already: a key is never overwritten", f.Request.Taken[0])
			}
			for _, use := range f.Renewal.Uses {
				if use.leaf.Cert == nil {
					return nil, refuse("", "%s cannot be asked for: %s, which says for whom it is, is not there", use.name, use.leaf.CertFile)
				}
				if _, err := pki.Inspect(use.leaf.CertFile, use.leaf.Cert, f.Now); err != nil {
					return nil, fmt.Errorf("cannot ask for %s: %w", use.name, err)
				}
			}
			return nil, nil
		}}
}

func (o RequestOptions) request() Phase {
	return Phase{Name: "generate-csr", Short: "make keys, and requests for an external CA",
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			var ops []op.Op
			for _, dir := range f.Request.Missing {
				ops = append(ops, &op.MakeDirectory{Path: dir, Attr: node.Mine(0o700)})
			}
			for _, use := range f.Renewal.Uses {
				to, err := o.place(use)
				if err != nil {
					return nil, err
				}
				ops = append(ops, &op.RequestCertificate{Issuance: f.issuance(use), To: to})
			}
			return ops, nil
		}}
}
