// Package phases opens a node for etcdpod's commands. Each family of workflows has a package of its
// own, and each workflow is a list of phases at the head of its package:
//
//	backup            backup.Workflow
//	restore           restore.Workflow, as a joint workflow restore.Joint
//	init              members.Init, one phase of it members.InitPhase
//	join              members.Join, one phase of it members.JoinPhase
//	remove            as a joint workflow members.RemoveJoint
//	readdress         members.Readdress, as a joint workflow members.ReaddressJoint
//	replace           as a joint workflow members.ReplaceJoint
//	handover          as a joint workflow members.HandoverJoint
//	renew             certs.Renew
//	request           certs.Request
//	apiserver         apiserver.Set, as a joint workflow apiserver.Joint
//	upgrade           as a joint workflow upgrade.Joint
//	downgrade         as a joint workflow upgrade.DownJoint
//
// restore.Together, members.Remove, members.Replace, members.ReaddressTogether,
// apiserver.SetTogether, upgrade.Together and upgrade.DownTogether plan the joint workflows, and
// what they return carries the plan out. members.PlanMove, members.PlanPeerURL and
// upgrade.PlanCancel change the cluster by one request, and defrag.Plan has each member do what
// nothing undoes: there is nothing to journal. Commands that only look have no phases: status.Of
// and status.OfNodes, members.List, certs.Check, apiserver.Show and apiserver.ShowNodes,
// upgrade.Ahead, backup.List and backup.Verify. rehearse.Rehearse leaves nothing that a journal
// would have to know. prune.Delete deletes what runs kept.
// docs/architecture.md shows how it all fits together.
package phases
