package members

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/internal/sim"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// readdress is stopped at every step. These hold at each of them, and at the end:
//   - All is old, or all is new: manifests, certificates with their keys, what programs hold of
//     these, and the peer URL in the list of members. Nothing is mixed.
//   - The member keeps its id and its data, and the others are a quorum throughout.
//   - The list never names a URL before etcd has answered there.
//   - An etcd or API server that ran before runs afterwards.

const (
	oldAddress = "10.0.0.11"
	newAddress = "10.0.0.21"
)

// mover is one shape of a node whose address has changed.
type mover struct {
	name    string
	members int
	down    bool // etcd does not serve beforehand: the old address is gone
	listed  bool // only the list of members is wrong
}

func movers() []mover {
	return []mover{
		{name: "one of three, which serves at the old address", members: 3},
		{name: "one of three, whose old address is gone", members: 3, down: true},
		{name: "alone", members: 1},
		{name: "only the list of members is wrong", members: 3, listed: true},
	}
}

// Title names the case.
func (v mover) Title() string { return v.name }

func addressedManifests(address string) map[string]string {
	flags := fmt.Sprintf("    - --advertise-client-urls=https://%[1]s:2379\n"+
		"    - --initial-advertise-peer-urls=https://%[1]s:2380\n    - --initial-cluster=cp1=https://%[1]s:2380\n"+
		"    - --listen-client-urls=https://127.0.0.1:2379,https://%[1]s:2379\n"+
		"    - --listen-peer-urls=https://%[1]s:2380\n", address)
	const at = "    - --data-dir=/var/lib/etcd\n"
	return map[string]string{
		"etcd": strings.Replace(crashtest.EtcdManifest(""), at, at+flags, 1),
		"kube-apiserver": crashtest.PodManifest("kube-apiserver", "    - --advertise-address="+address+
			"\n    - --etcd-servers=https://127.0.0.1:2379\n", ""),
	}
}

func (v mover) at() string {
	if v.listed {
		return newAddress
	}
	return oldAddress
}

