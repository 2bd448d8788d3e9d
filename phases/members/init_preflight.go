package members

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/certs"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/journal"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// preflight refuses an init that would fail later, before anything is touched. The refusals of
// certs and render-etcd come before anything is touched too, because all phases are planned first.
func (o InitOptions) preflight() phase {
	return phase{Name: "preflight", Short: "check everything first", Found: foundInit, Findings: warnedInit,
		Plan: func(_ context.Context, f *Facts) ([]op.Op, error) {
			checks := []func(*Facts) error{clockIsRight, checkKubelet, checkDoubled, checkRendered, checkListeners}
			if f.Init.External {
				checks = checks[:2]
			}
			return nil, engine.Passes(f, checks...)
		}}
}

// warnedInit says what is odd in kubeadm's configuration, and which images are still to come.
func warnedInit(f *Facts) (warned []finding.Finding) {
	for _, odd := range f.Init.Warnings {
		warned = append(warned, finding.New(finding.KubeadmConfig, "", "%s", odd))
	}
	for _, o := range f.Init.NoImages {
		if o.Unpulled {
			continue // it is refused
		}
		warned = append(warned, finding.New(finding.StartUnknown, strings.Join(o.Manifests, ", "), "%s: the kubelet "+
			"will have to pull it. To be sure, %s", o.What, o.Fix))
	}
	for _, o := range f.Init.Doubts {
		warned = append(warned, o.Doubt())
	}
	return warned
}

func foundInit(f *Facts) (found []string) {
	if f.Init.External {
		return []string{"the configuration names an external etcd"}
	}
	found = append(found, fmt.Sprintf("%s is member %s, at %s; its data is in %s, with %s free",
		f.Init.Pod.Image, f.Init.Pod.Name, strings.Join(f.Init.Pod.PeerURLs, ", "), f.Init.DataDir,
		engine.Size(f.Init.Free)))
	if f.Init.There == nil && f.Init.DataOwner != nil {
		found = append(found, "the data directory holds the member's own data, and is used as it is")
	}
	return found
}

func clockIsRight(f *Facts) error { return certs.CheckClock(f.Facts) }

// checkKubelet refuses without a kubelet, which starts etcd. kubeadm starts the kubelet only after
// it has written the manifests; beside kubeadm, use the single phases.
func checkKubelet(f *Facts) error {
	err := f.CheckKubeletRuns("start etcd", "start the kubelet first; or, if kubeadm starts it later, run `etcdpod "+
		"init phase certs` and `etcdpod init phase render-etcd`, which do not need it")
	if err != nil {
		return err
	}
	if err := f.CheckKubeletStarts(); err != nil { // on the way back it is stopped for a moment
		return err
	}
	return f.CheckRuntime()
}

// checkRendered makes all checks of the rendered manifest that need no kubelet. For a joining
// member, join checks what the data directory may hold.
func checkRendered(f *Facts) error {
	if f.Init.Pod != nil && f.Init.There == nil {
		if err := observe.CheckResolved([]observe.ManifestFile{f.Init.Pod.File}); err != nil {
			return err
		}
	}
	checks := []func(*Facts) error{checkAccess, checkManifest, checkFlags, checkQuota, checkNames, checkPorts,
		checkWAL, checkMounts, checkImages}
	if f.Join == nil {
		checks = append(checks, checkNewData)
	}
	return engine.Passes(f, checks...)
}

func checkDoubled(f *Facts) error { return f.CheckDoubled() }

// checkMounts refuses to begin data below a mount point: once the disk is mounted it would be
// hidden.
func checkMounts(f *Facts) error {
	for _, o := range f.Init.Unmounted {
		return engine.Refuse(o.Fix, "%s", o.What)
	}
	return nil
}

// checkManifest refuses to replace a manifest that differs from the rendered one: somebody wrote
// it.
func checkManifest(f *Facts) error {
	i := f.Init
	switch {
	case i.Other != "":
		return engine.Refuse("the kubelet runs every file in that directory, whatever its name: move one of them out",
			"%s already runs etcd, or a pod of that name: %s would be a second one", i.Other, i.ManifestPath)
	case i.There == nil || bytes.Equal(i.There, i.Rendered):
		return nil
	}
	return engine.Refuse("change the configuration to match it, or move the file out of the directory; to change the "+
		"flags of a serving etcd, edit its manifest",
		"%s exists, but differs from what would be written: %s", i.ManifestPath, difference(i.There, i.Rendered))
}

// checkFlags refuses flags that this version of etcd does not have: it would exit at once.
func checkFlags(f *Facts) error {
	wrong := f.Init.Pod.UnknownFlags(f.Init.Pod.Version(), false)
	if len(wrong) == 0 || f.Init.There != nil {
		return nil
	}
	return engine.Refuse("remove them from etcd.local.extraArgs and the patches, or use this version's names for "+
		"them; for those that kubeadm sets itself, run the etcd that belongs to kubernetesVersion: remove "+
		"etcd.local.imageTag", "etcd %s does not know %s, and would exit at once", f.Init.Pod.Version(),
		strings.Join(wrong, ", "))
}

// differing is how many differing lines are shown.
const differing = 6

