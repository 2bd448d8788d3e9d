package target

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// machine is an SFTP server on the loopback interface.
type machine struct {
	at       string // host:port
	dir      string // what may be used
	known    string // a file with its key
	key      string // a file with the key of the one user
	listener net.Listener
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

func write(t *testing.T, file string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func startSFTP(t *testing.T) *machine {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("SSH_AUTH_SOCK", "")
	host, _ := newKey(t)
	user, private := newKey(t)
	config := &ssh.ServerConfig{}
	config.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(user.PublicKey().Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}
	config.AddHostKey(host)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	m := &machine{at: listener.Addr().String(), dir: t.TempDir(), listener: listener}
	m.known = write(t, filepath.Join(t.TempDir(), "known"),
		[]byte(knownhosts.Line([]string{knownhosts.Normalize(m.at)}, host.PublicKey())+"\n"))
	m.key = write(t, filepath.Join(t.TempDir(), "key"), private)
	go func() {
		for {
			tcp, err := listener.Accept()
			if err != nil {
				return
			}
			go serveSFTP(tcp, config)
		}
	}()
	return m
}

// serveSFTP serves one connection.
func serveSFTP(tcp net.Conn, config *ssh.ServerConfig) {
	defer tcp.Close()
	_, channels, requests, err := ssh.NewServerConn(tcp, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for next := range channels {
		channel, requests, err := next.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(r.Type == "subsystem" && strings.HasSuffix(string(r.Payload), "sftp"), nil)
			}
		}()
		server, err := sftp.NewServer(channel)
		if err != nil {
			return
		}
		go func() { _ = server.Serve(); channel.Close() }()
	}
}

func (m *machine) dial(t *testing.T, dir, options string) (Store, error) {
	t.Helper()
	u, err := Parse("sftp://backup@" + m.at + dir + options)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Dial(t.Context(), u, node.OS("/"))
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

func (m *machine) place() place {
	keys := "?known-hosts=" + m.known + "&key=" + m.key
	return place{large: 600_000, many: 150,
		dial: func(t *testing.T, prefix string) Store {
			s, err := m.dial(t, filepath.Join(m.dir, prefix), keys)
			if err == nil {
				err = s.Create(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		nowhere: func(t *testing.T) Store {
			s, err := m.dial(t, m.dir+"/nowhere", keys)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		hidden: func(t *testing.T) []string { return hiddenBelow(t, m.dir) },
	}
}

func TestSFTPConforms(t *testing.T) { conforms(t, startSFTP(t).place()) }

func TestSFTPConformsWithoutHardLinks(t *testing.T) {
	if err := sftp.SetSFTPExtensions("posix-rename@openssh.com"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sftp.SetSFTPExtensions("hardlink@openssh.com", "posix-rename@openssh.com", "statvfs@openssh.com")
	}()
	p := startSFTP(t).place()
	for _, test := range []func(*testing.T, place){putAndRead, neverOverwritten, cutOff, deletes} {
		test(t, p) // with a rename that replaces, nobody can have one of two writers win
	}
}

func TestAnSFTPServerIsTrustedByItsKeyAlone(t *testing.T) {
	m := startSFTP(t)
	other, private := newKey(t)
	dir := t.TempDir()
	empty := write(t, filepath.Join(dir, "empty"), nil)
	changed := write(t, filepath.Join(dir, "changed"),
		[]byte(knownhosts.Line([]string{knownhosts.Normalize(m.at)}, other.PublicKey())+"\n"))
	block, _ := pem.Decode(private)
	key, err := ssh.ParseRawPrivateKey(pem.EncodeToMemory(block))
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("hunter22"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ options, why, hint string }{
		{"?key=" + m.key, "no file says which key it has", "ssh-keyscan"},
		{"?key=" + m.key + "&known-hosts=" + empty, "does not know this host; it has the key SHA256:", "ssh-keyscan"},
		{"?key=" + m.key + "&known-hosts=" + changed, "it may be another machine", "find out why"},
		{"?known-hosts=" + m.known, "there is no key to enter with", "key=FILE"},
		{"?known-hosts=" + m.known + "&key=" + write(t, filepath.Join(dir, "other"), private),
			"the server takes none of the keys", "authorized_keys"},
		{"?known-hosts=" + m.known + "&key=" + write(t, filepath.Join(dir, "locked"), pem.EncodeToMemory(locked)),
			"has a passphrase", "ssh-add"},
		{"?known-hosts=" + m.known + "&key=" + empty, "is no private key", "key=FILE"},
		{"?known-hosts=" + m.known + "&key=" + dir + "/none", "no such file", "key=FILE"},
	} {
		_, err := m.dial(t, m.dir, c.options)
		var words *Error
		if !errors.As(err, &words) || !strings.Contains(err.Error(), c.why) || !strings.Contains(words.Do, c.hint) {
			t.Errorf("%s: %v", c.options, err)
		}
	}
	if left, _ := os.ReadDir(m.dir); len(left) > 0 {
		t.Errorf("something was sent: %v", left)
	}
}

func TestTheUsualFilesAreUsedForSFTP(t *testing.T) {
	m := startSFTP(t)
	home := filepath.Join(os.Getenv("HOME"), ".ssh")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{m.known: "known_hosts", m.key: "id_ed25519"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(home, to), data)
	}
	s, err := m.dial(t, m.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", []byte("a"))
}

// cutting passes connections on, and cuts each off after so many bytes from the client.
func (m *machine) cutting(t *testing.T, after int64) *machine {
	t.Helper()
	listener, err := net.Listen("tcp", m.at[:strings.LastIndex(m.at, ":")]+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", m.at)
			if err != nil {
				from.Close()
				return
			}
			go pass(from, to, after)
		}
	}()
	cut := *m
	cut.at = listener.Addr().String()
	known, err := os.ReadFile(m.known)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(known), " ")
	cut.known = write(t, filepath.Join(t.TempDir(), "known"),
		fmt.Appendf(nil, "%s %s", knownhosts.Normalize(cut.at), key))
	return &cut
}
