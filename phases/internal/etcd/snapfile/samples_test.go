package snapfile

import (
	"fmt"
	"reflect"
	"testing"
)

// One resource must not hide another behind the same key, nor an encrypted value a plain one.
func TestHowEachResourceIsStoredIsCounted(t *testing.T) {
	s := newServer(t)
	const key1, key2 = "k8s:enc:aescbc:v1:key1:", "k8s:enc:secretbox:v1:key2:"
	crd := "/registry/apiextensions.k8s.io/customresourcedefinitions/"
	s.put("/registry/secrets/a/plain", "k8s\x00")
	for i := range maxPlaces { // newer ones of another resource
		s.put(fmt.Sprintf("/registry/configmaps/a/%d", i), key1+"c")
	}
	s.put("/registry/secrets/a/one", key1+"one")
	s.put("/registry/secrets/a/two", key1+"gone")
	s.put("/registry/secrets/a/two", key2+"two")
	s.put("/registry/secrets/a/three", key1+"gone")
	s.delete("/registry/secrets/a/three")
	s.put("/registry/example.com/widgets/a/one", key1+"w")
	s.put("/registry/example.com/gadgets/a/one", "{}")
	s.put("/registry/example.com/leftovers/a/one", "{}")
	s.put(crd+"widgets.example.com", "{}")
	s.put(crd+"gadgets.example.com", "{}")
	s.put(crd+"leftovers.example.com", "{}")
	s.delete(crd + "leftovers.example.com")
	s.put("/somewhere/else", key2+"e")
	s.put("/somewhere/plain", "v")
	want := []Stored{
		{Prefix: key2, Objects: 1, Sample: &Sample{"/somewhere/else", []byte(key2 + "e")}},
		{Resource: "configmaps", Prefix: key1, Objects: maxPlaces,
			Sample: &Sample{fmt.Sprintf("/registry/configmaps/a/%d", maxPlaces-1), []byte(key1 + "c")}},
		{Resource: "customresourcedefinitions.apiextensions.k8s.io", Objects: 2},
		{Resource: "gadgets.example.com", Custom: true, Objects: 1},
		{Resource: "leftovers.example.com", Objects: 1},
		{Resource: "secrets", Objects: 1},
		{Resource: "secrets", Prefix: key1, Objects: 1,
			Sample: &Sample{"/registry/secrets/a/one", []byte(key1 + "one")}},
		{Resource: "secrets", Prefix: key2, Objects: 1,
			Sample: &Sample{"/registry/secrets/a/two", []byte(key2 + "two")}},
		{Resource: "widgets.example.com", Custom: true, Prefix: key1, Objects: 1,
			Sample: &Sample{"/registry/example.com/widgets/a/one", []byte(key1 + "w")}},
	}
	path := write(t, s.snapshot())
	for _, notes := range []int{maxNotes, 0} {
		r := walkWith(t, path, liveSlots, notes)
		if !reflect.DeepEqual(r.Stored, want) {
			t.Errorf("with %d notes:\ngot  %+v\nwant %+v", notes, r.Stored, want)
		}
		if crds := r.Resources["customresourcedefinitions.apiextensions.k8s.io"]; crds != 2 {
			t.Errorf("%d definitions", crds)
		}
	}
}
