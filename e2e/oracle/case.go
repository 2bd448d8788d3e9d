// Package oracle holds what etcdpod renders against what kubeadm itself renders from the same
// configuration: etcd's manifest, the API server's flags for etcd, and the certificates. What
// kubeadm makes of each configuration is kept in testdata, for tests that need neither kubeadm nor
// root; `make goldens` has it made anew.
//
// A file of testdata is one case, as a txtar archive: a sentence that says what it shows, the
// configuration, and what each version of kubeadm made of it.
package oracle

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/txtar"
)

// What kubeadm finds on the host, in every case.
const (
	Hostname       = "Host-1.Example.org"
	DefaultAddress = "10.0.0.11" // of the interface of the default route
)

// Case is a configuration, and what versions of kubeadm make of it.
type Case struct {
	Name     string
	About    string   // what it shows; and on lines of their own, what follows
	Versions []string // "only:", else all
	Flags    []string // "flags:", of kubeadm
	// "members:", NAME=URL,…: for a node that joins them, itself included, in the cluster whose
	// configuration is in cluster.yaml.
	Members string
	// "kubeadm.k8s.io/v1": it is allowed, as no command of kubeadm that renders does yet.
	V1 bool
	// kubeadm.yaml; nil: none is given. VERSION in it, as in the flags, stands for kubeadm's own
	// version, PREVIOUS for one of the minor before.
	Config  []byte
	Cluster []byte            // cluster.yaml
	Patches map[string][]byte // by their paths below the directory of patches
	Host    map[string][]byte // what else is on the host, by paths below its root
	Golden  map[string]Outcome
}

// Outcome is what one version makes of a case.
type Outcome struct {
	Refused      bool
	Manifest     string // etcd.yaml
	APIServer    string // the flags for etcd, one a line
	Certificates string // as [Certificates] describes them
}

// PatchesDir is where the patches of every case are.
const PatchesDir = "/patches"

//go:embed testdata/*.txtar
var testdata embed.FS

// Cases are all that there are, by name. versions are those that each is for,
// unless it says otherwise.
func Cases(versions []string) ([]Case, error) {
	files, err := testdata.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	var all []Case
	for _, f := range files {
		text, err := testdata.ReadFile("testdata/" + f.Name())
		if err != nil {
			return nil, err
		}
		c, err := Parse(strings.TrimSuffix(f.Name(), ".txtar"), text, versions)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// The files of a case.
const (
	configFile  = "kubeadm.yaml"
	clusterFile = "cluster.yaml"
	patchFiles  = "patches/"
	hostFiles   = "host/"
	goldenFiles = "golden/"
	refusedBy   = "refused"
)

// Parse reads a case.
func Parse(name string, text []byte, versions []string) (Case, error) {
	c := Case{Name: name, Versions: versions, Patches: map[string][]byte{},
		Host: map[string][]byte{}, Golden: map[string]Outcome{}}
	archive := txtar.Parse(text)
	c.About = string(archive.Comment)
	for line := range strings.Lines(c.About) {
		if only, is := strings.CutPrefix(line, "only:"); is {
			c.Versions = strings.Fields(only)
		}
		if flags, is := strings.CutPrefix(line, "flags:"); is {
			c.Flags = strings.Fields(flags)
		}
		if members, is := strings.CutPrefix(line, "members:"); is {
			c.Members = strings.TrimSpace(members)
		}
		c.V1 = c.V1 || line == "kubeadm.k8s.io/v1\n"
	}
	golden := map[string]string{}
	for _, f := range archive.Files {
		switch {
		case f.Name == configFile:
			c.Config = f.Data
		case f.Name == clusterFile:
			c.Cluster = f.Data
		case strings.HasPrefix(f.Name, patchFiles):
			c.Patches[strings.TrimPrefix(f.Name, patchFiles)] = f.Data
		case strings.HasPrefix(f.Name, hostFiles):
			c.Host[strings.TrimPrefix(f.Name, hostFiles)] = f.Data
		case strings.HasPrefix(f.Name, goldenFiles):
			golden[strings.TrimPrefix(f.Name, goldenFiles)] = string(f.Data)
		default:
			return Case{}, fmt.Errorf("cannot read the case %s: what is %s?", name, f.Name)
		}
	}
	if len(golden) == 0 {
		return c, nil
	}
	refused := strings.Fields(golden[refusedBy])
	var took []string
	for _, v := range c.Versions {
		if slices.Contains(refused, v) {
			c.Golden[v] = Outcome{Refused: true}
		} else {
			took = append(took, v)
		}
	}
	for i, v := range took {
		var o Outcome
		for file, text := range o.files() {
			*text = ofOne(golden[file], i, took)
		}
		c.Golden[v] = o
	}
	return c, nil
}

// files are the texts of an outcome that was not refused, by the names that they
// have among the goldens.
func (o *Outcome) files() map[string]*string {
	return map[string]*string{"etcd.yaml": &o.Manifest, "apiserver": &o.APIServer, "certificates": &o.Certificates}
}

// Format is what Parse reads.
func (c Case) Format() []byte {
	archive := &txtar.Archive{Comment: []byte(c.About)}
	add := func(name string, data []byte) {
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: data})
	}
	if c.Config != nil {
		add(configFile, c.Config)
	}
	if c.Cluster != nil {
		add(clusterFile, c.Cluster)
	}
	for _, file := range sortedKeys(c.Patches) {
		add(patchFiles+file, c.Patches[file])
	}
	for _, file := range sortedKeys(c.Host) {
		add(hostFiles+file, c.Host[file])
	}
	var refused, took []string
	texts := map[string][]string{}
	for _, v := range c.Versions {
		o := c.Golden[v]
		if o.Refused {
			refused = append(refused, v)
			continue
		}
		took = append(took, v)
		for file, text := range o.files() {
			texts[file] = append(texts[file], *text)
		}
	}
	if refused != nil {
		add(goldenFiles+refusedBy, []byte(strings.Join(refused, " ")+"\n"))
	}
	for _, file := range sortedKeys(texts) {
		if text := ofAll(texts[file], took); text != "" {
			add(goldenFiles+file, []byte(text))
		}
	}
	return txtar.Format(archive)
}

// For is the configuration for one version of kubeadm; nil where there is none.
func (c Case) For(version string) []byte {
	if c.Config == nil {
		return nil
	}
	return []byte(fill(string(c.Config), version))
}

// ClusterFor is what the cluster keeps, of one version.
func (c Case) ClusterFor(version string) []byte {
	if c.Cluster == nil {
		return nil
	}
	return []byte(fill(string(c.Cluster), version))
}

// FlagsFor are the flags for one version of kubeadm.
func (c Case) FlagsFor(version string) []string {
	flags := slices.Clone(c.Flags)
	for i := range flags {
		flags[i] = fill(flags[i], version)
	}
	return flags
}

func fill(text, version string) string {
	minor, _ := strconv.Atoi(strings.Split(version, ".")[1])
	return strings.NewReplacer("VERSION", "v"+version, "PREVIOUS", fmt.Sprintf("v1.%d.1", minor-1)).Replace(text)
}

// File is the name of the case's file, below the root of the module.
func (c Case) File() string { return path.Join("e2e/oracle/testdata", c.Name+".txtar") }
