package observe

import (
	"fmt"
	"slices"
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

func unknownFlags(f *Facts) []Obstacle {
	if f.Etcd == nil {
		return nil
	}
	m, wrong := f.Etcd.File, f.Etcd.UnknownFlags(f.EtcdVersion(), f.Live != nil)
	if len(wrong) == 0 {
		return nil
	}
	return []Obstacle{{Manifests: []string{m.Path},
		What: fmt.Sprintf("etcd %s does not know %s in %s, and exits at once",
			f.EtcdVersion(), strings.Join(wrong, ", "), m.Path),
		Fix: fmt.Sprintf("remove them from %s, or use this version's names for them", m.Path)}}
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
