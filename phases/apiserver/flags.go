package apiserver

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/etcdpod/etcdpod/manifests"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/op"
	"github.com/etcdpod/etcdpod/phases/observe"
)

// EtcdFlags are an API server's flags for etcd. Files are paths in its container. In a wish, an
// empty field keeps the current value.
type EtcdFlags struct {
	Servers                   []string
	CAFile, CertFile, KeyFile string
}

// Named are the flags for files, in kubeadm's order.
func (e *EtcdFlags) Named() []namedFlag {
	return []namedFlag{{"etcd-cafile", &e.CAFile}, {"etcd-certfile", &e.CertFile}, {"etcd-keyfile", &e.KeyFile}}
}

type namedFlag struct {
	Name string
	File *string
}

// Set sets one flag, named without dashes. It ignores all other flags.
func (e *EtcdFlags) Set(name, value string) {
	if name == observe.EtcdServersFlag {
		e.Servers = observe.SplitList(value)
	}
	for _, f := range e.Named() {
		if f.Name == name {
			*f.File = value
		}
	}
}

// EtcdFlagsOf reads an API server's manifest.
func EtcdFlagsOf(m observe.ManifestFile, container string) EtcdFlags {
	e := EtcdFlags{Servers: observe.EtcdServers(m, container)}
	for _, f := range e.Named() {
		*f.File = observe.FlagOf(m, container, f.Name)
	}
	return e
}

// With returns these flags with those of a wish in their place.
func (e EtcdFlags) With(wish EtcdFlags) EtcdFlags {
	if len(wish.Servers) > 0 && !sameServers(e.Servers, wish.Servers) {
		e.Servers = wish.Servers
	}
	for i, f := range wish.Named() {
		if *f.File != "" {
			*e.Named()[i].File = *f.File
		}
	}
	return e
}

// sameServers says whether two lists name the same servers. Order does not matter: etcd's client
// rotates through all of them (client/v3/internal/resolver: round_robin).
func sameServers(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// write puts the flags into the manifest, and returns it with a description of the changes; the
// very same manifest if nothing changes.
func (e EtcdFlags) write(
	m observe.ManifestFile, container string,
) (edited *manifests.Manifest, change string, err error) {
	if err := writable(m); err != nil {
		return nil, "", err
	}
	now := EtcdFlagsOf(m, container)
	var changes []string
	edited = m.Manifest
	set := func(name, value string) {
		if err != nil {
			return
		}
		if edited, err = edited.SetFlagOnce(container, name, value); err == nil {
			changes = append(changes, "--"+name+"="+value)
		}
	}
	if !slices.Equal(now.Servers, e.Servers) {
		set(observe.EtcdServersFlag, strings.Join(e.Servers, ","))
	}
	for i, f := range e.Named() {
		if *f.File != *now.Named()[i].File {
			set(f.Name, *f.File)
		}
	}
	return edited, strings.Join(changes, " "), err
}

// writable refuses a manifest that the kubelet or the API server would read differently once
// edited.
func writable(m observe.ManifestFile) error {
	var pod struct{ Metadata struct{ UID string } }
	if err := yaml.Unmarshal(m.Data, &pod); err != nil {
		return fmt.Errorf("cannot read %s: %w", m.Path, err)
	}
	if pod.Metadata.UID != "" {
		return fmt.Errorf("%s gives the pod a uid, so the kubelet would not notice the change: remove "+
			"metadata.uid", m.Path)
	}
	return nil
}

// checkServers refuses what cannot be a list of etcds.
func checkServers(servers []string) error {
	const hint = "expected a comma-separated list of URLs, such as https://10.0.0.11:2379,https://10.0.0.12:2379"
	schemes := map[string]bool{}
	for i, raw := range servers {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" ||
			u.Hostname() == "" || u.Port() == "" || u.User != nil || u.Path+u.RawQuery+u.Fragment != "" {
			return &engine.UsageError{Reason: fmt.Sprintf("%q is not a client URL of an etcd", raw), Hint: hint}
		}
		if slices.Contains(servers[:i], raw) {
			return &engine.UsageError{Reason: fmt.Sprintf("%s is named twice", raw), Hint: hint}
		}
		schemes[u.Scheme] = true
	}
	// client/v3/client.go: credentialsForEndpoint is called for the first endpoint only.
	if len(schemes) > 1 {
		return &engine.UsageError{
			Reason: "some of the endpoints are https and some http: the API server's client treats all of them like " +
				"the first", Hint: "use only one kind",
		}
	}
	return nil
}

// access is how an API server with these flags reaches one etcd.
func (e EtcdFlags) access(m observe.ManifestFile, container, server string) op.Access {
	a := op.Access{Endpoints: []string{server}}
	if strings.HasPrefix(server, "https://") {
		a.CACert, a.Cert, a.Key = observe.HostFile(m, container, e.CAFile),
			observe.HostFile(m, container, e.CertFile), observe.HostFile(m, container, e.KeyFile)
	}
	return a
}

// kubeadmFlags are the flags that kubeadm gives an API server whose etcd is on the same node
// (kubeadm, phases/controlplane: getAPIServerCommand).
func kubeadmFlags(certificatesDir, advertiseAddress string) EtcdFlags {
	host := "127.0.0.1"
	if ip := net.ParseIP(advertiseAddress); ip != nil && ip.To4() == nil {
		host = "::1"
	}
	return EtcdFlags{
		Servers: []string{"https://" + net.JoinHostPort(host, "2379")},
		CAFile:  certificatesDir + "/etcd/ca.crt", CertFile: certificatesDir + "/apiserver-etcd-client.crt",
		KeyFile: certificatesDir + "/apiserver-etcd-client.key",
	}
}
