package upgrade

import (
	"fmt"
	"strings"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/phases/observe"
)

const gatesFlag = "feature-gates"

// rewritten is etcd's manifest with another image, and with the flags written as the release there
// has them, as far as it would not start otherwise. Everything else stays, byte for byte. change
// says it in words.
func rewritten(pod *observe.EtcdPod, image, from, to string) (edited *manifests.Manifest, change string, err error) {
	edited, err = pod.File.Manifest.SetImage(pod.Container, image)
	if err != nil {
		return nil, "", byHand(pod, err)
	}
	said := []string{"the image " + image}
	changes, _, err := flags.Across(pod.Given(), from, to)
	if err != nil {
		return nil, "", engine.Refuse("take the etcdpod that knows both", "%v", err)
	}
	for _, c := range changes {
		if c.Kind != flags.Renamed && c.Kind != flags.Gated {
			continue
		}
		if c.From != flags.Argument {
			return nil, "", engine.Refuse(fmt.Sprintf("give it as a flag in %s first, which is rewritten; or, "+
				"if the etcd that runs takes it so, as %s", pod.File.Path, c.Becomes[0]),
				"etcd %s goes without %s, which is no flag in %s: its name there is %s", to, c.Given, pod.File.Path,
				c.Becomes[0])
		}
		if edited, err = renamed(edited, pod.Container, c.Name, c.Becomes[0]); err != nil {
			return nil, "", byHand(pod, err)
		}
		said = append(said, fmt.Sprintf("%s for %s", c.Becomes[0], c.Given))
	}
	after := *pod
	after.File.Manifest = edited
	left, _, err := flags.Across(after.Given(), to, to)
	if err == nil && flags.Stops(left) {
		err = fmt.Errorf("etcd %s would not start with it", to)
	}
	if err != nil {
		return nil, "", byHand(pod, err)
	}
	return edited, strings.Join(said, ", "), nil
}

// renamed writes one flag as another one, in its place. Feature gates are one flag for all.
func renamed(m *manifests.Manifest, container, name string, to flags.Given) (*manifests.Manifest, error) {
	raw, there := m.Flag(container, name) // with its variables
	switch {
	case name == gatesFlag && there: // each gate becomes a flag: the first in its place
		return m.RenameFlag(container, gatesFlag, to.Name, to.Value)
	case name == gatesFlag:
		return m.SetFlagOnce(container, to.Name, to.Value)
	}
	if to.Name != gatesFlag {
		return m.RenameFlag(container, name, to.Name, raw)
	}
	gates, there := m.Flag(container, gatesFlag)
	if !there {
		return m.RenameFlag(container, name, gatesFlag, to.Value)
	}
	m, err := m.RemoveFlag(container, name)
	if err != nil {
		return nil, err
	}
	if gates != "" {
		gates += ","
	}
	return m.SetFlagOnce(container, gatesFlag, gates+to.Value)
}

func byHand(pod *observe.EtcdPod, err error) error {
	return engine.Refuse("edit the file by hand, as /usr/share/doc/etcdpod/docs/upgrade.md says",
		"cannot change %s: %v", pod.File.Path, err)
}
