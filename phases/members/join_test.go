package members

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
	"github.com/etcdpod/etcdpod/templates"
)

// joinFacts are the facts of a node that can join a cluster of one.
func joinFacts(t *testing.T) *Facts {
	t.Helper()
	w := newJoinWorld(t, halfJoins()[0])
	f, err := w.observe(context.Background(), nil, "r1")
	if err != nil {
		t.Fatal(err)
	}
	f.Init.Free = 100 << 30
	return f
}

// listed puts a member at the node's peer URL.
func listed(f *Facts, m observe.Member) {
	m.PeerURLs = []string{ownPeer}
	f.Join.Cluster.Members = append(f.Join.Cluster.Members, MemberFacts{Member: m, Version: "3.6.5"})
	f.Join.Own = &f.Join.Cluster.Members[len(f.Join.Cluster.Members)-1]
}

func TestAJoinIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	first := func(f *Facts) *MemberFacts { return &f.Join.Cluster.Members[0] }
	unreachable := func(why string) func(*Facts) {
		return func(f *Facts) {
			f.Join.Cluster, f.Join.Error = nil, errors.New("cannot reach etcd at https://10.0.0.10:2379: "+why)
		}
	}
	data := func(owner *observe.Stopped) func(*Facts) {
		return func(f *Facts) { f.Init.DataNames, f.Init.DataOwner = []string{"member"}, owner }
	}
	for _, tt := range []struct {
		name      string
		spoil     func(*Facts)
		why, hint string // empty: it is not refused
	}{
		{"all is well", func(*Facts) {}, "", ""},
		{"the kubelet is stopped", func(f *Facts) { f.KubeletActive = false },
			"the kubelet is not running", "start the kubelet"},
		{"the kubelet could not start again", func(f *Facts) {
			f.Obstacles = []observe.Obstacle{{Kubelet: true, What: "its certificate expired", Fix: "make another"},
				{What: "the sandboxes' image is not here yet"}}
		}, "could start again after being stopped: its certificate expired", "make another"},
		{"an image that is pulled when it is needed", func(f *Facts) {
			f.Obstacles = []observe.Obstacle{{What: "the sandboxes' image is not here yet"}}
		}, "", ""},
		{"etcd's image is not there", noImages, "", ""},
		{"etcd's image is not there, and may not be pulled", neverPulled,
			"etcd could not start: etcd's image is not on this node", "pull it"},
		{"the sandboxes' image is not there", func(f *Facts) {
			noImages(f)
			f.Init.NoImages = f.Init.NoImages[1:]
		}, "", ""},
		{"a flag that etcd does not know", func(f *Facts) {
			f.Init.Pod = flagged(t, "--experimental-enable-v2v3=/v3")
			f.Init.Pod.PeerURLs = []string{ownPeer}
		}, "etcd 3.6.5 does not know --experimental-enable-v2v3", "etcd.local.extraArgs"},
		{"the disk for the data is not mounted", func(f *Facts) {
			f.Init.Unmounted = []observe.Obstacle{{What: "nothing is mounted at /var/lib/etcd", Fix: "mount it"}}
		}, "nothing is mounted at /var/lib/etcd", "mount it"},
		{"more data than the quota", func(f *Facts) { first(f).SizeBytes, f.Init.Free = 2200<<20, 1<<40 },
			"the cluster's database takes 2.1 GiB, but this member's quota would be 2.0 GiB", "quota-backend-bytes"},
		{"etcd elsewhere", func(f *Facts) { f.Init.External = true }, "the configuration names an external etcd: no " +
			"member is created on this node", ""},
		{"no CA", func(f *Facts) { f.Init.CertsError = errNoCA() },
			"the CA of the cluster's etcd, etcd/ca.crt, is missing", "from another control plane"},
		{"nobody is known", func(f *Facts) {
			f.Join.Cluster, f.Join.Error = nil, errors.New("nothing on this node names one")
		}, "nothing on this node names one", "--endpoints"},
		{"another CA", unreachable("the server's certificate is not signed by the given CA"),
			"not signed by the given CA", "etcd/ca.crt and its key must be the cluster's: copy them from another " +
				"control plane"},
		{"the members trust a different CA", unreachable("the server rejects the client certificate: bad certificate"),
			"the server rejects the client certificate", "trust a different CA"},
		{"the clock is behind", unreachable("the server's certificate is not valid before 2030-01-01T00:00:00Z"),
			"not valid before", "clock"},
		{"no quorum", func(f *Facts) { f.Join.Cluster.QuorumError = errors.New("etcd did not answer within 10s") },
			"has no quorum", "start the members"},
		{"the name is taken", func(f *Facts) { first(f).Name = "cp1" },
			"the name cp1 is taken by member 1 at https://10.0.0.10:2380", "--node-name"},
		{"a member does not answer", func(f *Facts) { first(f).Error = errors.New("connection refused") },
			"do not answer: cp0 (connection refused)", "start them"},
		{"another node is joining", func(f *Facts) {
			f.Join.Cluster.Members = append(f.Join.Cluster.Members, MemberFacts{
				Member: observe.Member{ID: 9, PeerURLs: []string{"https://10.0.0.12:2380"}, IsLearner: true},
			})
		}, "the learner 9 at https://10.0.0.12:2380", "etcdpod remove 9"},
		{"an alarm", func(f *Facts) { f.Join.Cluster.Alarms = []string{"NOSPACE of member 1"} },
			"NOSPACE of member 1", "disarm"},
		{"the node's etcd is older", func(f *Facts) { first(f).Version = "3.7.3" },
			"is etcd 3.6, but the cluster runs 3.7", "imageTag"},
		{"the node's etcd is one minor newer", func(f *Facts) { first(f).Version = "3.5.35" }, "", ""},
		{"the node's etcd is two minors newer", func(f *Facts) { first(f).Version = "3.4.1" },
			"but the cluster runs 3.4", ""},
		{"an upgrade is under way", func(f *Facts) {
			f.Join.Cluster.Members = append(f.Join.Cluster.Members, MemberFacts{
				Member:  observe.Member{ID: 3, Name: "cp2", PeerURLs: []string{"https://10.0.0.12:2380"}},
				Version: "3.7.3",
			})
		}, "", ""},
		{"pictures in the data directory", func(f *Facts) { f.Init.DataNames = []string{"lost+found", "pictures"} },
			"it holds pictures", "move away"},
		{"data, and nobody knows the node", data(&observe.Stopped{ClusterID: 5, MemberID: 6}),
			"holds an etcd's data, but the cluster has no member at https://10.0.0.11:2380", "move away"},
		{"data of another member", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1", IsLearner: true})
			data(&observe.Stopped{ClusterID: f.Join.Cluster.ID, MemberID: 6})(f)
		}, "holds data of member 6", "move away"},
		{"data of another cluster", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1", IsLearner: true})
			data(&observe.Stopped{ClusterID: 5, MemberID: 7})(f)
		}, "of cluster 5", "move away"},
		{"data that cannot be read", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1", IsLearner: true})
			data(nil)(f)
			f.Init.DataError = errors.New("cut off")
		}, "cannot be read: cut off", "move away"},
		{"its own data", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1", IsLearner: true})
			data(&observe.Stopped{ClusterID: f.Join.Cluster.ID, MemberID: 7})(f)
		}, "", ""},
		{"a voting member whose data is gone", func(f *Facts) { listed(f, observe.Member{ID: 7, Name: "cp1"}) },
			"is a voting member, but its data is not on this node", "etcdpod remove 7"},
		{"a voting member that was emptied, and started on nothing", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There = f.Init.Rendered
			data(&observe.Stopped{ClusterID: f.Join.Cluster.ID, MemberID: 7})(f)
		}, "holds none of the cluster's data: it was emptied", "etcdpod remove 7"},
		{"a voting member with its data, which does not serve", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There = f.Init.Rendered
			data(&observe.Stopped{ClusterID: f.Join.Cluster.ID, MemberID: 7,
				Members: []observe.Member{{ID: 1}, {ID: 7}}})(f)
		}, "", ""},
		{"a first member that was emptied, and began anew under its ids", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There = f.Init.Rendered
			data(&observe.Stopped{ClusterID: f.Join.Cluster.ID, MemberID: 7, Members: []observe.Member{{ID: 7}}})(f)
		}, "holds a separate cluster: it was emptied, and etcd started over", "etcdpod remove 7"},
		{"the same, while it serves", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There, f.Init.DataNames = f.Init.Rendered, []string{"member"}
			f.Live = &observe.Live{ClusterID: f.Join.Cluster.ID, MemberID: 7, Members: []observe.Member{{ID: 7}}}
		}, "etcd on this node serves a separate cluster, with itself as the only member: its data directory was " +
			"emptied, and it started over", "etcdpod remove 7"},
		{"a voting member whose data cannot be read", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There = f.Init.Rendered
			data(nil)(f)
			f.Init.DataError = errors.New("cut off")
		}, "is a voting member, but its data in /var/lib/etcd cannot be read: cut off",
			"move /etc/kubernetes/manifests/etcd.yaml out"},
		{"a voting member whose etcd runs, and does not answer", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There = f.Init.Rendered
			data(nil)(f)
			f.Init.DataError = engine.Refuse("", "it is in use")
		}, "", ""},
		{"a voting member that was emptied, and began a cluster of its own", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There, f.Init.DataNames = f.Init.Rendered, []string{"member"}
			f.Live = &observe.Live{ClusterID: 0xc2, MemberID: 8}
		}, "etcd on this node serves another cluster: it is member 8 of cluster c2", "etcdpod remove 7"},
		{"a member that nobody reaches", func(f *Facts) {
			first(f).PeerURLs = []string{"http://localhost:2380"}
			first(f).ClientURLs = []string{"https://10.0.0.10:2379"}
		}, "cp0 is listed at http://localhost:2380, which no other node can reach",
			"etcdpod members set-peer-url 1 https://10.0.0.10:2380"},
		{"a member that nobody reaches, with another URL", func(f *Facts) {
			first(f).PeerURLs = []string{"http://127.0.0.1:2380", "https://10.0.0.10:2380"}
		}, "", ""},
		{"the node has another name there", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "old", IsLearner: true})
		}, "is named old, not cp1", "--node-name"},
		{"a manifest, and nobody knows the node", func(f *Facts) { f.Init.There = f.Init.Rendered },
			"the cluster has no member at", "move it out"},
		{"a port is taken", func(f *Facts) {
			f.Init.Listeners = []error{errors.New("cannot listen at 127.0.0.1:2379")}
		}, "cannot listen", "stop the other program, or correct the address: advertiseAddress, or etcd's listen-… " +
			"arguments"},
		{"no room", func(f *Facts) { f.Init.Free = 1 << 10 }, "the cluster's database takes 1", "free some space"},
		{"it votes already, and others are joining or dead", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There, f.Init.DataNames = f.Init.Rendered, []string{"member"}
			first(f).Error = errors.New("connection refused")
		}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := joinFacts(t)
			tt.spoil(f)
			_, err := JoinOptions{}.preflight().Plan(context.Background(), f)
			crashtest.Refused(t, err, tt.why, tt.hint)
		})
	}
}

