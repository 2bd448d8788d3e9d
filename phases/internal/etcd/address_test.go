package etcd

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// closedURL is one where nothing listens.
func closedURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// silentURL is one that accepts connections, and answers nothing.
func silentURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "https://" + l.Addr().String()
}

// A member is reached at whichever of its URLs answers, and under whichever of the names its
// certificate is for.
func TestAMemberIsReachedAtAnyOfItsURLs(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	later := time.Now().Add(time.Hour)
	s := newServer(t, "a").startTLS(ours, "127.0.0.9", later) // its certificate lacks 127.0.0.1
	s.awaitPort()
	cert, key := ours.leaf("127.0.0.1", later)
	named := Access{CA: ours.PEM, Cert: cert, Key: key, Name: "127.0.0.9"}
	for name, urls := range map[string][]string{
		"only one":                    {s.Endpoint},
		"the first is closed":         {closedURL(t), s.Endpoint},
		"the first answers nothing":   {silentURL(t), s.Endpoint},
		"two that do not, then it":    {silentURL(t), closedURL(t), s.Endpoint},
		"the last is no longer there": {s.Endpoint, closedURL(t)},
	} {
		a := named
		a.Endpoints, a.Others = urls[:1], urls[1:]
		began := time.Now()
		c, err := Dial(t.Context(), a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if took := time.Since(began); took > DefaultDialTimeout {
			t.Errorf("%s: it took %s", name, took)
		}
		status := c.Status(t.Context())
		if len(status) != 1 || status[0].Err != nil || status[0].Endpoint != s.Endpoint {
			t.Errorf("%s: %+v", name, status)
		}
		if _, err := Save(t.Context(), c, filepath.Join(t.TempDir(), "snapshot.db"), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
	}
	a := named
	a.Endpoints, a.Others, a.Name = []string{closedURL(t)}, []string{s.Endpoint}, ""
	var down *Unreachable
	if _, err := Dial(t.Context(), a); !errors.As(err, &down) || len(down.Endpoints) != 2 ||
		!strings.HasSuffix(err.Error(), "the server's certificate is not valid for 127.0.0.1") {
		t.Errorf("without a name: %v", err)
	}
}

func TestAURLOfEtcdIsReadAsEtcdReadsIt(t *testing.T) {
	for raw, want := range map[string]place{
		"https://10.0.0.1:2379":   {"tcp", "10.0.0.1:2379", "10.0.0.1", true},
		"http://[::1]:2379":       {"tcp", "[::1]:2379", "::1", false},
		"unix:///run/etcd.sock":   {"unix", "/run/etcd.sock", "", false},
		"unixs:///run/etcd.sock":  {"unix", "/run/etcd.sock", "", true},
		"https://:2379":           {},
		"10.0.0.1:2379":           {},
		"tcp://10.0.0.1:2379":     {},
		"unix://":                 {},
		"https://[fe80::1%25en]:": {"tcp", "[fe80::1%en]:", "fe80::1%en", true},
	} {
		got, err := parsePlace(raw)
		if got != want || (err != nil) != (want == place{}) {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
}

func TestASocketIsDialled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !Listening(t.Context(), "unix://"+path) || Listening(t.Context(), "unix://"+path+"x") {
		t.Error("it is not told from one that is not there")
	}
}
