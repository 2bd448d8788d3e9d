package certs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// silent is a runtime that does not answer.
type silent struct{ node.Runtime }

func (silent) Image(context.Context, string) (node.Image, error) {
	return node.Image{}, errors.New("connection refused")
}

func TestImagesThatNobodyCouldLookForAreAFinding(t *testing.T) {
	w := crashtest.Alone(t, crashtest.Shape{}.Machine(t))
	look := func() string {
		r, err := Check(t.Context(), w.Process.Look)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(r.Warnings, "\n")
	}
	const said = "could not check whether all images are on this node: connection refused"
	if got := look(); strings.Contains(got, "images") {
		t.Errorf("where the runtime answers it says %q", got)
	}
	host := *w.Process.Host
	host.Runtime = silent{host.Runtime}
	w.Process.Look.View = host.View()
	if got := look(); !strings.Contains(got, said) {
		t.Errorf("where it does not it says %q", got)
	}
}

// etcd's manifest was moved away, and the API server lists all members: none of them at a loopback
// address. Nothing of etcd's is named by a manifest any more.
func TestWhatOughtToBeThereAndIsNotIsTheFinding(t *testing.T) {
	for _, tt := range []struct {
		name, servers string
		want          []string
	}{
		{"the member of this node", "https://10.0.0.12:2379,https://10.0.0.11:2379", []string{
			"etcd-manifest-missing", "certificate-missing etcd/server.crt", "certificate-missing etcd/peer.crt"}},
		{"members of other nodes alone", "https://10.0.0.12:2379,https://10.0.0.13:2379", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			machine := crashtest.Shape{}.Machine(t)
			w := crashtest.Alone(t, machine)
			etcd, server := crashtest.TestManifestDir+"/etcd.yaml", crashtest.TestManifestDir+"/kube-apiserver.yaml"
			for _, file := range []string{etcd, server} {
				if err := machine.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			text := crashtest.PodManifest("kube-apiserver",
				"    - --etcd-servers="+tt.servers+"\n    - --advertise-address=10.0.0.11\n", "")
			if err := machine.Create(server, []byte(text), node.Attr{Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			r, err := Check(t.Context(), w.Process.Look)
			if err != nil {
				t.Fatal(err)
			}
			var about []string
			for _, f := range r.Findings {
				about = append(about, string(f.Code)+" "+strings.TrimPrefix(f.Subject, inPKI("")+"/"))
			}
			for _, want := range []string{
				"etcd-manifest-missing", "certificate-missing etcd/server.crt", "certificate-missing etcd/peer.crt",
			} {
				found := slices.ContainsFunc(about, func(is string) bool { return strings.HasPrefix(is, want) })
				if found != slices.Contains(tt.want, want) {
					t.Errorf("that it finds %s is %v: %q, next %q", want, found, about, r.Next)
				}
			}
		})
	}
}

// Whoever put the manifest of a removed member back would start an etcd that exits at once.
func TestTheManifestOfARemovedMemberIsNotMissed(t *testing.T) {
	w := crashtest.Alone(t, crashtest.Shape{}.Machine(t))
	run := w.Removed()
	r, err := Check(t.Context(), w.Process.Look)
	if err != nil {
		t.Fatal(err)
	}
	var codes []finding.Code
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	if slices.Contains(codes, finding.EtcdManifestMissing) || !slices.Contains(codes, finding.EtcdDeparted) ||
		!strings.Contains(strings.Join(r.Warnings, "; "), run) || strings.Contains(r.Next, "put the manifest") {
		t.Errorf("it finds %q, and next %q", r.Warnings, r.Next)
	}
}
