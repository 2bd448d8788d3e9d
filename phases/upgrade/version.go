package upgrade

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/flags"
	"github.com/etcdpod/etcdpod/phases/observe"
	"github.com/etcdpod/etcdpod/templates"
)

// version is a release of etcd 3.
type version struct{ minor, patch int }

// parse reads 3.6.16, and what etcd says of itself: 3.6.16-rc.1 counts as 3.6.16.
func parse(text string) (v version, ok bool) {
	v.minor, v.patch, ok = observe.ReleaseOf(text)
	return v, ok
}

func (v version) String() string { return fmt.Sprintf("3.%d.%d", v.minor, v.patch) }

// line is the minor, such as 3.6.
func (v version) line() string { return fmt.Sprintf("3.%d", v.minor) }

func (v version) compare(o version) int {
	return cmp.Or(cmp.Compare(v.minor, o.minor), cmp.Compare(v.patch, o.patch))
}

func (v version) before(o version) bool { return v.compare(o) < 0 }

// ParseVersion reads what a person gives as the version to upgrade to.
func ParseVersion(text string) (string, error) {
	v, ok := parse(text)
	if !ok || strings.ContainsAny(text, "-+") {
		return "", &engine.UsageError{Reason: fmt.Sprintf("--to %q is not a version of etcd", text),
			Hint: "give it as --to 3.6.16"}
	}
	return v.String(), nil
}

// newestOf is the newest release of a minor that is known here: that of kubeadm, or the one from
// which the tables of flags were made; false: the minor is not known.
func newestOf(minor int) (newest version, ok bool) {
	for _, text := range known() {
		if v, is := parse(text); is && v.minor == minor && (!ok || newest.before(v)) {
			newest, ok = v, true
		}
	}
	return newest, ok
}

// known are the releases that are known here.
func known() (all []string) {
	for _, r := range flags.Releases() {
		all = append(all, r.Version)
	}
	for _, minor := range observe.KubernetesMinors() {
		all = append(all, observe.TagVersion(templates.EtcdTag(minor)))
	}
	return all
}

// crossing is what etcd asks for before one minor follows another.
type crossing struct {
	floor   version // every member must run it, or a later one
	why     string
	advised version // every member ought to
	because string
}

// crossings are by the minor that is left (etcd's pages on upgrading).
func crossings() map[int]crossing {
	return map[int]crossing{
		5: {floor: version{5, 26}, advised: version{5, 32},
			why:     "before it, members that were removed come back with 3.6, and cannot be removed any more",
			because: "it finds all that is left of the v2 API before 3.6 does"},
		6: {floor: version{6, 11}, advised: version{6, 11}, why: "etcd supports no older one for the upgrade to 3.7"},
	}
}

// imageFor is the image of another version, as the image of the manifest is named: from the same
// repository, with a tag of the same form; empty: the manifest names it by its digest.
func imageFor(image string, to version) string {
	name, digest, _ := strings.Cut(image, "@")
	i := strings.LastIndex(name, ":")
	if digest != "" || i < 0 || strings.Contains(name[i:], "/") {
		return ""
	}
	repository, tag := name[:i], name[i+1:]
	form := ""
	if strings.HasPrefix(tag, "v") {
		form = "v"
	}
	if _, _, revised := strings.Cut(tag, "-"); revised {
		return repository + ":" + form + revisionOf(to)
	}
	return repository + ":" + form + to.String()
}

// revisionOf is the tag with which kubeadm names a version: 3.6.5-0.
func revisionOf(v version) string {
	for _, minor := range observe.KubernetesMinors() {
		if tag := templates.EtcdTag(minor); observe.TagVersion(tag) == v.String() {
			return tag
		}
	}
	return v.String() + "-0"
}
