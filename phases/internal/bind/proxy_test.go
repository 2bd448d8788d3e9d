package bind

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/internal/etcd"
	"github.com/etcdpod/etcdpod/phases/internal/node"
)

// Go reads the variables once in a process, so the calls are made in another one; and it never
// sends what is for loopback through a proxy, so they are made to 0.0.0.0, which is this host, too.
const callsWith = "ETCDPOD_TEST_PROXIED"

func TestNothingOfTheClusterGoesThroughAProxy(t *testing.T) {
	if os.Getenv(callsWith) != "" {
		t.Skip("this is the process that calls")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			_ = c.Close()
		}
	}()
	child := exec.Command(os.Args[0], "-test.run=^TestCallsWithProxies$", "-test.v")
	child.Env = append(os.Environ(), callsWith+"=1")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		child.Env = append(child.Env, name+"=http://"+l.Addr().String(),
			strings.ToLower(name)+"=http://"+l.Addr().String())
	}
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestCallsWithProxies") {
		t.Errorf("%v:\n%s", err, out)
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the proxy was asked %d times:\n%s", n, out)
	}
}

func TestCallsWithProxies(t *testing.T) {
	if os.Getenv(callsWith) == "" {
		t.Skip("only with proxies in the environment")
	}
	s := newAPIServer(t)
	s.at = strings.Replace(s.at, "127.0.0.1", "0.0.0.0", 1)
	admin := s.kubeconfig("admin.conf", "system:masters", time.Now().Add(time.Hour))
	expired := s.kubeconfig("old.conf", "system:masters", time.Now().Add(-time.Hour))
	api := NewAPIServer(s.fs)
	if _, err := api.Revision(t.Context(), s.access(admin)); err != nil {
		t.Error(err)
	}
	if err := api.Ready(t.Context(), s.access(expired)); err != nil {
		t.Error(err)
	}
	// An etcd that ends every connection is enough: what matters is where they come.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	at := "http://" + strings.Replace(l.Addr().String(), "127.0.0.1", "0.0.0.0", 1)
	c, err := etcd.Dial(t.Context(), etcd.Access{Endpoints: []string{at}, CallTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.Status(t.Context())
	_ = c.Ready(t.Context())
	_ = etcd.PeerServes(t.Context(), etcd.Access{Endpoints: []string{at}})
	_ = etcd.Listening(t.Context(), at)
	_ = etcd.AnswersStrangers(t.Context(), at)
	_, _ = node.Served(t.Context(), strings.TrimPrefix(at, "http://"), nil, nil)
	_, _ = node.CRI("unix:///none.sock", s.fs).Containers(t.Context())
}