// plannedJoin are the operations that all phases but preflight and certs plan, and their kinds.
func plannedJoin(t *testing.T, f *Facts) (kinds []string, ops []op.Op) {
	t.Helper()
	for _, p := range (JoinOptions{}).phases()[2:] {
		planned, err := p.Plan(context.Background(), f)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, planned...)
	}
	for _, o := range ops {
		if kind := op.Kind(o); kind != "make-directory" {
			kinds = append(kinds, kind)
		}
	}
	return kinds, ops
}

func TestWhatAJoinWarnsOfHasACode(t *testing.T) {
	f := joinFacts(t)
	f.Init.Warnings, f.Join.Notes, f.Init.Pod.Image = []string{"a patch is ignored"}, []string{"not asked"}, "etcd:new"
	var codes []finding.Code
	for _, w := range warnedCluster(f) {
		codes = append(codes, w.Code)
	}
	if !slices.Equal(codes, []finding.Code{finding.KubeadmConfig, finding.KubeadmConfigUnread,
		finding.EtcdVersionUnknown}) {
		t.Errorf("got %q", codes)
	}
}

func TestAJoinPlansWhatIsMissing(t *testing.T) {
	place := []string{"keep-kubelet", "claim-data-directory", "write-manifest"}
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		want   []string
		stale  op.ID
		was    op.ID
	}{
		{"a new node", func(*Facts) {}, slices.Concat([]string{"add-learner"},
			place, []string{"await-answer", "promote-learner", "await-answer"}), 0, 0},
		{"added, not started", func(f *Facts) { listed(f, observe.Member{ID: 7, IsLearner: true}) },
			slices.Concat(place, []string{"await-answer", "promote-learner", "await-answer"}), 0, 7},
		{"added with a vote, not started", func(f *Facts) { listed(f, observe.Member{ID: 7}) },
			slices.Concat(place, []string{"await-answer", "await-answer"}), 0, 0},
		{"started, and its data is gone", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1", IsLearner: true})
		}, slices.Concat([]string{"add-learner"}, place,
			[]string{"await-answer", "promote-learner", "await-answer"}), 7, 0},
		{"started, and the manifest is there", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1", IsLearner: true})
			f.Init.There, f.Init.DataDirExists, f.Init.DataNames = f.Init.Rendered, true, []string{"member"}
		}, []string{"await-answer", "promote-learner", "await-answer"}, 0, 7},
		{"all is done", func(f *Facts) {
			listed(f, observe.Member{ID: 7, Name: "cp1"})
			f.Init.There, f.Init.DataDirExists, f.Init.DataNames, f.Live = f.Init.Rendered,
				true, []string{"member"}, &observe.Live{}
		}, nil, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := joinFacts(t)
			tt.change(f)
			warned := warnedLearner(f)
			if left := tt.stale != 0 || tt.was != 0; left != (len(warned) == 1) ||
				left && (warned[0].Code != finding.LearnerLeft || warned[0].Subject != "7") {
				t.Errorf("it warns of %+v", warned)
			}
			kinds, ops := plannedJoin(t, f)
			if !slices.Equal(kinds, tt.want) {
				t.Errorf("planned %q", kinds)
			}
			for _, o := range ops {
				switch o := o.(type) {
				case *op.AddLearner:
					if o.Stale != tt.stale || len(o.Others) != 1 || o.Others[0].Name != "cp0" {
						t.Errorf("added as %+v", o)
					}
				case *op.WriteManifest:
					if tt.name == "added with a vote, not started" {
						if o.Enrolment != nil {
							t.Errorf("on the way back a member that voted before would be removed: %+v", o.Enrolment)
						}
					} else if o.Enrolment == nil || o.Enrolment.Was != tt.was {
						t.Errorf("leaves as %+v", o.Enrolment)
					}
				}
			}
		})
	}
}

