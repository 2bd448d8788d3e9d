package templates

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1"
	"k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm/v1beta4"
)

const (
	initKind    = "InitConfiguration"
	clusterKind = "ClusterConfiguration"
	joinKind    = "JoinConfiguration"
)

// Read reads kubeadm's configuration file: InitConfiguration, ClusterConfiguration and
// JoinConfiguration. It is strict where kubeadm only warns of unknown fields. nil means no file:
// the flags and kubeadm's defaults. An error joins an *InvalidError for each thing that is wrong.
func Read(data []byte, o Options) (*Config, error) {
	if err := o.mixed(data != nil); err != nil {
		return nil, err
	}
	s, err := read(data, o)
	if err != nil {
		return nil, err
	}
	if o.Cluster != nil {
		err = s.takeCluster(o)
	}
	if err == nil {
		err = s.complete(data != nil, o)
	}
	if err != nil {
		return nil, err
	}
	return s.config(o)
}

// mixed refuses flags beside a file that would override them, as kubeadm does (kubeadm,
// validation: ValidateMixedArguments).
func (o Options) mixed(file bool) error {
	flags := []Flag{
		{"apiserver-advertise-address", o.AdvertiseAddress}, {"patches", o.PatchesDir},
		{"kubernetes-version", o.KubernetesVersion}, {"image-repository", o.ImageRepository},
		{"cert-dir", o.CertificatesDir},
	}
	reason, suggestion := "cannot be combined with a configuration file", "put it into the file"
	if !file {
		reason, suggestion, flags = "is up to the cluster, not to the joining member", "", flags[2:]
	}
	if !file && !o.Join {
		return nil
	}
	var given []string
	for _, f := range flags {
		if f.Value != "" {
			given = append(given, "--"+f.Name)
		}
	}
	if given == nil {
		return nil
	}
	return &InvalidError{Reason: strings.Join(given, ", ") + " " + reason, Suggestion: suggestion}
}

// sources are the documents before defaults. Those of v1beta4 are read as v1, which
// has all of its fields.
type sources struct {
	init    kubeadm.InitConfiguration
	cluster kubeadm.ClusterConfiguration
	join    kubeadm.JoinConfiguration

	docs     map[string]*document // by kind
	kept     bool                 // the ClusterConfiguration is the cluster's own
	warnings []string
}

func read(data []byte, o Options) (*sources, error) {
	s := &sources{docs: map[string]*document{}}
	docs, err := split(data)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, d := range docs {
		if first := s.docs[d.Kind]; first != nil {
			errs = append(errs, &InvalidError{Kind: d.Kind, Line: d.first(),
				Reason: fmt.Sprintf("appears twice; the first is on line %d", first.first())})
			continue
		}
		s.docs[d.Kind] = d
		errs = append(errs, s.take(d, o)...)
	}
	return s, errors.Join(errs...)
}

// take reads one document.
func (s *sources) take(d *document, o Options) []error {
	if d.Group != kubeadm.GroupName {
		if !slices.Contains([]string{"kubelet.config.k8s.io", "kubeproxy.config.k8s.io"}, d.Group) {
			s.warnings = append(s.warnings, fmt.Sprintf("line %d: a document of %s, kind %s, is ignored",
				d.first(), d.GroupVersion(), d.Kind))
		}
		return nil
	}
	if err := d.supported(o.AllowExperimentalAPI); err != nil {
		return []error{err}
	}
	strict, value := s.types(d)
	if strict == nil {
		return []error{&InvalidError{Kind: d.Kind, Line: d.lineOf("kind"), Reason: "kubeadm has no such kind"}}
	}
	if errs := d.decode(strict); errs != nil || value == nil {
		return errs
	}
	return d.decode(value)
}

// supported says which versions of the API are accepted (kubeadm, util/config:
// validateSupportedVersion).
func (d *document) supported(experimental bool) error {
	e := &InvalidError{Kind: d.Kind, Line: d.lineOf("apiVersion")}
	switch d.Version {
	case kubeadm.SchemeGroupVersion.Version:
		if experimental {
			return nil
		}
		e.Reason, e.Suggestion = d.GroupVersion().String()+" is experimental",
			"use "+v1beta4.SchemeGroupVersion.String()+", or give --allow-experimental-api"
	case v1beta4.SchemeGroupVersion.Version:
		return nil
	case "v1alpha1", "v1alpha2", "v1alpha3", "v1beta1", "v1beta2", "v1beta3":
		e.Reason, e.Suggestion = d.GroupVersion().String()+" is an old API",
			"run `kubeadm config migrate --old-config FILE --new-config NEW` with a kubeadm that can still read it"
	default:
		e.Reason = "kubeadm has no API " + d.GroupVersion().String()
	}
	return e
}

