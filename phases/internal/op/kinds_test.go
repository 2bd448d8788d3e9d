package op

import (
	"encoding/json"
	"os"
	"testing"
)

// example is an operation as a journal holds it, and what it said of itself when that was written.
type example struct {
	Kind string          `json:"kind"`
	Says string          `json:"says"`
	Op   json.RawMessage `json:"op"`
}

func examples(t *testing.T) (all []example) {
	t.Helper()
	data, err := os.ReadFile("testdata/kinds.json")
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A run that an earlier version has left open is finished by this one, so every kind that was ever written stays readable.
func TestEveryKindThatWasEverWrittenIsRead(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range examples(t) {
		seen[e.Kind] = true
		o, err := Decode(e.Kind, e.Op)
		if err != nil {
			t.Errorf("%s: %v", e.Kind, err)
			continue
		}
		if o.String() != e.Says {
			t.Errorf("%s says %q, and said %q", e.Kind, o, e.Says)
		}
		// It is journaled once more when it is started, under the name that it has there.
		body, err := Encode(o)
		if err != nil {
			t.Errorf("%s: %v", e.Kind, err)
			continue
		}
		if again, err := Decode(e.Kind, body); err != nil || again.String() != e.Says {
			t.Errorf("%s, written again: %v, %v", e.Kind, again, err)
		}
	}
	for kind := range kinds {
		if !seen[kind] {
			t.Errorf("there is no example of %s", kind)
		}
	}
}
