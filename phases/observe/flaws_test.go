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

func TestOldEtcdsAreNotDefragmented(t *testing.T) {
	for version, want := range map[string]string{
		"3.5.22": "3.5.23", "3.5.23": "", "3.5.35": "", "3.6.0": "3.6.5", "3.6.4": "3.6.5", "3.6.5": "", "3.6.16": "",
		"3.7.0": "", "3.8.0-alpha.0": "", "3.4.36": "3.5.23", "4.0.0": "", "v3.6.4": "3.6.5", "3.6": "3.6.5",
		"3.7": "", "": "3.5.23", "odd": "3.5.23",
		"3.5.23-rc.0": "", "3.6.5+git": "",
	} {
		if got := DefragFloor(version); got != want {
			t.Errorf("%s: %q, not %q", version, got, want)
		}
	}
}
