package target

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// connectWithin is how long it may take until the server has let us in.
const connectWithin = 30 * time.Second

func (r *remote) connect(ctx context.Context) (*ssh.Client, error) {
	host := r.Host
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "22")
	}
	known, files, err := r.knownHosts()
	if err != nil {
		return nil, err
	}
	keys, closeAgent, err := r.keys()
	if err != nil {
		return nil, err
	}
	defer closeAgent()
	config := &ssh.ClientConfig{User: cmp.Or(r.User, os.Getenv("USER"), "root"),
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(keys)}, HostKeyCallback: r.checked(known, files),
		HostKeyAlgorithms: algorithms(known, host), Timeout: connectWithin}
	tcp, err := (&net.Dialer{Timeout: connectWithin, KeepAlive: 15 * time.Second}).DialContext(ctx, "tcp", host)
	if err != nil {
		_, do := unreached(err)
		return nil, &Error{Doing: "reach", At: r.String(), Why: err.Error(), Do: do, Cause: err}
	}
	stop := context.AfterFunc(ctx, func() { _ = tcp.Close() })
	defer stop()
	if err := tcp.SetDeadline(time.Now().Add(connectWithin)); err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	conn, channels, requests, err := ssh.NewClientConn(tcp, host, config)
	if err != nil {
		_ = tcp.Close()
		return nil, r.refused(err)
	}
	if err := tcp.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return ssh.NewClient(conn, channels, requests), nil
}

// refused puts into words why the server, or we, did not want to go on.
func (r *remote) refused(err error) error {
	if words := (*Error)(nil); errors.As(err, &words) {
		return words
	}
	if strings.Contains(err.Error(), "unable to authenticate") {
		return &Error{Doing: "reach", At: r.String(), Kind: ErrDenied, Cause: err,
			Why: "the server takes none of the keys",
			Do: "name the right key in the URL (key=FILE), or have the agent hold it; and put its public half into " +
				"authorized_keys there"}
	}
	return err
}

// knownHosts are the files that say which key which host has. At least one must be there: a host
// that nothing is known of is never trusted.
func (r *remote) knownHosts() (ssh.HostKeyCallback, string, error) {
	var all []string
	if file := r.Option("known-hosts"); file != "" {
		all = []string{file}
	} else {
		if home, err := os.UserHomeDir(); err == nil {
			all = append(all, filepath.Join(home, ".ssh/known_hosts"))
		}
		all = append(all, "/etc/ssh/ssh_known_hosts")
	}
	var there []string
	for _, file := range all {
		_, err := os.Stat(file)
		if err == nil {
			there = append(there, file)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
	}
	names := strings.Join(all, " and ")
	if len(there) == 0 {
		return nil, "", &Error{Doing: "reach", At: r.String(), Do: r.howKnown(),
			Why: "no file says which key it has: there is no " + names}
	}
	known, err := knownhosts.New(there...)
	if err != nil {
		return nil, "", fmt.Errorf("%s cannot be read: %w", strings.Join(there, " or "), err)
	}
	return known, names, nil
}

func (r *remote) howKnown() string {
	return "see that it is the right one by a way of its own, and add its key: `ssh-keyscan`, then compare"
}

// checked says in words what is wrong with a key.
func (r *remote) checked(known ssh.HostKeyCallback, files string) ssh.HostKeyCallback {
	return func(hostname string, remote net.Addr, key ssh.PublicKey) error {
		err := known(hostname, remote, key)
		var differs *knownhosts.KeyError
		var revoked *knownhosts.RevokedError
		e := &Error{Doing: "reach", At: r.String(), Kind: ErrDenied, Cause: err}
		switch {
		case err == nil:
			return nil
		case errors.As(err, &revoked):
			e.Why = "its key is revoked in " + files
		case errors.As(err, &differs) && len(differs.Want) == 0:
			e.Do = r.howKnown()
			e.Why = fmt.Sprintf("%s does not know this host; it has the key %s", files, ssh.FingerprintSHA256(key))
		case errors.As(err, &differs):
			e.Why = fmt.Sprintf("it has another key, %s, than %s says: it may be another machine",
				ssh.FingerprintSHA256(key), files)
			e.Do = "find out why before anything is sent there; if its key was changed, correct the file"
		default:
			return err
		}
		return e
	}
}

// algorithms are those of the keys that are known of a host, so that the server shows one of them;
// nil: none is known.
func algorithms(known ssh.HostKeyCallback, host string) (names []string) {
	none, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	var differs *knownhosts.KeyError
	if err := known(host, &net.TCPAddr{}, none); !errors.As(err, &differs) {
		return nil
	}
	for _, want := range differs.Want {
		switch kind := want.Key.Type(); kind {
		case ssh.KeyAlgoRSA:
			names = append(names, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			names = append(names, kind)
		}
	}
	return names
}

// keys are those that the URL names, or those of the agent and of the usual files.
func (r *remote) keys() (signers func() ([]ssh.Signer, error), closeAgent func(), err error) {
	closeAgent = func() {}
	if file := r.Option("key"); file != "" {
		key, err := r.readKey(file)
		if err != nil {
			return nil, nil, err
		}
		return func() ([]ssh.Signer, error) { return []ssh.Signer{key}, nil }, closeAgent, nil
	}
	var all []ssh.Signer
	if home, err := os.UserHomeDir(); err == nil {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			if key, err := r.readKey(filepath.Join(home, ".ssh", name)); err == nil {
				all = append(all, key)
			}
		}
	}
	var held agent.ExtendedAgent
	if socket := os.Getenv("SSH_AUTH_SOCK"); socket != "" {
		if conn, err := net.Dial("unix", socket); err == nil {
			held, closeAgent = agent.NewClient(conn), func() { _ = conn.Close() }
		}
	}
	if held == nil && len(all) == 0 {
		return nil, nil, &Error{Doing: "reach", At: r.String(), Kind: ErrDenied, Why: "there is no key to enter with",
			Do: "name one in the URL (key=FILE), or run an agent that holds it (SSH_AUTH_SOCK)"}
	}
	return func() ([]ssh.Signer, error) {
		if held == nil {
			return all, nil
		}
		theirs, err := held.Signers()
		if err != nil {
			return all, nil
		}
		return append(theirs, all...), nil
	}, closeAgent, nil
}

func (r *remote) readKey(file string) (ssh.Signer, error) {
	fails := func(why, do string) error {
		return &Error{Doing: "reach", At: r.String(), Kind: ErrDenied, Do: do,
			Why: fmt.Sprintf("the key %s %s", file, why)}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fails("cannot be read: "+plainly(err), "name the right file in the URL (key=FILE)")
	}
	key, err := ssh.ParsePrivateKey(data)
	if locked := (*ssh.PassphraseMissingError)(nil); errors.As(err, &locked) {
		return nil, fails("has a passphrase", "add it to an agent (ssh-add), and leave key= out of the URL")
	}
	if err != nil {
		return nil, fails("is no private key", "name the right file in the URL (key=FILE)")
	}
	return key, nil
}
