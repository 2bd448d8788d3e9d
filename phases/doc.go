// Package phases opens a node for etcdpod's commands. The workflows are in packages of their own,
// one for each family; each is a list of phases at the head of its package:
//
//	backup            backup.Workflow
//	restore           restore.Workflow, as a joint workflow restore.Joint
//	init              members.Init, one phase of it members.InitPhase
//	join              members.Join, one phase of it members.JoinPhase
//	renew             certs.Renew
//	request           certs.Request
//	apiserver         apiserver.Set
//
// restore.Together carries the joint workflow out. What only looks has no phases: status.Of and
// status.OfNodes, certs.Check, apiserver.Show, backup.List and backup.Verify. prune.Delete deletes
// what runs kept. How all of it goes together is in docs/architecture.md.
package phases
