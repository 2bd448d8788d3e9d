package manifests

import "testing"

func TestTheEnvironmentIsPutIntoTextAsTheKubeletDoes(t *testing.T) {
	m := parse(t, podOf(`    env:
    - {name: A, value: a}
    - {name: B, value: "$(A)-$(C)"}
    - {name: C, value: c}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: URL, value: "https://$(IP):2379"}
`))
	for _, tt := range []struct {
		name, text, want string
		ok               bool
	}{
		{"nothing to expand", "/d", "/d", true},
		{"a variable", "x$(A)y$(C)", "xayc", true},
		{"a variable sees only those before it", "$(B)", "a-$(C)", true},
		{"a variable that is not there stays", "$(NONE)/$(A)", "$(NONE)/a", true},
		{"two dollars are one, and hide a variable", "$$(A)$$", "$(A)$", true},
		{"three dollars", "$$$(A)", "$a", true},
		{"a dollar alone, and one at the end", "$A$", "$A$", true},
		{"a parenthesis that is not closed", "$(A", "$(A", true},
		{"what looks like a variable in the name of one stays", "$($(A)", "$($(A)", true},
		{"a value from elsewhere", "$(IP)", "", false},
		{"a value made of one from elsewhere", "$(URL)", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := m.Expand("etcd", tt.text)
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %q, %v", got, ok)
			}
		})
	}
	if got, ok := m.Expand("nobody", "$(A)"); got != "$(A)" || !ok {
		t.Errorf("a container that is not there: %q, %v", got, ok)
	}
}
