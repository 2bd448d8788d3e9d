package phases

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/pki"
)

// InitFacts are what `init` depends on besides.
type InitFacts struct {
	Warnings    []string // of the configuration
	External    bool     // etcd runs elsewhere
	HealthCheck time.Duration

	// Of certs.
	CertificatesDir string
	PKI             pki.Config
	Certs           pki.Plan
	CertsError      error    // why what is there cannot be used
	MissingCertDirs []string // outermost first

	// Of etcd's manifest.
	Rendered            []byte
	ManifestPath        string
	There               []byte // what is there already; nil: nothing
	Other               string // another file that runs etcd
	MissingManifestDirs []string
	Pod                 *EtcdPod // as rendered
	Access              op.Access
	Wish                EtcdFlags // of the API server
	Kubeadms            EtcdFlags // that kubeadm would write for it
	Wired               bool      // it reaches the cluster of the etcd here with those that it has
	Uncovered           []string  // what is wrong with the names of the certificates, for the URLs that etcd would advertise

	DataDir         string
	DataDirExists   bool
	MissingDataDirs []string // above it
	DataNames       []string // what is in it
	WALNames        []string // what is in a WAL directory of its own
	KeepData        string   // a directory on the same mount, for what must not get lost
	Free            uint64   // bytes, where the data will be
	DataOwner       *Stopped // whose data is in it; nil when there is none, or DataError says why it cannot be told
	DataError       error

	Whole     bool    // all phases: the kubelet starts what is rendered, and is stopped where the run goes back
	Listeners []error // of the addresses where etcd could not listen, why
}

// certFile is a host path.
func (i *InitFacts) certFile(below string) string { return path.Join(i.CertificatesDir, below) }

// observer gathers what the phases need: of a single one, nothing that it does not. certs and render-etcd work beside kubeadm, on a root where nothing runs.
func (o InitOptions) observer(phase string) func(context.Context, *View, string) (*factsOfMember, error) {
	return func(ctx context.Context, n *View, id string) (*factsOfMember, error) {
		c, err := o.read(n, false, nil)
		if err != nil {
			return nil, err
		}
		whole := phase == "" || phase == "preflight"
		look := n.observe
		if !whole && phase != "await-etcd" && phase != "wire-apiserver" {
			look = func(_ context.Context, id string) (*Facts, error) { return n.observeFiles(id) }
		}
		seen, err := look(ctx, id)
		if err != nil {
			return nil, err
		}
		f := &factsOfMember{Facts: seen, Init: initFactsOf(c, phase == "")}
		f.Node = c.NodeName
		if f.Init.External {
			n.observeWiring(ctx, f, c)
			return f, nil
		}
		if whole || phase == "certs" {
			f.Init.Certs, f.Init.CertsError = n.planCerts(f)
		}
		if phase == "certs" {
			return f, nil
		}
		patches, err := readPatches(c.PatchesDir)
		if err != nil {
			return nil, err
		}
		if patches != nil {
			f.Init.Warnings = append(f.Init.Warnings, patches.Ignored...)
		}
		if f.Init.Rendered, err = c.EtcdManifest(patches, nil); err != nil {
			return nil, &UsageError{Reason: fmt.Sprintf("cannot render etcd's manifest: %v", err)}
		}
		if err := n.observeManifest(f); err != nil {
			return nil, err
		}
		n.observeWiring(ctx, f, c)
		if f.Init.There == nil {
			n.observeData(ctx, f)
		}
		if whole && f.Init.There == nil {
			n.observeListeners(ctx, f)
		}
		return f, nil
	}
}

// observeFiles is observe without anything that runs.
func (n *View) observeFiles(id string) (*Facts, error) {
	f := &Facts{Run: id, Now: n.Clock.Now().UTC(), Node: n.Name, ManifestDir: n.Config.StaticPodPath, StaticPodURL: n.Config.StaticPodURL}
	var err error
	f.Manifests, err = n.manifests(f.ManifestDir)
	return f, err
}

// planCerts looks at what is there below the certificates directory. Keys are read to be held against their certificates, and forgotten.
func (n *View) planCerts(f *factsOfMember) (pki.Plan, error) {
	have := pki.Files{}
	for _, spec := range pki.EtcdSpecs() {
		for _, file := range []string{spec.CertFile(), spec.KeyFile()} {
			data, err := n.readOptional(f.Init.certFile(file))
			if err != nil {
				return pki.Plan{}, err
			}
			if data != nil {
				have[file] = data
			}
		}
		f.Init.MissingCertDirs = n.missing(f.Init.MissingCertDirs, path.Dir(f.Init.certFile(spec.CertFile())))
	}
	return f.Init.PKI.Plan(pki.EtcdSpecs(), have, f.Now)
}

// missing adds a directory, and those above it, that are not there to those that are known not to be; the outermost come first.
func (n *View) missing(known []string, dir string) []string {
	for ; dir != "/" && !n.thereIs(dir); dir = path.Dir(dir) {
		if !slices.Contains(known, dir) {
			known = append(known, dir)
		}
	}
	slices.Sort(known) // a directory comes before what is in it
	return known
}