// types returns what a document is read into: strictly, and then for use; the latter is nil for
// kinds that do not matter here.
func (s *sources) types(d *document) (strict, value any) {
	beta := d.Version == v1beta4.SchemeGroupVersion.Version
	pick := func(old, now any) any {
		if beta {
			return old
		}
		return now
	}
	switch d.Kind {
	case initKind:
		return pick(&v1beta4.InitConfiguration{}, &kubeadm.InitConfiguration{}), &s.init
	case clusterKind:
		return pick(&v1beta4.ClusterConfiguration{}, &kubeadm.ClusterConfiguration{}), &s.cluster
	case joinKind:
		return pick(&v1beta4.JoinConfiguration{}, &kubeadm.JoinConfiguration{}), &s.join
	case "ResetConfiguration":
		return pick(&v1beta4.ResetConfiguration{}, &kubeadm.ResetConfiguration{}), nil
	case "UpgradeConfiguration":
		return pick(&v1beta4.UpgradeConfiguration{}, &kubeadm.UpgradeConfiguration{}), nil
	}
	return nil, nil
}

// takeCluster replaces the file's ClusterConfiguration with the cluster's own.
func (s *sources) takeCluster(o Options) error {
	o.AllowExperimentalAPI = true // whoever stored it there was allowed to
	of, err := read(o.Cluster, o)
	if err == nil && of.docs[clusterKind] == nil {
		err = &InvalidError{Reason: "there is no " + clusterKind}
	}
	if err != nil {
		return fmt.Errorf("cannot use the configuration stored in the cluster: %w", err)
	}
	if d := s.docs[clusterKind]; d != nil {
		s.warnings = append(s.warnings, fmt.Sprintf(
			"line %d: the file's %s is ignored in favour of the one stored in the cluster", d.first(), clusterKind))
	}
	s.cluster, s.docs[clusterKind], s.kept = of.cluster, of.docs[clusterKind], true
	return nil
}

// complete reports anything required that is missing.
func (s *sources) complete(file bool, o Options) error {
	switch {
	case !o.Join && file && s.docs[initKind] == nil && s.docs[clusterKind] == nil:
		err := &InvalidError{Reason: fmt.Sprintf("the file has neither %s nor %s", initKind, clusterKind)}
		if s.docs[joinKind] != nil {
			err.Suggestion = "a " + joinKind +
				" is for `etcdpod join`; for requests, write the node's name and advertiseAddress into an " + initKind
		}
		return err
	case !o.Join:
		return nil
	case file && s.docs[joinKind] == nil:
		return &InvalidError{Reason: "the file has no " + joinKind}
	case file && s.join.ControlPlane == nil:
		return &InvalidError{
			Kind: joinKind, Line: s.docs[joinKind].first(), Field: "controlPlane",
			Reason:     "is missing: this is a worker's configuration",
			Suggestion: "add `controlPlane: {}`, or what its advertiseAddress is",
		}
	case s.docs[clusterKind] == nil:
		return &InvalidError{
			Reason: "the configuration of etcd in this cluster is unknown",
			Suggestion: "add the " + clusterKind + " to the file: `kubectl -n kube-system get configmap " +
				"kubeadm-config -o jsonpath={.data.ClusterConfiguration}` shows it",
		}
	case s.docs[initKind] != nil:
		s.warnings = append(s.warnings, fmt.Sprintf("line %d: the %s is ignored, since this is about a joining "+
			"member", s.docs[initKind].first(), initKind))
	}
	return nil
}

// problem turns a validation error into one with a line.
func (s *sources) problem(kind string, e *field.Error) error {
	p := &InvalidError{Kind: kind, Field: e.Field, Reason: reason(e), Line: s.docs[kind].lineOf(e.Field)}
	if kind == clusterKind && s.kept {
		p.Kind, p.Line = "the cluster's "+kind, 0
	}
	return p
}

// reason says what is wrong, continuing a sentence that begins with the field's name.
func reason(e *field.Error) string {
	switch e.Type {
	case field.ErrorTypeInvalid:
		return fmt.Sprintf("%#v %s", e.BadValue, e.Detail)
	case field.ErrorTypeNotSupported:
		return fmt.Sprintf("%q is not among the %s", e.BadValue, e.Detail)
	}
	return e.Detail
}
