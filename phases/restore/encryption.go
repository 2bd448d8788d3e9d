package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/etcd/snapfile"
	"github.com/etcdpod/etcdpod/phases/internal/finding"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/pki"
)

// encryption looks at what the API server can read, and whose tokens it accepts.
func encryption(ctx context.Context, n *observe.Node, f *Facts) Encryption {
	e := Encryption{Unread: map[string]int64{}}
	m, c, ok := observe.Program(f.Manifests, "kube-apiserver")
	if !ok {
		return e // nothing on this node reads the values
	}
	for _, value := range observe.FlagsOf(m, c, "service-account-key-file") {
		if data, err := n.FS.ReadFile(observe.HostFile(m, c, value)); err == nil {
			e.TokenKeys = append(e.TokenKeys, pki.KeyIDs(data)...)
		}
	}
	e.ClientCA = observe.ClientCA(f.Manifests)
	var config pki.Encryption
	var text []byte
	if flag := observe.FlagOf(m, c, "encryption-provider-config"); flag != "" {
		e.File = observe.HostFile(m, c, flag)
		text, e.Error = n.FS.ReadFile(e.File)
		if e.Error == nil {
			config, e.Error = pki.ParseEncryption(text)
		}
		if e.Error != nil {
			return e
		}
	}
	for _, s := range f.Snapshot.Stored {
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
			e.Plain = append(e.Plain, counted(s.Resource, s.Objects))
			e.unread(s)
		}
		return false
	case resource == "" && config.Covers(stored), resource != "" && config.CoversResource(resource, stored):
		return true
	}
	e.Missing = append(e.Missing, s.Prefix+" ("+counted(s.Resource, s.Objects)+")")
	e.unread(s)
	return false
}

func (e *Encryption) unread(s snapfile.Stored) { e.Unread[s.Resource] += s.Objects }

// counted names objects.
func counted(resource string, objects int64) string {
	if resource == "" {
		resource = "outside /registry"
	}
	return fmt.Sprintf("%s: %d", resource, objects)
}

// hostSocket is where this node reaches a KMS plugin that the API server reaches at an endpoint;
// empty: nowhere.
func hostSocket(m observe.ManifestFile, container, endpoint string) string {
	file, _ := strings.CutPrefix(endpoint, "unix://")
	if abstract, ok := strings.CutPrefix(file, "/@"); ok {
		return "@" + abstract
	}
	return observe.HostFile(m, container, file)
}

// ask lets the plugin of a KMS open the key of one value. A plugin that does not answer now may do
// so when the API server starts.
func (e *Encryption) ask(
	ctx context.Context, n *observe.Node, socket string, sealed pki.Envelope, s snapfile.Stored,
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
	case err != nil && !slices.Contains(e.Untried, s.Prefix):
		e.Untried = append(e.Untried, s.Prefix)
	}
}

// cannot are the ways in which the API server cannot read what the snapshot holds, each with what
// to do about it.
func (e Encryption) cannot() (all []engine.RefusedError) {
	where := "the API server has no encryption configuration"
	if e.File != "" {
		where = e.File + " does not hold their keys for these resources"
	}
	say := func(hint, format string, which []string, also ...any) {
		if len(which) > 0 {
			reason := fmt.Sprintf(format, append([]any{few(which)}, also...)...)
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

// checkEncryption refuses what the API server could not read. Where a key is lost, a person may
// decide to restore the rest.
func (o restorer) checkEncryption(f *Facts) error {
	if f.Encryption.Error != nil {
		return engine.Refuse("correct the file, or the flag in the API server's manifest: the API server would not "+
			"start with it either", "cannot determine whether the API server can decrypt the snapshot: %v",
			f.Encryption.Error)
	}
	cannot := f.Encryption.cannot()
	if len(cannot) == 0 || o.OtherPKI {
		return nil
	}
	return engine.Refuse(cannot[0].Hint+"; if that is not possible, --other-pki restores everything, and nobody can "+
		"read these objects", "%s", cannot[0].Reason)
}

// notes are for whoever has decided that.
func (e Encryption) notes() (notes []finding.Finding) {
	for _, cannot := range e.cannot() {
		notes = append(notes, finding.New(finding.EncryptionUnread, e.File, "%s", cannot.Reason))
	}
	return notes
}

// unreadable are the objects that are restored in vain, counted.
func (e Encryption) unreadable() []string {
	if len(e.Unread) == 0 {
		return nil
	}
	var words []string
	for _, name := range heaviest(e.Unread, func(n int64) int64 { return n }) {
		words = append(words, counted(name, e.Unread[name]))
	}
	return []string{"what the API server cannot read (" + few(words) + "): it cannot list these kinds of objects, " +
		"and may not become ready, until they are deleted from etcd"}
}