// observeManifest looks at where the manifest and the data will be.
func (n *View) observeManifest(f *factsOfMember) (err error) {
	i := f.Init
	i.ManifestPath = path.Join(f.ManifestDir, "etcd.yaml")
	if i.There, err = n.readOptional(i.ManifestPath); err != nil {
		return err
	}
	for _, m := range f.Manifests {
		if m.Manifest == nil || m.Path == i.ManifestPath {
			continue
		}
		_, runs := m.Manifest.Runs("etcd")
		if runs || m.Manifest.Namespace() == "kube-system" && m.Manifest.Name() == "etcd" { // of two static pods of one name the kubelet runs one
			i.Other = m.Path
		}
	}
	m, err := manifests.Parse(i.Rendered)
	if err != nil {
		return fmt.Errorf("cannot use the manifest of etcd that was rendered: %w", err)
	}
	file := ManifestFile{Path: i.ManifestPath, Data: i.Rendered, Manifest: m}
	if i.Pod, err = n.etcdPod([]ManifestFile{file}); err != nil {
		return err
	}
	if i.Pod == nil {
		return refuse("look at the patches", "what was rendered runs no etcd")
	}
	i.Access = i.Pod.Access
	if !i.Access.Typed && strings.HasPrefix(i.Access.Endpoints[0], "https://") {
		client := i.certFile("etcd/healthcheck-client")
		i.Access.CACert, i.Access.Cert, i.Access.Key = i.certFile("etcd/ca.crt"), client+".crt", client+".key"
	}
	i.MissingManifestDirs = n.missing(nil, path.Dir(i.ManifestPath))
	i.DataDir = i.Pod.DataDir // patches may have moved it
	i.MissingDataDirs = n.missing(nil, path.Dir(i.DataDir))
	i.DataNames, err = n.FS.ReadDir(i.DataDir)
	i.DataDirExists = err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look into the data directory: %w", err)
	}
	if i.WALNames = nil; i.Pod.WALDir != "" {
		if i.WALNames, err = n.FS.ReadDir(i.Pod.WALDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot look into the WAL directory: %w", err)
		}
	}
	if err := n.observeNames(f); err != nil {
		return err
	}
	return n.observeKept(f)
}

// observeNames holds the URLs that etcd would advertise against the certificates that it would show there, where these are kubeadm's.
func (n *View) observeNames(f *factsOfMember) error {
	i := f.Init
	i.Uncovered = nil
	for _, at := range []struct{ cert, file, flag, sans string }{
		{"etcd-server", "cert-file", "advertise-client-urls", "serverCertSANs"},
		{"etcd-peer", "peer-cert-file", "initial-advertise-peer-urls", "peerCertSANs"},
	} {
		spec, err := pki.EtcdSpec(at.cert)
		if err != nil {
			return err
		}
		file := i.certFile(spec.CertFile())
		if path.Clean(i.setting(at.file)) != file {
			continue
		}
		there, err := n.readOptional(file)
		if err != nil {
			continue // of what cannot be used, certs tells
		}
		missing, err := i.PKI.Uncovered(spec, there, hostsOf(list(i.setting(at.flag))))
		if err == nil && len(missing) > 0 {
			i.Uncovered = append(i.Uncovered, fmt.Sprintf("--%s names %s, which %s is not for (etcd.local.%s)", at.flag, strings.Join(missing, ", "), file, at.sans))
		}
	}
	return nil
}

// observeKept finds a place on the same mount as the data.
func (n *View) observeKept(f *factsOfMember) error {
	near := nearest(n.FS, f.Init.DataDir)
	same, err := node.SameMount(n.FS, near, nearest(n.FS, journal.RunDir(f.Run)))
	if err != nil {
		return err
	}
	f.Init.KeepData = journal.RunDir(f.Run)
	if !same {
		f.Init.KeepData = path.Join(f.Init.DataDir, journal.HiddenDir(f.Run))
	}
	f.Init.Free, err = n.FS.Free(near)
	return err
}

func (n *View) observeData(ctx context.Context, f *factsOfMember) {
	if i := f.Init; slices.Contains(i.DataNames, "member") {
		i.DataOwner, i.DataError = n.stopped(ctx, i.Pod)
	}
}

func (n *View) observeListeners(ctx context.Context, f *factsOfMember) {
	for _, l := range f.Init.listeners() {
		if err := node.CanListen(ctx, l.address); err != nil {
			f.Init.Listeners = append(f.Init.Listeners, err)
		}
	}
}

// listening is an address where the rendered etcd will listen.
type listening struct {
	flag    string
	address string // host:port
}

// clashes: within one flag etcd itself listens once at what is named twice.
func (l listening) clashes(o listening) bool {
	host, port, err := net.SplitHostPort(l.address)
	other, same, otherErr := net.SplitHostPort(o.address)
	if err != nil || otherErr != nil || port != same {
		return false
	}
	if host == other {
		return l.flag != o.flag
	}
	everywhere := func(host string) bool { ip := net.ParseIP(host); return host == "" || ip != nil && ip.IsUnspecified() }
	return everywhere(host) || everywhere(other)
}

func (i *InitFacts) listeners() []listening {
	var all []listening
	for _, flag := range []string{"listen-client-urls", "listen-client-http-urls", "listen-peer-urls", "listen-metrics-urls"} {
		for _, raw := range list(flagOf(i.Pod.File, i.Pod.Container, flag)) {
			if u, err := url.Parse(raw); err == nil && u.Host != "" {
				all = append(all, listening{flag, u.Host})
			}
		}
	}
	return all
}
