package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/pki"
)

// Encryption is what the API server's encryption configuration can read of the snapshot.
type Encryption struct {
	File    string           // empty: the API server has none
	Missing []string         // encrypted objects whose key it does not have for their resource
	Plain   []string         // objects that are not encrypted, and that it therefore does not read
	Wrong   []string         // why values cannot be decrypted though a key has the right name
	Untried []string         // prefixes of which no value could be tried
	Foreign []string         // why the KMS of a value, which answers, has not sealed its key
	Unasked []string         // which KMS could not be asked about its values, and why
	Unread  map[string]int64 // how many objects of each resource all that is
	Opened  []string         // prefixes and resources of which a value was decrypted
	Error   error

	mute []string // the KMS of Unasked
	// Ids of the keys that the API server accepts tokens by; nil: they could not be read.
	TokenKeys []string
	// The file of the CA that it accepts certificates of; empty: it is not on the host.
	ClientCA string
}

// Encryption looks at what the API server of the manifests can read of what is stored, and whose
// tokens it accepts.
func (n *Node) Encryption(ctx context.Context, files []ManifestFile, all []snapfile.Stored) Encryption {
	e := Encryption{Unread: map[string]int64{}}
	m, c, ok := Program(files, "kube-apiserver")
	if !ok {
		return e // nothing on this node reads the values
	}
	for _, value := range FlagsOf(m, c, "service-account-key-file") {
		if data, err := n.FS.ReadFile(HostFile(m, c, value)); err == nil {
			e.TokenKeys = append(e.TokenKeys, pki.KeyIDs(data)...)
		}
	}
	e.ClientCA = ClientCA(files)
	var config pki.Encryption
	var text []byte
	if flag := FlagOf(m, c, "encryption-provider-config"); flag != "" {
		e.File = HostFile(m, c, flag)
		text, e.Error = n.FS.ReadFile(e.File)
		if e.Error == nil {
			config, e.Error = pki.ParseEncryption(text)
		}
		if e.Error != nil {
			return e
		}
	}
	for _, s := range all {
		if !e.covered(config, s) {
			continue
		}
		resource := configured(s)
		if s.Sample != nil {
			if sealed, kms := pki.EnvelopeOf(text, resource, s.Sample.Key, s.Sample.Value); kms {
				e.ask(ctx, n, hostSocket(m, c, sealed.Endpoint), sealed, s)
				continue
			}
		}
		e.try(text, resource, s)
	}
	return e
}

// configured is what an encryption configuration calls the resource; empty where that is not
// certain, as below a prefix that something else than this API server may use.
func configured(s snapfile.Stored) string {
	if s.Custom {
		return s.Resource
	}
	return pki.InConfiguration(s.Resource)
}

// covered says whether the API server has a key by that name, and so whether it is worth a try.
// What it has for other resources counts only where the resource is not known.
func (e *Encryption) covered(config pki.Encryption, s snapfile.Stored) bool {
	resource, stored := configured(s), s.Prefix
	if s.Sample != nil { // the name of a key may have a colon
		stored = string(s.Sample.Value)
	}
	switch {
	case s.Prefix == "":
		if resource != "" && !config.CoversResource(resource, "") {
			e.Plain = append(e.Plain, Counted(s.Resource, s.Objects))
			e.unread(s)
		}
		return false
	case resource == "" && config.Covers(stored), resource != "" && config.CoversResource(resource, stored):
		return true
	}
	e.Missing = append(e.Missing, s.Prefix+" ("+Counted(s.Resource, s.Objects)+")")
	e.unread(s)
	return false
}

func (e *Encryption) unread(s snapfile.Stored) { e.Unread[s.Resource] += s.Objects }

// Counted names objects.
func Counted(resource string, objects int64) string {
	if resource == "" {
		resource = "outside /registry"
	}
	return fmt.Sprintf("%s: %d", resource, objects)
}

