package op

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"
)

// example is an operation as stored in a journal, with its description when it was written.
type example struct {
	Kind string          `json:"kind"`
	Says string          `json:"says"`
	Now  string          `json:"now"` // if the description has changed
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

// This version finishes runs that an earlier one left open, so every kind ever
// written must stay readable.
func TestEveryKindThatWasEverWrittenIsRead(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range examples(t) {
		seen[e.Kind] = true
		says := cmp.Or(e.Now, e.Says)
		o, err := Decode(e.Kind, e.Op)
		if err != nil {
			t.Errorf("%s: %v", e.Kind, err)
			continue
		}
		if o.String() != says {
			t.Errorf("%s says %q, and not %q", e.Kind, o, says)
		}
		// Starting it journals it again, under its current name.
		body, err := Encode(o)
		if err != nil {
			t.Errorf("%s: %v", e.Kind, err)
			continue
		}
		if again, err := Decode(e.Kind, body); err != nil || again.String() != says {
			t.Errorf("%s, written again: %v, %v", e.Kind, again, err)
		}
	}
	for _, kind := range slices.Concat(slices.Collect(maps.Keys(kinds)), slices.Collect(maps.Keys(former))) {
		if !seen[kind] {
			t.Errorf("there is no example of %s in testdata/kinds.json", kind)
		}
	}
}
