package observe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/internal/flags"
)

// UnknownFlags are the flags of the pod that a version of etcd does not have: it ends with "flag
// provided but not defined". serves says that it serves with them.
func (p *EtcdPod) UnknownFlags(version string, serves bool) (wrong []string) {
	release := flags.Of(fmt.Sprintf("3.%d", EtcdMinor(version)))
	if release == nil {
		return nil // nothing is known about it
	}
	for _, flag := range p.File.Manifest.Flags(p.Container) {
		if !hasFlag(release, flag.Name, serves) && !slices.Contains(wrong, "--"+flag.Name) {
			wrong = append(wrong, "--"+flag.Name)
		}
	}
	return wrong
}

// wrongFlags are those of etcd with which it would exit at once. An etcd that serves was started
// with the flags of its manifest only if a kubelet has acted on that.
func wrongFlags(f *Facts) (all []Obstacle) {
	if f.Etcd == nil {
		return nil
	}
	m := f.Etcd.File
	started := f.Live != nil && (f.KubeletActive || f.KubeletError != nil)
	if wrong := f.Etcd.UnknownFlags(f.EtcdVersion(), started); len(wrong) > 0 {
		all = append(all, Obstacle{Manifests: []string{m.Path},
			What: fmt.Sprintf("etcd %s does not know %s in %s, and exits at once",
				f.EtcdVersion(), strings.Join(wrong, ", "), m.Path),
			Fix: fmt.Sprintf("remove them from %s, or use this version's names for them", m.Path)})
	}
	if wrong := f.Etcd.invalidFlags(); len(wrong) > 0 {
		all = append(all, Obstacle{Manifests: []string{m.Path},
			What: fmt.Sprintf("etcd cannot read the value of %s in %s, and exits at once", strings.Join(wrong, ", "),
				m.Path),
			Fix: fmt.Sprintf("correct it in %s: a plain number, without a unit, or true or false", m.Path)})
	}
	return all
}

// numbers are flags of etcd that have been whole numbers in each of its versions, and switches
// those that are true or false.
func numbers() []string {
	return strings.Fields("election-timeout heartbeat-interval max-request-bytes max-snapshots max-txn-ops max-wals " +
		"quota-backend-bytes snapshot-count")
}

func switches() []string {
	return strings.Fields("auto-tls client-cert-auth enable-pprof force-new-cluster peer-auto-tls " +
		"peer-client-cert-auth pre-vote strict-reconfig-check unsafe-no-fsync")
}

// invalidFlags are those whose value etcd cannot read, with it (package flag).
func (p *EtcdPod) invalidFlags() (wrong []string) {
	for _, flag := range p.File.Manifest.Flags(p.Container) {
		value, known := p.File.Manifest.Expand(p.Container, flag.Value)
		if !known {
			continue
		}
		var err error
		switch {
		case slices.Contains(numbers(), flag.Name):
			_, err = strconv.ParseInt(value, 0, 64)
		case slices.Contains(switches(), flag.Name):
			_, err = strconv.ParseBool(value)
		}
		if err != nil {
			wrong = append(wrong, "--"+flag.Name+"="+value)
		}
	}
	return wrong
}

// sincePatch is a flag that came with patch releases after those of the tables.
const sincePatch = "client-cert-allowed-cn"

// hasFlag says whether a release of etcd knows a flag. Of one that no release of the tables knows,
// an etcd that serves proves the contrary.
func hasFlag(release *flags.Release, name string, serves bool) bool {
	switch {
	case release.Flag(name) != nil, name == sincePatch:
		return true
	case slices.Contains(flags.Names(), name):
		return false // of another release
	case strings.HasPrefix(name, "experimental-"):
		return release.Minor != "3.7" // of the older ones many came with a patch release
	}
	return serves
}

// Given are the settings with which the pod starts etcd, as far as they are flags of any release:
// those of its command, in their order, then variables; and what stands in a configuration file,
// which overrides both, though etcd reads its command all the same.
func (p *EtcdPod) Given() (all []flags.Given) {
	m := p.File.Manifest
	for _, f := range m.Flags(p.Container) {
		value, _ := m.Expand(p.Container, f.Value)
		all = append(all, flags.Given{Name: f.Name, Value: value, From: flags.Argument})
	}
	for _, name := range flags.Names() {
		if p.File.config != nil {
			if v, ok := p.File.config[name]; ok {
				all = append(all, flags.Given{Name: name, Value: fmt.Sprint(v), From: flags.File})
			}
			continue
		}
		// A flag goes before its variable.
		if _, given := m.Flag(p.Container, name); given {
			continue
		}
		if v := variable(p.File, p.Container, etcdVariable(name)); v != "" {
			all = append(all, flags.Given{Name: name, Value: v, From: flags.Variable})
		}
	}
	return all
}
