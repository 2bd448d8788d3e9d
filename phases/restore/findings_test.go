package restore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// codesOf are the codes of what a plan warns of. Each is on the node, and told to people as well.
func codesOf(t *testing.T, plan engine.Plan, node string) (codes []finding.Code) {
	t.Helper()
	for _, p := range plan.Phases {
		for _, f := range p.Findings {
			codes = append(codes, f.Code)
			if f.Node != node || f.Severity == "" || !slices.Contains(p.Found, f.Text) {
				t.Errorf("%+v is not on %s, or not told: %q", f, node, p.Found)
			}
		}
	}
	return codes
}

func TestAllThatAPlanWarnsOfHasACode(t *testing.T) {
	f := plannedFacts(t)
	flagged(t, f, "", "    startupProbe: {periodSeconds: 2, failureThreshold: 3}\n")
	f.Snapshot.Proof.SizeBytes, f.Data.Free, f.Data.RunFree = 1<<30, 1<<40, 1<<40
	f.Snapshot.DeadAPIServers, f.Snapshot.NoAdmins = []string{"10.9.8.7"}, true
	f.Doubts = []observe.Obstacle{{What: "whether all images are here is not known"}}
	f.Uncounted = []string{"somebody's sidecar does not count"}
	f.Encryption.Untried, f.Encryption.Unasked = []string{"k8s:enc:kms:v1:a:"}, []string{"the KMS does not answer"}
	f.Kubeconfigs = []observe.Kubeconfig{
		{Path: "/old.conf", Problem: "it has expired"}, {Path: f.API.Kubeconfig, NeedsBinding: true},
	}
	f.Manifests = append(f.Manifests, observe.ManifestFile{Path: "/m/README", Error: errors.New("no pod")})
	plan, err := Workflow(Options{File: "/backup/snapshot.db", SkipHashCheck: true}).Planned(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	codes := codesOf(t, plan, f.NodeName())
	for _, want := range []finding.Code{
		finding.StartLimit, finding.StartUnknown, finding.RevisionUncounted, finding.EncryptionUntried,
		finding.APIServerDead, finding.KubeconfigUnusable, finding.ObjectsNotReadBack, finding.HashNotCompared,
	} {
		if !slices.Contains(codes, want) {
			t.Errorf("nothing has the code %s: %q", want, codes)
		}
	}
}

// empty is an API server of a cluster in which there is nothing.
type empty struct{ op.APIServer }

func (empty) Counts(context.Context, op.APIAccess, int64) ([]op.Count, error) { return nil, nil }

func (empty) Nodes(context.Context, op.APIAccess) ([]string, error) { return nil, nil }

// idle is a runtime that runs nothing.
type idle struct{ node.Runtime }

func (idle) Containers(context.Context) ([]node.Container, error) { return nil, nil }

func TestAWarningOfTheSnapshotKeepsItsCodeInTheRun(t *testing.T) {
	var warned []finding.Finding
	target := &op.Target{Warn: func(f finding.Finding) { warned = append(warned, f) },
		Host: &node.Host{Clock: node.WallClock(), Runtime: idle{}}, APIServer: empty{}}
	dead := finding.New(finding.APIServerDead, "10.9.8.7", "100%% of it")
	body, err := op.Encode(&op.VerifyRestored{Warnings: []finding.Finding{dead}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := op.Decode("verify-restored", body)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Do(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(warned, dead) || !strings.Contains(dead.Text, "100% of it") {
		t.Errorf("it warns of %+v", warned)
	}
}
