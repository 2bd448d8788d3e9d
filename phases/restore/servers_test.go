package restore

import (
	"bytes"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

func TestTheAPIServersEntriesThatNamedOldMembersAreRewritten(t *testing.T) {
	joint := &Shared{OldHosts: []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"},
		ClientURLs: []string{"https://10.0.0.1:2379", "https://10.0.1.2:2379", "https://10.0.1.3:2379"}}
	for _, tt := range []struct{ name, now, want string }{
		{"localhost stays", "https://127.0.0.1:2379", ""},
		{"members that stay", "https://10.0.0.1:2379", ""},
		{"one that is gone", "https://10.0.0.2:2379",
			"https://10.0.0.1:2379,https://10.0.1.2:2379,https://10.0.1.3:2379"},
		{"all of them", "https://10.0.0.1:2379,https://10.0.0.2:2379,https://10.0.0.3:2379",
			"https://10.0.0.1:2379,https://10.0.1.2:2379,https://10.0.1.3:2379"},
		{"a balancer stays, in its place", "https://lb.example:2379,https://10.0.0.3:2379",
			"https://lb.example:2379,https://10.0.0.1:2379,https://10.0.1.2:2379,https://10.0.1.3:2379"},
		{"a balancer alone", "https://lb.example:2379", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := []byte(crashtest.PodManifest("kube-apiserver", "    - --etcd-servers="+tt.now+" # by hand\n", ""))
			m, err := manifests.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			file := observe.ManifestFile{Path: "/etc/kubernetes/manifests/kube-apiserver.yaml", Data: data, Manifest: m}
			put := &op.PutBackManifest{File: op.File{Data: data}}
			o := restorer{Shared: joint}
			if err := o.rewireAPIServer(&Facts{Facts: &observe.Facts{Node: "cp1"}}, file, put); err != nil {
				t.Fatal(err)
			}
			want := data
			if tt.want != "" {
				want = bytes.Replace(data, []byte(tt.now), []byte(tt.want), 1)
			}
			if !bytes.Equal(put.Data, want) {
				t.Errorf("got\n%s\nwant\n%s", put.Data, want)
			}
			found := strings.Join(finding.Texts(
				o.warnedOfServers(&Facts{Facts: &observe.Facts{Manifests: []observe.ManifestFile{file}}})), "\n")
			if warns := strings.Contains(found, "--etcd-servers names https://lb.example:2379, which is not a "+
				"member: make sure that it leads to the members of the restored cluster"); warns !=
				strings.Contains(tt.now, "lb.example") {
				t.Errorf("found %q", found)
			}
		})
	}
}

// --etcd-servers may be given more than once, and each one counts: a member that is gone must not
// stay in the first.
func TestAnOldMemberIsRewrittenInWhicheverFlagItIs(t *testing.T) {
	data := []byte(crashtest.PodManifest("kube-apiserver", "    - --etcd-servers=https://10.0.0.3:2379\n"+
		"    - --etcd-servers=https://127.0.0.1:2379\n", ""))
	m, err := manifests.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	put := &op.PutBackManifest{File: op.File{Data: data}}
	o := restorer{Shared: &Shared{OldHosts: []string{"10.0.0.1", "10.0.0.3"},
		ClientURLs: []string{"https://10.0.0.1:2379"}}}
	err = o.rewireAPIServer(&Facts{Facts: &observe.Facts{Node: "cp1"}},
		observe.ManifestFile{Data: data, Manifest: m}, put)
	if err != nil || bytes.Contains(put.Data, []byte("10.0.0.3")) ||
		bytes.Count(put.Data, []byte("--etcd-servers=https://127.0.0.1:2379,https://10.0.0.1:2379")) != 1 {
		t.Errorf("%v\n%s", err, put.Data)
	}
}
