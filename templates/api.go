package templates

import "errors"

var errNotWritten = errors.New("not written yet")

// Read reads kubeadm's configuration file: InitConfiguration, ClusterConfiguration and JoinConfiguration, strictly. nil is no file: the flags and kubeadm's
// defaults. An error joins an *InvalidError for each thing that is wrong.
func Read(data []byte, o Options) (*Config, error) { return nil, errNotWritten }

// InvalidError is one thing that is wrong with the configuration, or with what was given beside it.
type InvalidError struct {
	Kind   string // "ClusterConfiguration", …; "" where it is not about one document
	Line   int    // of the file, from 1; 0: no line of it
	Field  string // "etcd.local.dataDir"; "" where it is not about a field
	Reason string
	Hint   string // what to do; may be ""
}

func (e *InvalidError) Error() string { return e.Reason }

// EtcdManifest renders etcd.yaml. members are nil for the first member of a cluster; for one that joins they are all, itself included.
func (c *Config) EtcdManifest(p *Patches, members []Member) ([]byte, error) { return nil, errNotWritten }

// APIServerEtcdFlags are the API server's flags for etcd in the order in which kubeadm writes them.
func (c *Config) APIServerEtcdFlags() []Flag { return nil }

// ClientURL is where clients reach this member: the annotation's value, which kubeadm takes from the advertise address whatever etcd's flags say.
func (c *Config) ClientURL() string { return "" }

// PeerURL is where the other members reach this one.
func (c *Config) PeerURL() string { return "" }

// Patches are kubeadm's patches of manifests. nil patches nothing.
type Patches struct {
	Ignored []string // files that are no patches, and why; for a person
}

// ReadPatches reads the files of a patches directory, by their paths below it: target[suffix][+type].{json,yaml}.
func ReadPatches(files map[string][]byte) (*Patches, error) { return nil, errNotWritten }

// Apply patches the manifest of "etcd" or "kube-apiserver", and serialises it as kubeadm does. Without a patch for it the manifest is as it was.
func (p *Patches) Apply(target string, manifest []byte) ([]byte, error) { return nil, errNotWritten }
