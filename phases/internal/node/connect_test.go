package node_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/internal/node"
)

func TestTheEndOfAProgramSaysWhyItEnded(t *testing.T) {
	scripts(t, map[string]string{
		"refused": "echo banner >&2; echo cp2: Permission denied. >&2; exit 255",
		"changed": "for i in 1 2 3 4 5; do echo @@@ >&2; done; echo Offending key in known_hosts:1 >&2\n" +
			"echo Host key for cp2 has changed. >&2; echo Host key verification failed. >&2; exit 255",
		"silent": "exit 127",
	})
	for name, want := range map[string]struct {
		code int
		said string
	}{
		"refused": {255, "banner; cp2: Permission denied"},
		"changed": {255, "Offending key in known_hosts:1; Host key for cp2 has changed; Host key verification failed"},
		"silent":  {127, "it ended with exit code 127"},
	} {
		conn, err := node.Connect([]string{name})
		ok(t, err)
		_, err = io.ReadAll(conn)
		var ended *node.EndedError
		if !errors.As(err, &ended) || ended.Code != want.code || err.Error() != want.said {
			t.Errorf("%s: %v %+v", name, err, ended)
		}
		_ = conn.Close()
	}
}

func TestAProgramThatIsCutOffIsQuotedAllTheSame(t *testing.T) {
	scripts(t, map[string]string{"hangs": "echo waiting for cp2 >&2; echo x\n" + forever})
	conn, err := node.Connect([]string{"hangs"})
	ok(t, err)
	b := make([]byte, 2)
	_, err = io.ReadFull(conn, b) // by now it has said both
	ok(t, err)
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(conn)
		read <- err
	}()
	_ = conn.Close()
	if err := <-read; !strings.Contains(err.Error(), "waiting for cp2") {
		t.Errorf("it says %v", err)
	}
}
