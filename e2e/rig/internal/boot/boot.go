// Package boot defines what the rig tells a node's first process, and how the two communicate.
package boot

// Config goes as JSON to the standard input of nodeinit, which answers with one line: [Ready],
// or why it cannot boot.
type Config struct {
	Hostname string
	Dir      string   // the node's directory on the host
	Path     string   // PATH of everything that runs on the node
	Veth     string   // the network interface that the host moved into the node
	Address  string   // of the node, with the prefix length
	Gateway  string   // the bridge's address
	Cgroup   string   // of the node, in each of the host's hierarchies
	Services []string // units to start, in order
	Disk     string   // the file of the disk for /var/lib, on the host; empty: there is none
	Systemd  bool     // systemd becomes the first process
}

// Ready is nodeinit's answer when everything that it was told to start runs.
const Ready = "ready"

// Socket is where nodeinit answers systemctl, on the node.
const Socket = "/run/nodeinit.sock"

// Systemd is what becomes the first process of a node that has it.
const Systemd = "/lib/systemd/systemd"

// Home is root's home directory on a node, separate from the host's.
const Home = "/var/lib/root"

// The parts of the file system that are the node's own, below Config.Dir; it shares everything else
// with the host. /var/lib is one mount, so that a rename from /var/lib/etcd to another place in it
// works, as it does on most nodes; /etc/kubernetes is another one.
const (
	EtcKubernetes = "etc-kubernetes" // /etc/kubernetes
	VarLib        = "var-lib"        // /var/lib
	VarLog        = "var-log"        // /var/log
	// The node's changes to the host's /etc: the upper directory of an overlay.
	Etc     = "etc"
	EtcWork = ".etc-work" // the overlay's own
)
