package observe_test

import (
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// A host may be called otherwise than kubeadm's node, which is what etcd, the runs and the other
// nodes call it.
func TestANodeWithoutEtcdKeepsItsName(t *testing.T) {
	for name, c := range map[string]struct {
		removed    bool
		kubeconfig string
		want       string
	}{
		"nothing tells":                          {false, "", "vm"},
		"its kubelet tells":                      {false, kubeconfig(t, 9), "cp1"},
		"its certificate has expired":            {false, kubeconfig(t, -1), "cp1"},
		"a kubeconfig that is none of a kubelet": {false, "}", "vm"},
		"its last run tells":                     {true, "", "cp3"},
		"its kubelet has another name by now":    {true, kubeconfig(t, 9), "cp1"},
	} {
		t.Run(name, func(t *testing.T) {
			machine := crashtest.Shape{}.Machine(t)
			w := crashtest.Over(t, "cp3", machine, machine)
			if c.removed {
				w.Removed()
			} else if err := machine.Remove(crashtest.TestManifestDir + "/etcd.yaml"); err != nil {
				t.Fatal(err)
			}
			if c.kubeconfig != "" {
				err := machine.Create("/etc/kubernetes/kubelet.conf", []byte(c.kubeconfig), node.Attr{Mode: 0o600})
				if err != nil {
					t.Fatal(err)
				}
			}
			look := *w.Process.Look
			look.Name = "vm"
			if got, err := look.KubeName(); err != nil || got != c.want {
				t.Errorf("it is %q, %v", got, err)
			}
			if f := look.ObserveAround(t.Context(), "r1"); f.Node != c.want {
				t.Errorf("workflows call it %+v", f)
			}
		})
	}
}

func TestNothingIsChangedWhereTheKubeletReadsASingleFile(t *testing.T) {
	w := crashtest.Alone(t, crashtest.Shape{}.Machine(t))
	w.Process.Look.Config.StaticPodPath = etcdYAML
	if _, err := w.Process.Look.Observe(t.Context(), "r1"); err == nil ||
		!strings.Contains(err.Error(), "from the single file "+etcdYAML) {
		t.Error(err)
	}
}
