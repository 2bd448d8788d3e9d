package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// Recipient is a public key to which a backup is encrypted.
type Recipient struct {
	Name string // as it is written: age1…, age1pq…, or an SSH key without its comment
	to   age.Recipient
}

// Short is the name, short enough for a line.
func (r Recipient) Short() string { return Short(r.Name) }

// Short shortens the name of a recipient: a post-quantum one has 1,959 letters.
func Short(name string) string {
	const most = 70
	if kind, key, isSSH := strings.Cut(name, " "); isSSH && len(name) > most {
		return kind + " …" + key[max(0, len(key)-16):]
	}
	if len(name) > most {
		return name[:16] + "…" + name[len(name)-16:]
	}
	return name
}

func ages(to []Recipient) (all []age.Recipient) {
	for _, r := range to {
		all = append(all, r.to)
	}
	return all
}

// ParseRecipient reads one public key. The error never holds what was read: it may be a secret.
func ParseRecipient(text string) (Recipient, error) {
	text = strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-"):
		return Recipient{}, errors.New("it is a secret key: a recipient is the public one, age1… " +
			"(`age-keygen -y FILE` prints it)")
	case strings.HasPrefix(text, "ssh-"), strings.HasPrefix(text, "ecdsa-"), strings.HasPrefix(text, "sk-"):
		return sshRecipient(text)
	case strings.HasPrefix(text, "age1pq1"):
		to, err := age.ParseHybridRecipient(text)
		if err != nil {
			return Recipient{}, errors.New("it is no valid post-quantum recipient of age: a letter may be missing " +
				"or wrong")
		}
		return Recipient{to.String(), to}, nil
	case strings.HasPrefix(text, "age1"):
		if strings.Count(text, "1") > 1 && strings.LastIndex(text, "1") > len("age1") {
			return Recipient{}, errors.New("it is a recipient of a plugin of age, which etcdpod does not run: " +
				"give age1…, age1pq1… or an SSH key")
		}
		to, err := age.ParseX25519Recipient(text)
		if err != nil {
			return Recipient{}, errors.New("it is no valid recipient of age: a letter may be missing or wrong")
		}
		return Recipient{to.String(), to}, nil
	}
	return Recipient{}, errors.New("it is no recipient: age1…, age1pq1…, ssh-ed25519 … or ssh-rsa …")
}

func sshRecipient(text string) (Recipient, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return Recipient{}, errors.New("it is no valid SSH public key")
	}
	name := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	to, err := agessh.ParseRecipient(name)
	if err != nil {
		return Recipient{}, fmt.Errorf("nothing can be encrypted to an SSH key of this kind (%s): only to "+
			"ssh-ed25519, and to ssh-rsa of 2048 bits or more", key.Type())
	}
	return Recipient{name, to}, nil
}

// ParseRecipients reads a file of recipients: one a line, with empty lines and comments (#).
func ParseRecipients(data []byte) (all []Recipient, err error) {
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := ParseRecipient(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no recipient in it")
	}
	return all, nil
}

// CheckRecipients encrypts nothing to them: some cannot be used together.
func CheckRecipients(all []Recipient) error {
	hybrid := 0
	for _, r := range all {
		if _, ok := r.to.(*age.HybridRecipient); ok {
			hybrid++
		}
	}
	if hybrid > 0 && hybrid < len(all) {
		return errors.New("post-quantum recipients (age1pq1…) and others cannot read the same backup: whoever breaks " +
			"the others would read it")
	}
	if len(all) == 0 {
		return nil
	}
	w, err := age.Encrypt(io.Discard, ages(all)...)
	if err == nil {
		err = w.Close()
	}
	return err
}

// Names are the names of recipients, each once.
func Names(all []Recipient) (names []string) {
	seen := map[string]bool{}
	for _, r := range all {
		if !seen[r.Name] {
			names, seen[r.Name] = append(names, r.Name), true
		}
	}
	return names
}

// Identity is a secret key that opens a backup.
type Identity struct {
	Recipient string // the name of the recipient that belongs to it
	of        age.Identity
}

// errPassphrase says what to do with a key that etcdpod cannot ask for a passphrase.
var errPassphrase = errors.New("it is protected by a passphrase, for which etcdpod does not ask: write the key " +
	"without one to a file in memory (`age -d -o /dev/shm/key FILE`; for an SSH key a copy, and " +
	"`ssh-keygen -p -N '' -f COPY`), and remove that file afterwards")

// ParseIdentities reads a file of age identities, or an SSH private key. The error never holds what
// was read.
func ParseIdentities(data []byte) ([]Identity, error) {
	text := bytes.TrimSpace(data)
	switch {
	case IsEncrypted(data), bytes.HasPrefix(text, []byte("-----BEGIN AGE ENCRYPTED FILE")):
		return nil, errPassphrase
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		return sshIdentity(data)
	}
	var all []Identity
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, err := parseIdentity(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		all = append(all, id)
	}
	if len(all) == 0 {
		return nil, errors.New("there is no identity in it")
	}
	return all, nil
}

func parseIdentity(line string) (Identity, error) {
	switch {
	case strings.HasPrefix(line, "AGE-SECRET-KEY-PQ-1"):
		if id, err := age.ParseHybridIdentity(line); err == nil {
			return Identity{id.Recipient().String(), id}, nil
		}
	case strings.HasPrefix(line, "AGE-SECRET-KEY-1"):
		if id, err := age.ParseX25519Identity(line); err == nil {
			return Identity{id.Recipient().String(), id}, nil
		}
	case strings.HasPrefix(line, "AGE-PLUGIN-"):
		return Identity{}, errors.New("it is an identity of a plugin of age, which etcdpod does not run: decrypt " +
			"the file with `age -d`, and give what comes out")
	case strings.HasPrefix(line, "age1"), strings.HasPrefix(line, "ssh-"):
		return Identity{}, errors.New("it is a recipient, the public key: an identity is the secret one")
	}
	return Identity{}, errors.New("it is no valid identity of age: AGE-SECRET-KEY-…")
}

func sshIdentity(data []byte) ([]Identity, error) {
	signer, err := ssh.ParsePrivateKey(data)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, errPassphrase
	}
	if err != nil {
		return nil, errors.New("it is no valid SSH private key")
	}
	id, err := agessh.ParseIdentity(data)
	if err != nil {
		return nil, fmt.Errorf("nothing is encrypted to an SSH key of this kind (%s): only to ssh-ed25519 and ssh-rsa",
			signer.PublicKey().Type())
	}
	return []Identity{{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), id}}, nil
}

// Fits says whether one of the identities belongs to one of the recipients.
func Fits(ids []Identity, recipients []string) bool {
	for _, id := range ids {
		for _, name := range recipients {
			if id.Recipient == name {
				return true
			}
		}
	}
	return false
}
