// Command nodeinit is the first process of a node of the rig: in namespaces made by the rig, it
// mounts the node's own directories, sets up the network, keeps containerd, sshd and the kubelet
// running as systemd would, and reaps processes; or it lets systemd itself do that, in its place.
// When it is killed, the kernel kills every process of the node and drops its mounts: that is the
// rig's power switch.
//
// Called as systemctl it asks the first process; called as pause it is the container that
// holds a pod's namespaces.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/etcdpod/etcdpod/e2e/rig/internal/boot"
)

func main() {
	switch filepath.Base(os.Args[0]) {
	case "pause":
		pause()
	case "systemctl":
		os.Exit(systemctl(os.Args[1:]))
	default:
		if err := powerOn(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

func pause() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

const secondStage = "second-stage"

// powerOn returns only if the node cannot start.
func powerOn() error {
	if os.Getpid() != 1 {
		return errors.New("nodeinit is the first process of a node: start it with go run ./e2e/rig/cluster up")
	}
	second := len(os.Args) == 3 && os.Args[1] == secondStage
	var text []byte
	if second {
		text = []byte(os.Args[2])
	} else {
		var err error
		if text, err = io.ReadAll(os.Stdin); err != nil {
			return fmt.Errorf("cannot read the node's configuration: %w", err)
		}
	}
	var c boot.Config
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("cannot read the node's configuration: %w", err)
	}
	if !second {
		return ownCgroups(c.Cgroup, string(text))
	}
	return run(c)
}

func run(c boot.Config) error {
	if err := os.Setenv("PATH", c.Path); err != nil {
		return err
	}
	if err := isolate(c); err != nil {
		return err
	}
	if err := network(c); err != nil {
		return err
	}
	if c.Systemd {
		return handOver(c)
	}
	units := newSupervisor()
	for _, name := range c.Services {
		if err := units.start(name); err != nil {
			return err
		}
	}
	if err := awaitSocket(containerdSocket); err != nil {
		return err
	}
	if slices.Contains(c.Services, "ssh") {
		if err := awaitSSHD(c.Address); err != nil {
			return err
		}
	}
	requests, err := listen()
	if err != nil {
		return err
	}
	fmt.Println(boot.Ready)
	units.serve(requests)
	return nil
}
