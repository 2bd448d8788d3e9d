package phases

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/etcdpod/etcdpod/phases/apiserver"
	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/bind"
	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/members"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/phases/restore"
	"github.com/etcdpod/etcdpod/phases/status"
	"github.com/etcdpod/etcdpod/phases/together"
	"github.com/etcdpod/etcdpod/phases/upgrade"
)

// Config is what the command line says about the node. Everything else is read from the node
// itself.
type Config struct {
	Root      string // all host paths are below it; normally "/"
	CRISocket string // unix:///…; empty: from the kubelet's configuration
	// Commands that stop, start and query the kubelet, split as a shell would; empty: systemctl.
	KubeletStop, KubeletStart, KubeletStatus string
	// How to reach etcd; empty: from the manifests. Certificates are paths of this process.
	Endpoints         []string
	CACert, Cert, Key string
	Version           string   // of etcdpod
	Command           []string // as typed
	Emit              func(engine.Event)
	CarriesOut        func(run string) // told of the run that this process carries out
	// Arguments with which this program does [ServeApart]; none: what that would do is done in this
	// process.
	Apart              []string
	KubeletStopTimeout time.Duration // 0: 30 s
}

// Open reads the node's configuration. Where the kubelet's cannot be read, the node can be looked
// at, and etcd backed up, and nothing can be changed.
func Open(c Config) (*Node, error) {
	root, err := os.Stat(c.Root)
	if err == nil && !root.IsDir() {
		err = fmt.Errorf("%s: %w", c.Root, syscall.ENOTDIR)
	}
	if err != nil { // without this check etcdpod would report a node with nothing on it
		return nil, engine.Refuse("correct --root, or make the directory", "cannot look for a node: %v", err)
	}
	disk := node.OS(c.Root)
	kubelet, unread := node.ReadKubeletConfig(disk)
	if c.KubeletStart != "" {
		kubelet.UnitFails, kubelet.UnitCure = "", "" // systemd is not asked
	}
	if c.CRISocket != "" {
		kubelet.RuntimeEndpoint = c.CRISocket
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("cannot determine this host's name: %w", err)
	}
	for _, file := range []*string{&c.CACert, &c.Cert, &c.Key} {
		if *file == "" {
			continue
		}
		// The journal keeps these paths, and `resume` may be typed in another directory.
		if *file, err = filepath.Abs(*file); err != nil {
			return nil, fmt.Errorf("cannot find %s: %w", *file, err)
		}
	}
	access := observe.AccessFlags{Endpoints: c.Endpoints, CACert: c.CACert, Cert: c.Cert, Key: c.Key}
	if err := access.Check(); err != nil {
		return nil, err
	}
	if c.Emit == nil {
		c.Emit = func(engine.Event) {}
	}
	if c.KubeletStopTimeout == 0 {
		c.KubeletStopTimeout = 30 * time.Second
	}
	commands := node.Commands{Stop: c.KubeletStop, Start: c.KubeletStart,
		Status: c.KubeletStatus, Wait: c.KubeletStopTimeout}
	host := &node.Host{FS: disk, Kubelet: node.Service(node.Run, commands),
		Runtime: node.CRI(kubelet.RuntimeEndpoint, disk), Processes: node.Proc(disk), Clock: node.WallClock()}
	var unready error
	if unread != nil {
		unready = engine.Refuse("correct it: the kubelet could not start with it, either", "%v", unread)
	}
	parts := engine.Parts{
		Host: host, Etcd: bind.NewEtcd(disk, bind.Apart(c.Apart)), API: bind.NewAPIServer(disk),
		Certificates: bind.NewCertificates(disk, host.Clock), Stores: bind.NewStores(disk),
		Involved: observe.InvolvedText,
		Version:  c.Version, Command: c.Command, Emit: c.Emit, CarriesOut: c.CarriesOut,
		TooLate: tooLate(), Unready: unready,
	}
	n := together.NewNode(parts, observe.Node{Config: kubelet,
		Name: name, Access: access})
	n.Elsewhere = n.Look.CheckControlPlane
	n.Joints, n.Looks, n.Connect = joints(), status.Replies(n.Look), together.ConnectBySSH
	maps.Copy(n.Looks, apiserver.Replies(n.Look))
	maps.Copy(n.Looks, upgrade.Replies(n.Look))
	return &Node{n}, nil
}

// joints are the workflows that several nodes carry out as one run.
func joints() []together.Joint {
	return []together.Joint{restore.Joint(), members.RemoveJoint(), members.ReplaceJoint(), members.HandoverJoint(),
		members.ReaddressJoint(), apiserver.Joint(), upgrade.Joint(), upgrade.DownJoint()}
}

// ServeApart does the part of an operation that may end its process, whatever one does about it,
// for the process that started this one.
func ServeApart(in io.Reader, out io.Writer) error { return bind.ServeApart(in, out) }

// Node is the control-plane node that etcdpod runs on: what a run changes, what observers look at,
// and one node of several in a transaction.
type Node struct {
	*together.Node
}

// Engine is the node as a run changes it.
func (n *Node) Engine() *engine.Node { return n.Node.Node }

// Several is the node as one of several in a transaction.
func (n *Node) Several() *together.Node { return n.Node.OneOfSeveral() }

// Workflow is any of etcdpod's workflows, whatever the type of its facts.
type Workflow interface {
	String() string // its name
	Checked() error // whether its options make sense by themselves
	On(*observe.Node) engine.Work
}

// Do plans a workflow and carries it out as one run. confirm sees the plan; if it returns an error,
// the command ends before anything is touched.
func (n *Node) Do(ctx context.Context, w Workflow, confirm func(engine.Plan) error) error {
	return n.Node.Node.Do(ctx, w.On(n.Look), confirm)
}

// Preview plans a workflow and changes nothing.
func (n *Node) Preview(ctx context.Context, w Workflow) (engine.Plan, error) {
	return n.Node.Node.Preview(ctx, w.On(n.Look))
}
