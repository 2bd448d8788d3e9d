package oracle

import (
	"cmp"
	"slices"
	"strings"
)

// What etcdpod does otherwise than kubeadm.
type What int

// In what an outcome departs from kubeadm's.
const (
	Refuses What = 1 << iota // what kubeadm takes
	Takes                    // what kubeadm refuses
	Manifest
	APIServer
	Certs
)

func (w What) String() string {
	var all []string
	for i, name := range []string{
		"it refuses", "it takes what kubeadm refuses", "the manifest", "the API server's flags", "the certificates",
	} {
		if w&(1<<i) != 0 {
			all = append(all, name)
		}
	}
	return cmp.Or(strings.Join(all, ", "), "nothing")
}

// Departure is where etcdpod on purpose does otherwise than kubeadm.
type Departure struct {
	Case     string
	Versions []string // nil: all that the case is for
	What     What
	Why      string
}

// Departures are all of them: what is not among them is as kubeadm has it, and what
// is among them is not.
func Departures() []Departure {
	const (
		strict   = "kubeadm warns of what it does not know, and goes on without; nobody reads the warning"
		expired  = "kubeadm makes certificates that have expired; etcd does not start with them"
		ownMinor = "etcdpod is no kubeadm of one version: kubernetesVersion says how etcd " +
			"is set up, as by the kubeadm of its minor"
		offline = "etcdpod looks up no label; " + ownMinor
	)
	return []Departure{
		{Case: "unknown-field", What: Refuses, Why: strict},
		{Case: "unknown-field-case", What: Refuses, Why: strict},
		{Case: "unknown-field-of-v1", What: Refuses, Why: strict},
		{Case: "duplicate-key", What: Refuses, Why: strict},
		{Case: "documents-kind-unknown", What: Refuses, Why: strict},
		{Case: "documents-dots", What: Refuses, Why: "kubeadm leaves the second document out, without a word"},
		{Case: "validity-zero", What: Refuses, Why: expired},
		{Case: "validity-negative", What: Refuses, Why: expired},
		{Case: "validity-ca-negative", What: Refuses, Why: expired},
		{Case: "image-tag-refused", What: Refuses,
			Why: "no container runtime takes such an image; kubeadm finds out when it pulls it"},
		{Case: "patches-no-pod", What: Refuses, Why: "kubeadm passes over what the patch says, and writes a Pod"},
		{Case: "external-nowhere", Versions: []string{"1.34.4"},
			What: Refuses, Why: "an API server without --etcd-servers does not start; later kubeadms refuse it"},
		{Case: "api-v1beta3", Versions: []string{"1.34.4", "1.35.4", "1.36.3"}, What: Refuses,
			Why: "deprecated since 1.31, and read by no kubeadm from 1.37 on; `kubeadm config migrate` writes it anew"},
		{Case: "gate-rootlesscontrolplane", What: Refuses, Why: "kubeadm makes users, and puts the ids that are free " +
			"on this host into the manifest; etcdpod makes none"},
		{Case: "version-before", Versions: []string{"1.35.4", "1.36.3", "1.37.2"}, What: Manifest, Why: ownMinor},
		{Case: "version-two-before", What: Takes, Why: ownMinor},
		{Case: "version-after", What: Refuses, Why: ownMinor},
		{Case: "version-label", Versions: []string{"1.34.4", "1.35.4", "1.36.3"}, What: Manifest, Why: offline},
		{Case: "version-label-older", What: Manifest, Why: offline},
		{Case: "version-ci", What: Refuses, Why: "what a build of no release brings is not known"},
		{Case: "flags-capitals", What: Manifest | Certs, Why: "kubeadm takes the flag over as it is; the kubelet " +
			"registers a node with small letters, and the two do not find each other"},
		{Case: "flow-whole", What: Takes, Why: "it is good YAML; kubeadm takes what begins with a brace for JSON"},
		{Case: "networking-refused", What: Takes, Why: "etcdpod judges what matters to etcd"},
		{Case: "join-discovery-refused", What: Takes, Why: "etcdpod judges what matters to etcd"},
		{Case: "patches-of-apiserver", What: APIServer, Why: "the API server's manifest is kubeadm's to write and to " +
			"patch; etcdpod sets the flags that the configuration has"},
	}
}

// RequestsDepart takes out of etcdpod's requests what kubeadm's do not have, in no case: it
// asks for the extended key usage. A CA that signs what is asked for signs kubeadm's for no
// usage, and etcd and the API server refuse what it has signed. took is how often that was. And
// where etcd runs elsewhere, kubeadm asks for its certificates all the same, and etcdpod for
// none: who runs it makes them.
func RequestsDepart(described string) (rest string, took int) {
	var b strings.Builder
	for line := range strings.Lines(described) {
		if strings.HasPrefix(line, "\t"+usageLine) {
			took++
			continue
		}
		b.WriteString(line)
	}
	return b.String(), took
}

// Departure finds that of a case, for a version.
func (c Case) Departure(version string) What {
	for _, d := range Departures() {
		if d.Case == c.Name && (d.Versions == nil || slices.Contains(d.Versions, version)) {
			return d.What
		}
	}
	return 0
}

// Differs says in what an outcome of etcdpod, without certificates, differs from kubeadm's.
func (o Outcome) Differs(from Outcome) What {
	switch {
	case o.Refused && from.Refused:
		return 0
	case o.Refused:
		return Refuses
	case from.Refused:
		return Takes
	}
	var w What
	if o.Manifest != from.Manifest {
		w |= Manifest
	}
	if o.APIServer != from.APIServer {
		w |= APIServer
	}
	return w
}

// Diff shows what differs, line by line.
func Diff(want, got string) string {
	var b strings.Builder
	for line := range strings.Lines(ofAll([]string{want, got}, []string{"1.1", "1.2"})) {
		switch marks, rest, _ := strings.Cut(line, margin); strings.TrimSpace(marks) {
		case "1":
			b.WriteString("-" + rest)
		case "2":
			b.WriteString("+" + rest)
		}
	}
	return b.String()
}