// hostSocket is where this node reaches a KMS plugin that the API server reaches at an endpoint;
// empty: nowhere.
func hostSocket(m ManifestFile, container, endpoint string) string {
	file, _ := strings.CutPrefix(endpoint, "unix://")
	if abstract, ok := strings.CutPrefix(file, "/@"); ok {
		return "@" + abstract
	}
	return HostFile(m, container, file)
}

// ask lets the plugin of a KMS open the key of one value. A plugin that does not answer now may do
// so when the API server starts.
func (e *Encryption) ask(
	ctx context.Context, n *Node, socket string, sealed pki.Envelope, s snapfile.Stored,
) {
	name := fmt.Sprintf("the KMS %s at %s", sealed.Provider, sealed.Endpoint)
	if slices.Contains(e.mute, name) {
		return
	}
	err := errors.New("its socket is not on the host")
	var opened []byte
	if socket != "" {
		opened, err = node.OpenKey(ctx, n.FS, socket, sealed.Wait, node.SealedKey{Version: sealed.Version,
			Sealed: sealed.Sealed, KeyID: sealed.KeyID, Annotations: sealed.Annotations})
	}
	switch {
	case errors.Is(err, node.ErrForeignKey):
		e.Foreign = append(e.Foreign, fmt.Sprintf("%s answers, but for %s: %v", name, s.Sample.Key, err))
		e.unread(s)
	case err != nil:
		e.mute = append(e.mute, name)
		e.Unasked = append(e.Unasked, fmt.Sprintf("%s could not be queried: %v", name, err))
	case !sealed.OpensWith(opened):
		e.Foreign = append(e.Foreign, fmt.Sprintf("%s decrypts the key of %s to a different key", name, s.Sample.Key))
		e.unread(s)
	default:
		e.Opened = append(e.Opened, s.Prefix+s.Resource)
	}
}

// try decrypts one value: that a key has the right name does not make it the right key.
func (e *Encryption) try(config []byte, resource string, s snapfile.Stored) {
	err := pki.ErrNotTried
	if s.Sample != nil {
		err = pki.Decrypts(config, resource, s.Sample.Key, s.Sample.Value)
	}
	switch {
	case !errors.Is(err, pki.ErrNotTried) && err != nil:
		e.Wrong = append(e.Wrong, err.Error())
		e.unread(s)
	case err == nil:
		e.Opened = append(e.Opened, s.Prefix+s.Resource)
	case !slices.Contains(e.Untried, s.Prefix):
		e.Untried = append(e.Untried, s.Prefix)
	}
}

// Cannot are the ways in which the API server cannot read what the snapshot holds, each with what
// to do about it.
func (e Encryption) Cannot() (all []engine.RefusedError) {
	where := "the API server has no encryption configuration"
	if e.File != "" {
		where = e.File + " does not hold their keys for these resources"
	}
	say := func(hint, format string, which []string, also ...any) {
		if len(which) > 0 {
			reason := fmt.Sprintf(format, append([]any{Few(which)}, also...)...)
			all = append(all, engine.RefusedError{Reason: reason, Hint: hint})
		}
	}
	say("add the keys that were in use when the backup was taken to the API server's encryption configuration",
		"the snapshot holds values encrypted as %s, but %s", e.Missing, where)
	say("add the key that was in use when the backup was taken to "+e.File,
		"the API server cannot decrypt what the snapshot holds: %s", e.Wrong)
	say("give the KMS the key that it had when the backup was taken",
		"the API server cannot decrypt what the snapshot holds: %s", e.Foreign)
	say("add `identity: {}` to the providers of these resources in "+e.File+", as the last one",
		"the snapshot holds values that are not encrypted (%s), but %s does not let the API server read those",
		e.Plain, e.File)
	return all
}

// mostNamed is how many things are named; the others are counted.
const mostNamed = 5

// Few lists words, the first of them if there are many.
func Few(words []string) string {
	if more := len(words) - mostNamed; more > 0 {
		return fmt.Sprintf("%s; other kinds: %d", strings.Join(words[:mostNamed], "; "), more)
	}
	return strings.Join(words, "; ")
}
