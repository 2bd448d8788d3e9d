package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Trusted is a key whose signature is believed.
type Trusted struct {
	Name string
	key  ssh.PublicKey
}

// Fingerprint is SHA256:…
func (t Trusted) Fingerprint() string { return ssh.FingerprintSHA256(t.key) }

// Trust believes a key's own signatures.
func (k Key) Trust(name string) Trusted { return Trusted{name, k.Public()} }

// ParsePublic reads a public key as ssh-keygen writes it beside the private one.
func ParsePublic(name string, data []byte) (Trusted, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey(data)
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return Trusted{}, errors.New("it is no valid SSH public key")
	}
	if err := usable(key); err != nil {
		return Trusted{}, err
	}
	return Trusted{name, key}, nil
}

// ParseTrusted reads the allowed_signers file of ssh-keygen (ALLOWED SIGNERS in its manual). What
// it does not understand is an error: a key would be trusted for more, or for longer, than is
// written there.
func ParseTrusted(data []byte) (all []Trusted, err error) {
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		t, ours, err := parseTrusted(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if ours {
			all = append(all, t)
		}
	}
	return all, nil
}

func parseTrusted(line string) (t Trusted, ours bool, err error) {
	name, rest, ok := cutField(line)
	if !ok || name == "" {
		return t, false, errors.New("it has no key: NAME [namespaces=\"" + Namespace + "\"] ssh-ed25519 AAAA…")
	}
	if isKeyType(name) {
		return t, false, errors.New("it has no name before its key")
	}
	if strings.Contains(name, "!") {
		return t, false, errors.New("names with ! are not understood")
	}
	ours = true
	if first, after, _ := cutField(rest); !isKeyType(first) {
		if ours, err = namespaces(first); err != nil {
			return t, false, err
		}
		rest = after
	}
	kind, after, _ := cutField(rest)
	encoded, _, _ := cutField(after)
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(kind + " " + encoded))
	if err != nil || key.Type() != kind {
		return t, false, errors.New("it has no valid SSH public key")
	}
	if err := usable(key); err != nil && ours {
		return t, false, err
	}
	return Trusted{strings.Trim(name, `"`), key}, ours, nil
}

// cutField cuts at the first space outside of quotes.
func cutField(line string) (field, rest string, more bool) {
	quoted := false
	for i, c := range line {
		switch {
		case c == '"':
			quoted = !quoted
		case (c == ' ' || c == '\t') && !quoted:
			return line[:i], strings.TrimLeft(line[i:], " \t"), true
		}
	}
	return line, "", false
}

func isKeyType(s string) bool {
	return strings.HasPrefix(s, "ssh-") || strings.HasPrefix(s, "ecdsa-sha2-") || strings.HasPrefix(s, "sk-")
}

// namespaces reads the options of a line, and says whether its key may sign backups.
func namespaces(options string) (bool, error) {
	name, list, ok := strings.Cut(options, "=")
	if !ok || !strings.EqualFold(name, "namespaces") || len(list) < 2 || list[0] != '"' ||
		strings.IndexByte(list[1:], '"') != len(list)-2 {
		return false, fmt.Errorf("the options %q are not understood: only namespaces=\"…\" is", options)
	}
	if strings.ContainsAny(list, "*?!") {
		return false, fmt.Errorf("patterns are not understood: write namespaces=\"%s\"", Namespace)
	}
	for one := range strings.SplitSeq(list[1:len(list)-1], ",") {
		if strings.TrimSpace(one) == Namespace {
			return true, nil
		}
	}
	return false, nil
}
