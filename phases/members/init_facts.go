package members

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
	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// InitFacts are what `init` depends on besides observe.Facts.
type InitFacts struct {
	Warnings    []string // of the configuration
	External    bool     // etcd runs elsewhere
	HealthCheck time.Duration

	// For certs.
	CertificatesDir string
	PKI             pki.Config
	Certs           pki.Plan
	CertsError      error    // why the existing files cannot be used
	MissingCertDirs []string // outermost first

	// For etcd's manifest.
	Rendered            []byte
	ManifestPath        string
	There               []byte // what is there already; nil: nothing
	Other               string // another file that runs etcd
	MissingManifestDirs []string
	Pod                 *observe.EtcdPod   // as rendered
	Unmounted           []observe.Obstacle // disks that its data should be on
	// Of the pod's images and that of the sandboxes: those that are not on this node, and what
	// could not be found out.
	NoImages, Doubts []observe.Obstacle
	Access           op.Access
	Wish             apiserver.EtcdFlags // for the API server
	Kubeadms         apiserver.EtcdFlags // what kubeadm would write for it
	// With its current flags the API server reaches the cluster of the local etcd.
	Wired bool
	// Advertised URLs whose hosts the certificates do not name.
	Uncovered []string

	DataDir         string
	DataDirExists   bool
	MissingDataDirs []string // above it
	DataNames       []string // what is in it
	WALNames        []string // what is in a WAL directory of its own
	KeepData        string   // a directory on the same mount, for what must not get lost
	Free            uint64   // bytes, where the data will be
	// Whose data DataDir holds; nil when there is none, or when DataError says why that is unknown.
	DataOwner *observe.Stopped
	DataError error

	// All phases run: the kubelet starts what is rendered, and etcd is stopped if the run goes
	// back.
	Whole bool
	// Why etcd could not listen at some addresses.
	Listeners []error
}

// certFile is a host path.
func (i *InitFacts) certFile(below string) string { return path.Join(i.CertificatesDir, below) }

// observer gathers only what the given phases need. certs and render-etcd work beside kubeadm, on a
// root where nothing runs.
func (o InitOptions) observer(phase string) func(context.Context, *observe.Node, string) (*Facts, error) {
	return func(ctx context.Context, n *observe.Node, id string) (*Facts, error) {
		c, err := o.Read(n, false, nil)
		if err != nil {
			return nil, err
		}
		whole := phase == "" || phase == "preflight"
		look := n.Observe
		if !whole && phase != "await-etcd" && phase != "wire-apiserver" {
			look = n.ObserveFiles
		}
		seen, err := look(ctx, id)
		if err != nil {
			return nil, err
		}
		f := &Facts{Facts: seen, Init: initFactsOf(c, phase == "")}
		f.Node = c.NodeName
		if f.Init.External {
			observeWiring(ctx, n, f, c)
			return f, nil
		}
		if whole || phase == "certs" {
			f.Init.Certs, f.Init.CertsError = planCerts(n, f)
		}
		if phase == "certs" {
			return f, nil
		}
		patches, err := observe.ReadPatches(c.PatchesDir)
		if err != nil {
			return nil, err
		}
		if patches != nil {
			f.Init.Warnings = append(f.Init.Warnings, patches.Ignored...)
		}
		if f.Init.Rendered, err = c.EtcdManifest(patches, nil); err != nil {
			return nil, &engine.UsageError{Reason: fmt.Sprintf("cannot render etcd's manifest: %v", err)}
		}
		if err := observeManifest(n, f); err != nil {
			return nil, err
		}
		observeWiring(ctx, n, f, c)
		if f.Init.There == nil {
			observeData(ctx, n, f)
		}
		if whole {
			observeStart(ctx, n, f)
		}
		return f, nil
	}
}

// planCerts examines the files below the certificates directory. It reads keys only to compare them
// with their certificates, and forgets them.
func planCerts(n *observe.Node, f *Facts) (pki.Plan, error) {
	have := pki.Files{}
	for _, spec := range pki.EtcdSpecs() {
		for _, file := range []string{spec.CertFile(), spec.KeyFile()} {
			data, err := n.ReadOptional(f.Init.certFile(file))
			if err != nil {
				return pki.Plan{}, err
			}
			if data != nil {
				have[file] = data
			}
		}
		f.Init.MissingCertDirs = n.Missing(f.Init.MissingCertDirs, path.Dir(f.Init.certFile(spec.CertFile())))
	}
	return f.Init.PKI.Plan(pki.EtcdSpecs(), have, f.Now)
}