// difference lists the lines that only one of two manifests has.
func difference(there, wanted []byte) string {
	count := map[string]int{}
	for line := range strings.Lines(string(wanted)) {
		count[strings.TrimSpace(line)]++
	}
	var lines []string
	for line := range strings.Lines(string(there)) {
		if line = strings.TrimSpace(line); count[line] > 0 {
			count[line]--
		} else if line != "" {
			lines = append(lines, fmt.Sprintf("it has %q", line))
		}
	}
	for line := range strings.Lines(string(wanted)) {
		if line = strings.TrimSpace(line); count[line] > 0 && line != "" {
			count[line]--
			lines = append(lines, fmt.Sprintf("it lacks %q", line))
		}
	}
	if len(lines) == 0 {
		return "its lines are in a different order or indented differently"
	}
	if more := len(lines) - differing; more > 0 {
		lines = append(lines[:differing], fmt.Sprintf("and %d more lines", more))
	}
	return strings.Join(lines, ", ")
}

// checkNewData refuses a data directory that is neither empty nor the member's own.
func checkNewData(f *Facts) error {
	i := f.Init
	if i.There != nil {
		return nil
	}
	const move = "choose another dataDir, or move away what is there"
	others := strangersIn(i.DataNames)
	switch {
	case len(others) > 0:
		return engine.Refuse(move, "the data directory %s is not empty: it holds %s",
			i.DataDir, strings.Join(others, ", "))
	case i.DataError != nil:
		return engine.Refuse(move, "the data directory %s holds an etcd's data that cannot be read: %v",
			i.DataDir, i.DataError)
	case i.DataOwner == nil:
		return nil
	}
	if len(i.DataOwner.Members) > 1 {
		if err := i.Pod.CheckForced(); err != nil {
			return err
		}
	}
	var names []string
	for _, m := range i.DataOwner.Members {
		if m.Name == i.Pod.Name && slices.Equal(m.PeerURLs, i.Pod.PeerURLs) {
			return nil
		}
		names = append(names, fmt.Sprintf("%s at %s", observe.MemberName(m), strings.Join(m.PeerURLs, ", ")))
	}
	return engine.Refuse(move, "the data directory %s holds data of another cluster: its members are %[4]s, and "+
		"%[2]s at %[3]s is not one of them", i.DataDir, i.Pod.Name, strings.Join(i.Pod.PeerURLs, ", "+
		""), strings.Join(names, "; "))
}

// strangersIn are the names in a data directory that belong neither to etcd nor to a run.
func strangersIn(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return name == "member" || slices.Contains(node.NobodysNames(), name) ||
			strings.HasPrefix(name, journal.HiddenDir(""))
	})
}

// checkNames refuses certificates that do not name the hosts where etcd is dialled: clients and
// peers would reject them.
func checkNames(f *Facts) error {
	if f.Init.There != nil || len(f.Init.Uncovered) == 0 {
		return nil
	}
	return engine.Refuse("add it to the names in the configuration; an existing certificate keeps its names: move it "+
		"and its key away to have them created again", "%s", strings.Join(f.Init.Uncovered, "; "))
}

// checkWAL refuses a WAL without its data: etcd would take it up, and become a member that nobody
// meant.
func checkWAL(f *Facts) error {
	i := f.Init
	isLog := func(name string) bool { return strings.HasSuffix(name, ".wal") }
	if i.There != nil || slices.Contains(i.DataNames, "member") || !slices.ContainsFunc(i.WALNames, isLog) {
		return nil
	}
	return engine.Refuse("move away what is there",
		"the WAL directory %s holds the WAL of an etcd whose data is not in %s", i.Pod.WALDir, i.DataDir)
}

// checkPorts refuses two listeners at one address.
func checkPorts(f *Facts) error {
	if f.Init.There != nil {
		return nil
	}
	all := f.Init.listeners()
	for i, a := range all {
		for _, b := range all[:i] {
			if a.clashes(b) {
				return engine.Refuse("give them different ports",
					"etcd cannot listen twice at one address: --%s has %s and --%s has %s",
					b.flag, b.address, a.flag, a.address)
			}
		}
	}
	return nil
}

// checkListeners refuses an address that is taken: etcd would exit at once, again and again.
func checkListeners(f *Facts) error {
	if len(f.Init.Listeners) == 0 {
		return nil
	}
	return engine.Refuse("stop the other program, or correct the address: advertiseAddress, or etcd's listen-… "+
		"arguments", "etcd %v", errors.Join(f.Init.Listeners...))
}

// mostQuota is the quota above which etcd warns (server/storage/quota.go: maxQuotaBytes).
const mostQuota = 8 << 30

// checkQuota refuses a quota that is no number, with which etcd does not start, and one with which
// the database may fill the disk.
func checkQuota(f *Facts) error {
	value := f.Init.Pod.Setting("", observe.QuotaSetting)
	if value == "" || f.Init.There != nil {
		return nil
	}
	quota, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err != nil:
		return engine.Refuse("give a number of bytes: 8589934592 is 8 GiB", "quota-backend-bytes is %q", value)
	case quota < 0:
		return engine.Refuse("leave it out for 2 GiB, or give a number of bytes",
			"quota-backend-bytes is %d: without a quota the database grows until the disk is full", quota)
	case quota > mostQuota:
		return engine.Refuse("etcd is made for at most 8589934592 bytes",
			"quota-backend-bytes is %d, above 8 GiB", quota)
	case quota > 0 && uint64(quota) > f.Init.Free:
		return engine.Refuse("lower it, or free some space", "quota-backend-bytes is %s, but only %s is free in %s",
			engine.Size(quota), engine.Size(f.Init.Free), f.Init.DataDir)
	}
	return nil
}
