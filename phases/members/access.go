package members

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// checkAccess refuses to create an etcd that answers strangers. It accepts one that is already
// there, and `status` warns of it.
func checkAccess(f *Facts) error {
	if f.Init.There != nil {
		return nil
	}
	const hint = "remove it from etcd's extraArgs, extraEnvs or patches: etcd is only created with TLS and with " +
		"client certificates required from clients and peers"
	for _, wrong := range f.Init.exposed() {
		return engine.Refuse(hint, "cannot create an etcd that answers without client certificates: %s", wrong)
	}
	return nil
}

// exposed says how the rendered etcd would let strangers in.
func (i *InitFacts) exposed() []string {
	var wrong []string
	if file := i.setting("config-file"); file != "" {
		wrong = append(wrong, fmt.Sprintf("with --config-file=%s it would ignore its flags", file))
	}
	for _, name := range []string{"client-cert-auth", "peer-client-cert-auth"} {
		if !i.isOn(name) {
			wrong = append(wrong, fmt.Sprintf("--%s is not true", name))
		}
	}
	for _, name := range []string{"auto-tls", "peer-auto-tls"} {
		if i.isOn(name) {
			wrong = append(wrong, fmt.Sprintf("with --%s it would use self-signed certificates", name))
		}
	}
	for _, name := range []string{
		"cert-file", "key-file", "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-trusted-ca-file",
	} {
		if i.setting(name) == "" {
			wrong = append(wrong, fmt.Sprintf("--%s is not set", name))
		}
	}
	for _, name := range []string{
		"listen-client-urls", "listen-client-http-urls", "advertise-client-urls",
		"listen-peer-urls", "initial-advertise-peer-urls",
	} {
		for _, raw := range observe.SplitList(i.setting(name)) {
			if u, err := url.Parse(raw); err != nil || !slices.Contains([]string{"https", "unixs"}, u.Scheme) {
				wrong = append(wrong, fmt.Sprintf("--%s contains %s, which is not https", name, raw))
			}
		}
	}
	return wrong
}

// setting is a flag's value or, if the flag is missing, that of the variable which etcd reads
// instead (etcd, pkg/flags: SetFlagsFromEnv).
func (i *InitFacts) setting(name string) string {
	m, container := i.Pod.File.Manifest, i.Pod.Container
	if _, given := m.Flag(container, name); given {
		return observe.FlagOf(i.Pod.File, container, name)
	}
	variable := "ETCD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if m.EnvFromElsewhere(container, variable) {
		return variable + " from elsewhere"
	}
	value, _ := m.Env(container, variable)
	value, _ = m.Expand(container, value)
	return value
}

// isOn says whether a switch is set; without a value it is.
func (i *InitFacts) isOn(name string) bool {
	if value, given := i.Pod.File.Manifest.Flag(i.Pod.Container, name); given && value == "" {
		return true
	}
	is, err := strconv.ParseBool(i.setting(name))
	return err == nil && is
}
