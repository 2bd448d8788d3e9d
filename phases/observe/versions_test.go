package observe

import "testing"

func TestVersionsAreReadAsTheirWritersMeanThem(t *testing.T) {
	type read struct {
		minor, patch int
		ok           bool
	}
	for version, want := range map[string]read{
		"3.6.16": {6, 16, true}, "v3.6.16": {6, 16, true}, "3.6.16-rc.1": {6, 16, true}, "3.5.25+vendor": {5, 25, true},
		"3.7.0-alpha.0": {7, 0, true}, "3.6": {6, -1, false}, "3.6.": {6, -1, false}, "3.6.x": {6, -1, false},
		"3.6.5.1": {6, -1, false}, "3.-6.5": {0, 5, false}, "3.6.-5": {6, -1, false}, "3.+6.5": {0, 5, false},
		"4.6.5": {0, 5, false}, "1.37.2": {0, 2, false}, "3.99999999999.1": {0, 1, false}, "": {0, -1, false},
		"odd": {0, -1, false},
	} {
		minor, patch, ok := ReleaseOf(version)
		if got := (read{minor, patch, ok}); got != want {
			t.Errorf("%q is %v, and not %v", version, got, want)
		}
	}
	for version, want := range map[string]int{"1.37": 37, "v1.37.2": 37, "1.37.0-rc.1": 37, "3.6.5": 0, "": 0} {
		if got := KubernetesMinor(version); got != want {
			t.Errorf("Kubernetes %q is %d, and not %d", version, got, want)
		}
	}
	for image, want := range map[string]string{
		"registry.k8s.io/etcd:3.6.5-0": "3.6.5", "r:5000/etcd:v3.6.5": "3.6.5", "r:5000/etcd": "",
		"etcd:3.6.5@sha256:0": "3.6.5", "etcd@sha256:0": "", "etcd": "",
	} {
		if got := ImageVersion(image); got != want {
			t.Errorf("%s is of %q, and not %q", image, got, want)
		}
	}
}
