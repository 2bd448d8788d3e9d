package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/etcdpod/etcdpod/e2e/rig/internal/boot"
)

// request is a systemctl verb and its unit; the answer has systemctl's output and exit code.
type request struct{ Verb, Unit string }

type answer struct {
	Output, Error string
	Code          int
}

// systemctl asks the first process. It knows the verbs that kubeadm and etcdpod use, with systemd's
// words and exit codes.
func systemctl(args []string) int {
	args = slices.DeleteFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
	args = append(args, "", "")
	conn, err := net.Dial("unix", boot.Socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Failed to connect to bus:", err)
		return 1
	}
	defer conn.Close()
	var got answer
	err = json.NewEncoder(conn).Encode(request{args[0], strings.TrimSuffix(args[1], ".service")})
	if err == nil {
		err = json.NewDecoder(conn).Decode(&got)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Connection to the first process failed:", err)
		return 1
	}
	if got.Output != "" {
		fmt.Println(got.Output)
	}
	if got.Error != "" {
		fmt.Fprintln(os.Stderr, got.Error)
	}
	return got.Code
}

func listen() (net.Listener, error) {
	l, err := net.Listen("unix", boot.Socket)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for systemctl: %w", err)
	}
	return l, nil
}

// serve answers until the node is switched off.
func (s *supervisor) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "cannot accept systemctl:", err)
			continue
		}
		go func() {
			defer conn.Close()
			var r request
			if err := json.NewDecoder(conn).Decode(&r); err == nil {
				// A killed systemctl no longer waits for the answer.
				_ = json.NewEncoder(conn).Encode(s.answer(r))
			}
		}()
	}
}

func (s *supervisor) answer(r request) answer {
	state := s.state(r.Unit)
	switch r.Verb {
	case "daemon-reload", "enable", "disable":
		return answer{}
	case "start":
		return failed(s.start(r.Unit), 5)
	case "stop":
		return failed(s.stop(r.Unit), 5)
	case "restart":
		if err := s.stop(r.Unit); err != nil {
			return failed(err, 5)
		}
		return failed(s.start(r.Unit), 5)
	case "is-active":
		switch state {
		case "active":
			return answer{Output: state}
		case "unknown":
			return answer{Output: "inactive", Code: 4}
		}
		return answer{Output: state, Code: 3}
	case "is-enabled":
		if state == "unknown" {
			return answer{
				Error: "Failed to get unit file state for " + r.Unit + ".service: No such file or directory", Code: 1,
			}
		}
		return answer{Output: "enabled"}
	case "status":
		return status(r.Unit, state)
	}
	return answer{Error: "Unknown command verb " + r.Verb + ". (This is the rig's systemctl.)", Code: 1}
}

func status(unit, state string) answer {
	switch state {
	case "unknown":
		return answer{Error: "Unit " + unit + ".service could not be found.", Code: 4}
	case "active":
		return answer{Output: "Loaded: loaded\nActive: active (running)"}
	}
	return answer{Output: "Loaded: loaded\nActive: " + state, Code: 3}
}

func failed(err error, code int) answer {
	if err != nil {
		return answer{Error: err.Error(), Code: code}
	}
	return answer{}
}