// Machine is a node before its member follows.
func (v mover) Machine(t *testing.T) *sim.Machine {
	t.Helper()
	m := crashtest.Shape{Prepare: func(d *sim.Disk) {
		for name, text := range addressedManifests(v.at()) {
			file := path.Join(crashtest.TestManifestDir, name+".yaml")
			if err := errors.Join(d.Remove(file), d.Create(file, []byte(text), node.Attr{Mode: 0o600})); err != nil {
				t.Fatal(err)
			}
		}
		if err := node.MkdirAll(d, crashtest.TestPKI+"etcd", node.Attr{Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"server", "peer"} {
			for ending, word := range map[string]string{".crt": "cert", ".key": "key"} {
				if err := d.Create(crashtest.TestPKI+"etcd/"+name+ending, fmt.Appendf(nil, "%s %d", word, i),
					node.Attr{Mode: 0o600}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}}.Machine(t)
	m.Members = &sim.Members{URL: "https://" + oldAddress + ":2380", Name: "cp1", Next: 3}
	for i := range v.members {
		name := fmt.Sprintf("cp%d", i+1)
		m.Members.All = append(m.Members.All, op.Member{ID: op.ID(i + 1), Name: name,
			PeerURLs: []string{fmt.Sprintf("https://10.0.0.%d:2380", 11+i)}})
	}
	m.PowerOn(map[string][]string{"etcd": {crashtest.TestPKI + "etcd/server", crashtest.TestPKI + "etcd/peer"}})
	return m
}

// moving is that node with an etcdpod.
type moving struct {
	*crashtest.Node
	from mover
}

func (w moving) observe(_ context.Context, _ *observe.Node, run string) (*ReaddressFacts, error) {
	seen, err := w.Observe(run)
	if err != nil {
		return nil, err
	}
	seen.KubeletActive = true
	seen.Containers, _ = w.Machine.Host().Runtime.Containers(context.Background())
	addressed(seen.Etcd)
	f := &ReaddressFacts{Facts: seen, Ready: !w.from.down, Voters: w.from.members, Others: w.from.members - 1,
		Own: &w.Machine.Members.All[0], Ways: []op.Access{seen.Etcd.Access}}
	if !w.from.down {
		seen.Live = &observe.Live{ClusterID: sim.ClusterID, MemberID: 1, Members: w.Machine.Members.All}
	}
	has := machine{has: func(address string) bool { return address == newAddress },
		choose: func() string { return newAddress }}
	if err := (ReaddressOptions{}).decide(f, has); err != nil {
		return nil, err
	}
	if err := f.render(); err != nil {
		return nil, err
	}
	after := *seen.Etcd
	if f.EtcdChange != "" {
		after.File = f.After.File
		addressed(&after)
		for _, name := range []string{"server", "peer"} {
			base := crashtest.TestPKI + "etcd/" + name
			f.Certs = append(f.Certs, addressCert{name: "etcd-" + name, cert: base + ".crt", key: base + ".key",
				ca: crashtest.TestPKI + "etcd/ca.crt", issue: true})
		}
	}
	f.After, f.Starts = &after, seen
	return f, nil
}

// addressed reads where an etcd advertises itself.
func addressed(pod *observe.EtcdPod) {
	pod.PeerURLs = observe.SplitList(pod.Setting("", "initial-advertise-peer-urls"))
	pod.ClientURLs = observe.SplitList(pod.Setting("", "advertise-client-urls"))
	pod.Peer = op.Access{Endpoints: pod.PeerURLs}
}

func (w moving) readdress() error {
	flow := Readdress(ReaddressOptions{})
	flow.Observe = w.observe
	return w.Do(flow.On(w.Process.Look))
}

// outcome says whether the node and the list of members are wholly old or wholly new; if neither,
// what is wrong.
func (w moving) outcome() (string, error) {
	v, err := w.OldOrNew(w.isNew)
	own := w.Machine.Members.All[0]
	at := map[string]string{"old": oldAddress, "new": newAddress}[v]
	switch stale := w.Machine.Stale(); {
	case err != nil:
		return "", err
	case len(stale) > 0:
		return "", errors.New(strings.Join(stale, "\n"))
	case w.from.listed: // nothing else can tell
		return map[string]string{"https://" + oldAddress + ":2380": "old",
			"https://" + newAddress + ":2380": "new"}[own.PeerURLs[0]], nil
	case own.ID != 1 || own.PeerURLs[0] != "https://"+at+":2380":
		return "", fmt.Errorf("the node is %s, and the members are %v", v, w.Machine.Members.All)
	}
	return v, nil
}

func (w moving) isNew(look string) error {
	for name, want := range addressedManifests(newAddress) {
		if now, err := w.Machine.ReadFile(path.Join(crashtest.TestManifestDir, name+".yaml")); err != nil ||
			string(now) != want {
			return fmt.Errorf("the manifest is\n%s\n%v", now, err)
		}
	}
	for _, name := range []string{"server", "peer"} {
		cert, key := string(w.Machine.Peek(crashtest.TestPKI+"etcd/"+name+".crt")),
			string(w.Machine.Peek(crashtest.TestPKI+"etcd/"+name+".key"))
		if !strings.HasPrefix(cert, "cert new") || cert[len("cert "):] != key[len("key "):] {
			return fmt.Errorf("%s is %q with %q", name, cert, key)
		}
	}
	return crashtest.Shows(look, "kubelet true\n", "runs etcd old\n", "runs kube-apiserver ")
}

func readdressCases() []crashtest.Case {
	return crashtest.Cases(movers(), func(v mover, w *crashtest.Node, _ *sim.Machine) crashtest.Subject {
		r := moving{w, v}
		return crashtest.Subject{Run: r.readdress, Outcome: r.outcome}
	})
}

func TestAnAddressIsFollowedWhollyOrNotAtAllWhateverHappens(t *testing.T) {
	crashtest.Everything(t, readdressCases())
}

// Whoever sets another URL meanwhile knows why. The run goes back, and leaves it.
func TestAPeerURLThatSomebodyElseSetsStays(t *testing.T) {
	const theirs = "https://10.0.0.99:2380"
	for _, step := range []string{"start the kubelet", "hear the answer: set the peer URLs"} {
		w := moving{crashtest.Alone(t, movers()[0].Machine(t)), movers()[0]}
		w.Machine.Before = func(call string) {
			if call == step {
				w.Machine.Members.All[0].PeerURLs, w.Machine.Members.URL = []string{theirs}, theirs
			}
		}
		var back *engine.RolledBackError
		if err := w.readdress(); !errors.As(err, &back) || !strings.Contains(err.Error(), "someone else has set it to "+
			theirs) {
			t.Errorf("%s: %v", step, err)
		}
		if look, err := w.Ended(); look != w.First || err != nil || w.Machine.Members.All[0].PeerURLs[0] != theirs {
			t.Errorf("%s: %v, the members are %v:\n%s", step, err, w.Machine.Members.All, look)
		}
	}
}

// The list must not name a URL at which perhaps nothing ever answers.
func TestTheMembersAreToldOfAURLWhenEtcdAnswersThere(t *testing.T) {
	for _, c := range readdressCases() {
		calls := c.Calls(t)
		told := slices.Index(calls, "set the peer URLs")
		manifest := slices.IndexFunc(calls, func(call string) bool {
			return strings.Contains(call, crashtest.TestManifestDir+"/etcd.yaml")
		})
		started := slices.Index(calls[max(0, manifest):], "start the kubelet")
		if told < 0 || manifest >= 0 && (told < manifest || started < 0 || told < manifest+started) {
			t.Errorf("%s: told at %d, of %d and %d:\n%s", c.Name, told, manifest, started, strings.Join(calls, "\n"))
		}
	}
}