func TestTheManifestThatIsThereStaysWhereItDiffersInTheOrderOfMembersOnly(t *testing.T) {
	other := func(f *Facts, cluster string) {
		was := "--initial-cluster=cp0=" + otherPeer + ",cp1=" + ownPeer
		text := strings.Replace(string(f.Init.Rendered), was, "--initial-cluster="+cluster, 1)
		f.Init.There = []byte(text)
	}
	for _, tt := range []struct {
		name, cluster string
		data          []string
		stays         bool
	}{
		{"another order", "cp1=" + ownPeer + ",cp0=" + otherPeer, nil, true},
		{"other members, but no data", "cp1=" + ownPeer, nil, false},
		{"other members, and data", "cp1=" + ownPeer, []string{"member"}, true},
	} {
		f := joinFacts(t)
		other(f, tt.cluster)
		f.Init.DataNames = tt.data
		if err := f.Init.keepManifest(); err != nil {
			t.Fatal(err)
		}
		if err := checkManifest(f); (err == nil) != tt.stays {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// etcd compares --initial-cluster with all URLs of each member (etcd,
// server/etcdserver/api/membership: ValidateClusterAndAssignIDs).
func TestAMemberIsRenderedWithAllItsPeerURLs(t *testing.T) {
	got := membersRendered([]observe.Member{{ID: 10, PeerURLs: []string{"https://10.0.0.10:2380"}},
		{ID: 2, Name: "cp2", PeerURLs: []string{"https://10.0.0.12:2380", "https://[fd00::12]:2380"}}})
	want := []templates.Member{{Name: "a", PeerURL: "https://10.0.0.10:2380"},
		{Name: "cp2", PeerURL: "https://10.0.0.12:2380"}, {Name: "cp2", PeerURL: "https://[fd00::12]:2380"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestASinglePhaseOfJoinNeedsWhatTheOthersMake(t *testing.T) {
	for _, tt := range []struct {
		phase  string
		change func(*Facts)
		why    string
	}{
		{"add-learner", func(*Facts) {}, "etcd/healthcheck-client.crt to present to the members"},
		{"add-learner", func(f *Facts) { f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()} }, ""},
		{"add-learner", func(f *Facts) {
			f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()}
			f.Join.Cluster.Members[0].Name = "cp1"
		}, "the name cp1 is taken"},
		{"add-learner", func(f *Facts) {
			f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()}
			f.Join.Cluster.Members[0].Version = "3.7.3"
		}, "but the cluster runs 3.7"},
		{"add-learner", func(f *Facts) {
			f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()}
			f.Join.Cluster.Alarms = []string{"NOSPACE of member 1"}
		}, "NOSPACE of member 1"},
		{"render-etcd", func(f *Facts) {
			listed(f, observe.Member{ID: 7, IsLearner: true})
			f.Join.Cluster.Members[0].Name = "cp1"
		}, "the name cp1 is taken"},
		{"render-etcd", func(f *Facts) {
			f.Join.Cluster, f.Join.Error = nil, errors.New("connection refused")
			f.Init.There = f.Init.Rendered
		}, "no member of the cluster can be queried: connection refused"},
		{"promote-learner", func(f *Facts) {
			f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()}
			listed(f, observe.Member{ID: 7, Name: "cp1", IsLearner: true})
			f.Init.DataNames = []string{"member"}
			f.Init.There = f.Init.Rendered
			f.Join.Cluster.Members[0].Name = "cp1"
		}, "the name cp1 is taken"},
		{"render-etcd", func(*Facts) {}, "the cluster does not know this node yet"},
		{"render-etcd", func(f *Facts) { listed(f, observe.Member{ID: 7, IsLearner: true}) }, ""},
		{"await-started", func(f *Facts) { f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()} },
			"/etc/kubernetes/manifests/etcd.yaml does not exist"},
		{"promote-learner", func(f *Facts) { f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()} },
			"the cluster does not know this node yet"},
		{"promote-learner", func(f *Facts) {
			f.Init.Certs = pki.Plan{Keep: pki.EtcdSpecs()}
			listed(f, observe.Member{ID: 7, IsLearner: true})
		}, ""},
	} {
		f := joinFacts(t)
		f.Init.Whole = false
		tt.change(f)
		flow, err := JoinPhase(JoinOptions{}, tt.phase)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := flow.Phases[0].Plan(context.Background(), f); (err == nil) != (tt.why == "") ||
			err != nil && !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: got %v, not %q", tt.phase, err, tt.why)
		}
	}
}