// observeManifest examines where the manifest and the data will be.
func observeManifest(n *observe.Node, f *Facts) (err error) {
	i := f.Init
	i.ManifestPath = path.Join(f.ManifestDir, "etcd.yaml")
	if i.There, err = n.ReadOptional(i.ManifestPath); err != nil {
		return err
	}
	for _, m := range f.Manifests {
		if m.Manifest == nil || m.Path == i.ManifestPath {
			continue
		}
		_, runs := m.Manifest.Runs("etcd")
		runs = runs && !observe.KeepsElse(f.Manifests, m)
		// The kubelet runs only one of two static pods with the same name.
		if runs || m.Manifest.Namespace() == "kube-system" && m.Manifest.Name() == "etcd" {
			i.Other = m.Path
		}
	}
	m, err := manifests.Parse(i.Rendered)
	if err != nil {
		return fmt.Errorf("cannot use the manifest of etcd that was rendered: %w", err)
	}
	file := observe.ManifestFile{Path: i.ManifestPath, Data: i.Rendered, Manifest: m}
	if i.Pod, err = n.EtcdPod([]observe.ManifestFile{file}); err != nil {
		return err
	}
	if i.Pod == nil {
		return engine.Refuse("check the patches", "the rendered manifest runs no etcd")
	}
	i.Access = i.Pod.Access
	if !i.Access.Typed && strings.HasPrefix(i.Access.Endpoints[0], "https://") {
		client := i.certFile("etcd/healthcheck-client")
		i.Access.CACert, i.Access.Cert, i.Access.Key = i.certFile("etcd/ca.crt"), client+".crt", client+".key"
	}
	i.MissingManifestDirs = n.Missing(nil, path.Dir(i.ManifestPath))
	i.DataDir = i.Pod.DataDir // patches may have moved it
	i.MissingDataDirs = n.Missing(nil, path.Dir(i.DataDir))
	i.DataNames, err = n.FS.ReadDir(i.DataDir)
	i.DataDirExists = err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look into the data directory: %w", err)
	}
	if i.DataNames, err = withoutEmpty(n.FS, i.DataDir, i.DataNames); err != nil {
		return fmt.Errorf("cannot look into the data directory: %w", err)
	}
	if i.WALNames = nil; i.Pod.WALDir != "" {
		if i.WALNames, err = n.FS.ReadDir(i.Pod.WALDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot look into the WAL directory: %w", err)
		}
	}
	if err := observeNames(n, f); err != nil {
		return err
	}
	return observeKept(n, f)
}

// withoutEmpty leaves a member that holds no file out of the names in a data directory: to etcd it
// is no data, either.
func withoutEmpty(files node.Reader, dir string, names []string) ([]string, error) {
	i := slices.Index(names, "member")
	if i < 0 {
		return names, nil
	}
	_, empty, err := node.OnlyDirs(files, path.Join(dir, "member"))
	if empty {
		names = slices.Delete(slices.Clone(names), i, i+1)
	}
	return names, err
}

// observeNames compares the URLs that etcd would advertise with the certificates that it would show
// there, if these are kubeadm's.
func observeNames(n *observe.Node, f *Facts) error {
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
		there, err := n.ReadOptional(file)
		if err != nil {
			continue // certs reports a file that cannot be used
		}
		missing, err := i.PKI.Uncovered(spec, there, observe.HostsOf(observe.SplitList(i.setting(at.flag))))
		if err == nil && len(missing) > 0 {
			i.Uncovered = append(i.Uncovered, fmt.Sprintf("--%s names %s, which %s does not cover (etcd.local.%s)",
				at.flag, strings.Join(missing, ", "), file, at.sans))
		}
	}
	return nil
}

// observeKept finds a place on the same mount as the data.
func observeKept(n *observe.Node, f *Facts) error {
	near := observe.Nearest(n.FS, f.Init.DataDir)
	same, err := node.SameMount(n.FS, near, observe.Nearest(n.FS, journal.RunDir(f.Run)))
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

func observeData(ctx context.Context, n *observe.Node, f *Facts) {
	f.Init.Unmounted = n.Unmounted(false, f.Init.Pod.WALDir, f.Init.DataDir, f.Init.Pod.DataDir)
	if i := f.Init; slices.Contains(i.DataNames, "member") {
		i.DataOwner, i.DataError = n.Stopped(ctx, i.Pod)
	}
}

// observeStart finds out what would keep an etcd from starting that does not serve yet.
func observeStart(ctx context.Context, n *observe.Node, f *Facts) {
	if f.Live == nil {
		f.Init.NoImages, f.Init.Doubts = n.ImagesOf(ctx, f.Facts, f.Init.Pod)
	}
	if f.Init.There != nil {
		return
	}
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

// clashes says whether etcd cannot listen at both addresses. Within one flag, etcd listens only
// once at an address that is named twice.
func (l listening) clashes(o listening) bool {
	host, port, err := net.SplitHostPort(l.address)
	other, same, otherErr := net.SplitHostPort(o.address)
	if err != nil || otherErr != nil || port != same {
		return false
	}
	if host == other {
		return l.flag != o.flag
	}
	everywhere := func(host string) bool {
		ip := net.ParseIP(host)
		return host == "" || ip != nil && ip.IsUnspecified()
	}
	return everywhere(host) || everywhere(other)
}

func (i *InitFacts) listeners() []listening {
	var all []listening
	for _, flag := range []string{
		"listen-client-urls", "listen-client-http-urls", "listen-peer-urls", "listen-metrics-urls",
	} {
		for _, raw := range observe.SplitList(i.Pod.Setting("", flag)) {
			if u, err := url.Parse(raw); err == nil && u.Host != "" {
				all = append(all, listening{flag, u.Host})
			}
		}
	}
	return all
}
