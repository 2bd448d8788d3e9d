package status

import (
	"slices"

	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// unreadCA is a file of CAs that was written after the program had started that reads it then, and
// never again. (Certificates and keys are read anew; the API server's --client-ca-file is, too.)
type unreadCA struct{ file, program string }

func unreadCAs(n *observe.Node, f *observe.Facts) (all []unreadCA) {
	look := func(program string, m observe.ManifestFile, name string, files ...string) {
		c := observe.ContainerOf(f.Containers, f.Manifests, m, name)
		if c == nil || c.State != "running" {
			return
		}
		slices.Sort(files)
		for _, file := range slices.Compact(files) {
			if file == "" {
				continue
			}
			resolved, err := n.Resolve(file)
			if err != nil {
				continue // what is missing is said elsewhere
			}
			if st, err := n.FS.Lstat(resolved); err == nil && st.ModTime.After(c.CreatedAt) {
				all = append(all, unreadCA{file, program})
			}
		}
	}
	if f.Etcd != nil {
		look("etcd", f.Etcd.File, f.Etcd.Container, f.Etcd.TrustedCA,
			f.Etcd.SettingFile(observe.PeerSecurity, "peer-trusted-ca-file"))
	}
	if m, c, ok := observe.Program(f.Manifests, "kube-apiserver"); ok {
		look("kube-apiserver", m, c, observe.HostFile(m, c, observe.FlagOf(m, c, "etcd-cafile")))
	}
	return all
}

// judgeCAs warns of trust that changes with the next start, whenever that is.
func (s seen) judgeCAs() (w found) {
	for _, ca := range s.unread {
		w = append(w, finding.New(finding.CAUnread, ca.file, "%s was last modified after %s started, which reads it "+
			"only then: if it holds other CAs than before, %[2]s trusts them only after a restart (`crictl stop`)",
			ca.file, ca.program))
	}
	return w
}
