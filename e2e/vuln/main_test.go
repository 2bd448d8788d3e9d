package main

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestOnlyWhatIsReachedAndNotJudgedFails(t *testing.T) {
	finding := func(id, function string) string {
		return `{"finding":{"osv":"` + id +
			`","trace":[{"module":"m","version":"v1","package":"m/p"` + function + `}]}}`
	}
	config := `{"config":{"db":"https://db"}}`
	for _, tt := range []struct {
		name, log string
		found     map[string]string
		good      bool
	}{
		{"nothing", config, nil, true},
		{"required only", config + finding("GO-1", ""), nil, true},
		{"judged", config + finding("GO-2025-3521", `,"function":"F"`),
			map[string]string{"GO-2025-3521": "m/p.F of m v1"}, true},
		{"reached", config + finding("GO-2025-3521", `,"function":"F"`) + "\n" + finding("GO-2", `,"function":"G"`),
			map[string]string{"GO-2025-3521": "m/p.F of m v1", "GO-2": "m/p.G of m v1"}, false},
	} {
		found, err := reached(strings.NewReader(tt.log))
		if err != nil || !maps.Equal(found, tt.found) {
			t.Errorf("%s: found %v (%v), and not %v", tt.name, found, err, tt.found)
		}
		var says strings.Builder
		if tell(&says, found) != tt.good {
			t.Errorf("%s: said %s", tt.name, &says)
		}
	}
}

// Only a database that nobody could reach is passed over; a wrong one is not.
func TestADatabaseThatCannotBeReachedIsToldFromOtherFailures(t *testing.T) {
	ended := errors.New("exit status 1")
	for says, unreachable := range map[string]bool{
		"govulncheck: fetching vulnerabilities: Get \"https://db\": no such host\nexit status 1\n": true,
		"creating client: stat /nope: no such file or directory\nexit status 1\n":                  false,
		"govulncheck: loading packages: go.mod is broken\n":                                        false,
	} {
		if err := why(says, ended); errors.Is(err, errUnreachable) != unreachable ||
			strings.Contains(err.Error(), "exit status") == unreachable {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// What was cut off, or never asked a database, must not pass for finding nothing.
func TestAReportThatIsNoneIsAnError(t *testing.T) {
	for _, log := range []string{"", "{}", `{"config":{}}`, `{"config":{"db":"x"}`, "govulncheck: no such host"} {
		if found, err := reached(strings.NewReader(log)); err == nil {
			t.Errorf("%q: found %v", log, found)
		}
	}
}
