package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
)

func TestAPIServersOfSeveralNodesReadWell(t *testing.T) {
	const url = "https://10.0.0.11:2379"
	shown := apiserver.NodesReport{Nodes: []apiserver.NodeReport{
		{Node: "cp1", Report: &apiserver.Report{Manifest: "/etc/kubernetes/manifests/kube-apiserver.yaml",
			Servers: []apiserver.EndpointReport{{URL: url, Serves: true, Name: "cp1", Role: "leader", Version: "3.6.5",
				ClusterID: "c"}},
			Files: []apiserver.EtcdFileReport{{Flag: "--etcd-cafile", Path: "/etc/kubernetes/pki/etcd/ca.crt",
				NotAfter: day(300), DaysLeft: 300}},
			Compared: "kubeadm's defaults", Warnings: []string{"one of them is a learner"}}},
		{Node: "cp2", Error: "cp2: no manifest in /etc/kubernetes/manifests runs an API server", Hint: "create one"},
		{Node: "cp3", Error: "cannot reach cp3"},
	}}
	change := engine.PlannedPhase{Name: "set", Short: "change the API server's manifest", Commit: true,
		Operations: []string{"set --etcd-servers=" + url}}
	plan := engine.TogetherPlan{
		Nodes: []engine.NodePlan{
			{Node: "cp1", Plan: engine.Plan{Workflow: "apiserver", Phases: []engine.PlannedPhase{change}}},
			{Node: "cp2", Plan: engine.Plan{Workflow: "apiserver", Phases: []engine.PlannedPhase{
				{Name: "set", Short: change.Short, Commit: true, Found: []string{"it already has these flags"}}}}},
		},
		Stakes: engine.Stakes{AwaySeconds: 15, AwayNodes: []string{"cp1", "cp3"}, InTurn: true,
			Back: []string{"`etcdpod apiserver set`"}},
	}
	var b bytes.Buffer
	writeAPIServers(&b, shown)
	golden(t, filepath.Join("testdata", "text-apiservers.golden"), b.String())
	b.Reset()
	writeTogether(&b, plan, true, 80)
	writeStakes(&b, plan.Stakes, 80)
	golden(t, filepath.Join("testdata", "text-plan-nodes.golden"), b.String())
	if plan.Empty() || !(engine.TogetherPlan{Nodes: plan.Nodes[1:]}).Empty() {
		t.Error("what is empty is told wrongly")
	}
}
