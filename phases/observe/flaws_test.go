package observe

import "testing"

func TestKnownFaultsAreOfVersionsThatHaveThem(t *testing.T) {
	for version, want := range map[string]struct {
		loses   string
		forgets bool
	}{
		"3.4.21": {loses: "3.4.22"}, "3.4.22": {}, "3.5.0": {"3.5.6", true}, "3.5.5": {"3.5.6", true},
		"3.5.6":  {"", true},
		"3.5.25": {"", true}, "3.5.26": {}, "3.5.25+vendor": {"", true}, "3.5.26-rc.0": {}, "3.6.0": {}, "3.7.3": {},
		"": {}, "odd": {}, "3.5": {}, "3.5.x": {},
	} {
		loses, forgets := LosesData(version), ForgetsRemovals(version)
		if loses != want.loses || forgets != want.forgets {
			t.Errorf("%q: %q, %v", version, loses, forgets)
		}
	}
}
