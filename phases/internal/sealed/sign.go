package sealed

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Namespace keeps a signature over something else from passing for one over a backup.
const Namespace = "etcdpod-backup"

const (
	signatureBegin = "-----BEGIN SSH SIGNATURE-----"
	signatureEnd   = "-----END SSH SIGNATURE-----"
	signatureMagic = "SSHSIG"
	// A signature of RSA of 16384 bits, with its key, has less than 5,000 bytes.
	mostSignature = 16 << 10
)

// signature is the SSHSIG blob (OpenSSH, PROTOCOL.sshsig) after its magic.
type signature struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// signedData is what is signed, after the magic.
type signedData struct {
	Namespace string
	Reserved  string
	Hash      string
	Message   []byte
}

// Key signs backups.
type Key struct{ signer ssh.Signer }

// Fingerprint is SHA256:…, as ssh-keygen -l prints it.
func (k Key) Fingerprint() string { return ssh.FingerprintSHA256(k.signer.PublicKey()) }

// Public is the public key.
func (k Key) Public() ssh.PublicKey { return k.signer.PublicKey() }

// ParseKey reads an SSH private key. The error never holds what was read.
func ParseKey(data []byte) (Key, error) {
	signer, err := ssh.ParsePrivateKey(data)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return Key{}, errors.New("it is protected by a passphrase, for which nobody can be asked at night: make a " +
			"key for this alone (`ssh-keygen -t ed25519 -N '' -f /etc/etcdpod/sign.key`)")
	}
	if err != nil {
		return Key{}, errors.New("it is no valid SSH private key")
	}
	if err := usable(signer.PublicKey()); err != nil {
		return Key{}, err
	}
	return Key{signer}, nil
}

// usable says whether a key can be trusted to sign.
func usable(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		if public, ok := key.(ssh.CryptoPublicKey); ok {
			if k, ok := public.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() >= 2048 {
				return nil
			}
		}
		return errors.New("its RSA key is shorter than 2048 bits")
	}
	return fmt.Errorf("a key of this kind (%s) is not used: take ssh-ed25519, ecdsa or ssh-rsa", key.Type())
}

// Sign signs a sidecar, in the form that `ssh-keygen -Y verify -n etcdpod-backup` reads.
func Sign(key Key, sidecar []byte) ([]byte, error) {
	sum := sha512.Sum512(sidecar)
	message := toSign("sha512", sum[:])
	var made *ssh.Signature
	var err error
	if signer, ok := key.signer.(ssh.AlgorithmSigner); ok && key.Public().Type() == ssh.KeyAlgoRSA {
		made, err = signer.SignWithAlgorithm(rand.Reader, message, ssh.KeyAlgoRSASHA512)
	} else {
		made, err = key.signer.Sign(rand.Reader, message)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot sign: %w", err)
	}
	blob := append([]byte(signatureMagic), ssh.Marshal(signature{Version: 1, PublicKey: key.Public().Marshal(),
		Namespace: Namespace, Hash: "sha512", Signature: ssh.Marshal(made)})...)
	return armor(blob), nil
}

func toSign(hash string, sum []byte) []byte {
	return append([]byte(signatureMagic), ssh.Marshal(signedData{Namespace: Namespace, Hash: hash, Message: sum})...)
}

func armor(blob []byte) []byte {
	var b bytes.Buffer
	b.WriteString(signatureBegin + "\n")
	for text := base64.StdEncoding.EncodeToString(blob); text != ""; {
		n := min(70, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	b.WriteString(signatureEnd + "\n")
	return b.Bytes()
}

func unarmor(text []byte) ([]byte, error) {
	if len(text) > mostSignature {
		return nil, errors.New("it is too long for a signature")
	}
	body, ok := strings.CutPrefix(strings.TrimSpace(string(text)), signatureBegin)
	if ok {
		body, ok = strings.CutSuffix(body, signatureEnd)
	}
	if !ok {
		return nil, errors.New("it is no signature of ssh-keygen")
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(strings.NewReplacer("\n", "", "\r", "").Replace(body))
	if err != nil {
		return nil, errors.New("it is no signature of ssh-keygen: it is not in base64")
	}
	return blob, nil
}

// Signer is who signed a sidecar.
type Signer struct {
	Fingerprint string // SHA256:…
	Name        string // that the list of trusted keys gives it; empty where nobody trusts it
}

var (
	// ErrForged says that a signature is none of this sidecar.
	ErrForged = errors.New("the signature does not belong to this sidecar")
	// ErrUntrusted says that the signature is good, and nobody trusts the key.
	ErrUntrusted = errors.New("the key of the signature is not among the trusted ones")
)

// Check holds a signature against the exact bytes of a sidecar. With ErrUntrusted, the signer is
// still named.
func Check(sidecar, sig []byte, trusted []Trusted) (Signer, error) {
	blob, err := unarmor(sig)
	if err != nil {
		return Signer{}, fmt.Errorf("%w: %w", ErrForged, err)
	}
	key, err := check(sidecar, blob)
	if err != nil {
		return Signer{}, fmt.Errorf("%w: %w", ErrForged, err)
	}
	by := Signer{Fingerprint: ssh.FingerprintSHA256(key)}
	for _, t := range trusted {
		if bytes.Equal(t.key.Marshal(), key.Marshal()) {
			by.Name = t.Name
			return by, nil
		}
	}
	return by, ErrUntrusted
}

func check(sidecar, blob []byte) (ssh.PublicKey, error) {
	rest, ok := bytes.CutPrefix(blob, []byte(signatureMagic))
	var s signature
	if !ok || ssh.Unmarshal(rest, &s) != nil || s.Version != 1 {
		return nil, errors.New("it is no signature of ssh-keygen")
	}
	if s.Namespace != Namespace {
		return nil, fmt.Errorf("it was made for %q, not for %q", s.Namespace, Namespace)
	}
	key, err := ssh.ParsePublicKey(s.PublicKey)
	if err != nil {
		return nil, errors.New("its key cannot be read")
	}
	if err := usable(key); err != nil {
		return nil, err
	}
	var sum []byte
	switch s.Hash {
	case "sha512":
		all := sha512.Sum512(sidecar)
		sum = all[:]
	case "sha256":
		all := sha256.Sum256(sidecar)
		sum = all[:]
	default:
		return nil, fmt.Errorf("its hash, %q, is not known", s.Hash)
	}
	made := new(ssh.Signature)
	if ssh.Unmarshal(s.Signature, made) != nil {
		return nil, errors.New("it is no signature of ssh-keygen")
	}
	if key.Type() == ssh.KeyAlgoRSA && made.Format != ssh.KeyAlgoRSASHA512 && made.Format != ssh.KeyAlgoRSASHA256 {
		return nil, errors.New("it was made with SHA-1")
	}
	message := append([]byte(signatureMagic), ssh.Marshal(signedData{s.Namespace, s.Reserved, s.Hash, sum})...)
	if key.Verify(message, made) != nil {
		return nil, errors.New("what was signed is not this")
	}
	return key, nil
}
