// Package boot holds what the rig tells a node's first process, and how the two speak.
package boot

// Config is written as JSON to the standard input of nodeinit, which answers with one line:
// [Ready], or why it cannot boot.
type Config struct {
	Hostname string
	Dir      string   // the node's directory on the host
	Path     string   // PATH of everything that runs on the node
	Veth     string   // the network interface that the host moved into the node
	Address  string   // of the node, with the prefix length
	Gateway  string   // the bridge's address
	Cgroup   string   // of the node, in each of the host's hierarchies
	Services []string // units to start, in order
}

// Ready is nodeinit's answer when everything it was told to start runs.
const Ready = "ready"

// Socket is where nodeinit answers systemctl, on the node.
const Socket = "/run/nodeinit.sock"

// Home is the home directory of root on a node, which is not the host's.
const Home = "/var/lib/root"

// What a node has for itself of the host's file system, below Config.Dir; all else it shares with
// the host. /var/lib is one mount, so that a rename from /var/lib/etcd to another place in it
// works, as it does on most nodes; /etc/kubernetes is another one.
const (
	EtcKubernetes = "etc-kubernetes" // /etc/kubernetes
	VarLib        = "var-lib"        // /var/lib
	VarLog        = "var-log"        // /var/log
	// What the node's /etc has other than the host's: the upper directory of an overlay.
	Etc     = "etc"
	EtcWork = ".etc-work" // the overlay's own
)
