package flags

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/e2e/binaries"
)

// given reads settings: `--a=b` is an argument, ETCD_A=b a variable, `a: b` stands in a file.
func given(all ...string) (settings []Given) {
	for _, text := range all {
		if name, value, file := strings.Cut(text, ": "); file {
			settings = append(settings, Given{name, value, File})
			continue
		}
		name, value, _ := strings.Cut(text, "=")
		if variable, is := strings.CutPrefix(name, "ETCD_"); is {
			settings = append(settings, Given{strings.ReplaceAll(strings.ToLower(variable), "_", "-"), value, Variable})
			continue
		}
		settings = append(settings, Given{strings.TrimPrefix(name, "--"), value, Argument})
	}
	return settings
}

func texts(settings []Given) (all []string) {
	for _, g := range settings {
		all = append(all, g.String())
	}
	return all
}

// said is a change in few words.
func said(c Change) string {
	text := fmt.Sprintf("%s %s", c.Kind, c.Given)
	if c.Other != "" {
		text += " / " + c.Other
	}
	if len(c.Becomes) > 0 {
		text += " -> " + strings.Join(texts(c.Becomes), " ")
	}
	if c.Stops {
		text += " (stops)"
	}
	return text
}

func TestWhatBecomesOfGivenFlags(t *testing.T) {
	for _, test := range []struct {
		name, from, to string
		given          []string
		says           []string // but for defaults
		written        []string // nil: as given
	}{
		{name: "of kubeadm's, for the release that takes both names", from: "3.5", to: "3.6",
			given: []string{"--experimental-initial-corrupt-check=true",
				"--experimental-watch-progress-notify-interval=5s", "--data-dir=/d", "--snapshot-count=10000"},
			says: []string{
				"deprecated --experimental-initial-corrupt-check=true -> --feature-gates=InitialCorruptCheck=true",
				"deprecated --experimental-watch-progress-notify-interval=5s -> --watch-progress-notify-interval=5s",
			}},
		{name: "of kubeadm's, for the next one", from: "3.6", to: "3.7",
			given: []string{"--experimental-watch-progress-notify-interval=5s", "--data-dir=/d",
				"--experimental-initial-corrupt-check=true"},
			says: []string{
				"renamed --experimental-watch-progress-notify-interval=5s -> --watch-progress-notify-interval=5s " +
					"(stops)",
				"gated --experimental-initial-corrupt-check=true -> --feature-gates=InitialCorruptCheck=true (stops)",
			},
			written: []string{"--watch-progress-notify-interval=5s", "--data-dir=/d",
				"--feature-gates=InitialCorruptCheck=true"}},
		{name: "of kubeadm's, and back again", from: "3.6", to: "3.5",
			given: []string{"--feature-gates=InitialCorruptCheck=true,LeaseCheckpoint=false",
				"--watch-progress-notify-interval=5s"},
			says: []string{
				"renamed --watch-progress-notify-interval=5s -> --experimental-watch-progress-notify-interval=5s " +
					"(stops)",
				"gated --feature-gates=InitialCorruptCheck=true -> --experimental-initial-corrupt-check=true (stops)",
				"gated --feature-gates=LeaseCheckpoint=false -> --experimental-enable-lease-checkpoint=false (stops)",
			},
			written: []string{"--experimental-initial-corrupt-check=true",
				"--experimental-enable-lease-checkpoint=false", "--experimental-watch-progress-notify-interval=5s"}},
		{name: "several that become one", from: "3.6", to: "3.7",
			given: []string{"--experimental-initial-corrupt-check=true", "--feature-gates=LeaseCheckpoint=true",
				"--experimental-compact-hash-check-enabled=true"},
			says: []string{
				"gated --experimental-initial-corrupt-check=true -> --feature-gates=InitialCorruptCheck=true (stops)",
				"gated --experimental-compact-hash-check-enabled=true -> --feature-gates=CompactHashCheck=true (stops)",
			},
			written: []string{"--feature-gates=InitialCorruptCheck=true,LeaseCheckpoint=true,CompactHashCheck=true"}},
		{name: "what is gone", from: "3.5", to: "3.6", given: []string{"--enable-v2=false", "--proxy=off"},
			says:    []string{"unknown --enable-v2=false (stops)", "unknown --proxy=off (stops)"},
			written: []string{}},
		{name: "a value that is gone", from: "3.5", to: "3.6", given: []string{"--v2-deprecation=not-yet"},
			says: []string{"refused --v2-deprecation=not-yet / gone, write-only, write-only-drop-data, " +
				"write-only-skip-check (stops)"}, written: []string{}},
		{name: "a gate that is not there yet", from: "3.7", to: "3.6",
			given: []string{"--feature-gates=PriorityRequest=true,InitialCorruptCheck=true"},
			says: []string{"unknown --feature-gates=PriorityRequest=true -> " +
				"--feature-gates=InitialCorruptCheck=true (stops)"},
			written: []string{"--feature-gates=InitialCorruptCheck=true"}},
		{name: "a gate that was no flag", from: "3.6", to: "3.5",
			given: []string{"--feature-gates=SetMemberLocalAddr=true"},
			says:  []string{"unknown --feature-gates=SetMemberLocalAddr=true (stops)"}, written: []string{}},
		{name: "variables, which etcd leaves alone if it does not know them", from: "3.6", to: "3.7",
			given: []string{"ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME=1h", "ETCD_DISCOVERY=u"},
			says: []string{"unknown ETCD_DISCOVERY=u",
				"renamed ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME=1h -> ETCD_CORRUPT_CHECK_TIME=1h"},
			written: []string{"ETCD_CORRUPT_CHECK_TIME=1h"}},
		{name: "a configuration file", from: "3.6", to: "3.7",
			given: []string{"experimental-initial-corrupt-check: true"},
			says: []string{"gated experimental-initial-corrupt-check: true -> " +
				"feature-gates: InitialCorruptCheck=true"},
			written: []string{"feature-gates: InitialCorruptCheck=true"}},
		{name: "both names, the new one in a variable that did nothing", from: "3.5", to: "3.6",
			given: []string{"--experimental-corrupt-check-time=1h", "ETCD_CORRUPT_CHECK_TIME=2h"},
			says: []string{"doubled --experimental-corrupt-check-time=1h / ETCD_CORRUPT_CHECK_TIME=2h (stops)",
				"awakened ETCD_CORRUPT_CHECK_TIME=2h",
				"deprecated --experimental-corrupt-check-time=1h -> --corrupt-check-time=1h"}},
		{name: "a flag and its gate", from: "3.5", to: "3.6",
			given: []string{"--experimental-initial-corrupt-check=true", "ETCD_FEATURE_GATES=InitialCorruptCheck=true"},
			says: []string{"doubled --experimental-initial-corrupt-check=true / " +
				"ETCD_FEATURE_GATES=InitialCorruptCheck=true (stops)",
				"awakened ETCD_FEATURE_GATES=InitialCorruptCheck=true",
				"deprecated --experimental-initial-corrupt-check=true -> --feature-gates=InitialCorruptCheck=true"}},
		{name: "the same release", from: "3.6", to: "3.6", given: []string{"--data-dir=/d"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			changes, written, err := Across(given(test.given...), test.from, test.to)
			if err != nil {
				t.Fatal(err)
			}
			var says []string
			for _, c := range changes {
				if c.Kind != Preset {
					says = append(says, said(c))
				}
			}
			if !slices.Equal(says, test.says) {
				t.Errorf("it says\n%s\nand not\n%s", strings.Join(says, "\n"), strings.Join(test.says, "\n"))
			}
			want := test.written
			if want == nil {
				want = test.given
			}
			if got := texts(written); !slices.Equal(got, want) && len(got)+len(want) > 0 {
				t.Errorf("it would write %q, and not %q", got, want)
			}
		})
	}
}

func TestDefaultsThatDifferAreSaidOfWhatNobodyHasGiven(t *testing.T) {
	presets := func(from, to string, settings ...string) (all []string) {
		changes, _, err := Across(given(settings...), from, to)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if c.Kind == Preset {
				all = append(all, c.String()+" / "+c.Other)
			}
		}
		return all
	}
	for _, test := range []struct {
		from, to string
		given    []string
		want     []string
	}{
		{"3.5", "3.6", nil, []string{"--discovery-fallback=proxy / exit", "--snapshot-count=100000 / 10000"}},
		{"3.5", "3.6", []string{"--snapshot-count=10000", "ETCD_DISCOVERY_FALLBACK=exit"}, nil},
		{"3.6", "3.7", nil, nil},
		{"3.7", "3.6", nil, nil},
		{"3.6", "3.5", []string{"--discovery-fallback=exit"}, []string{"--snapshot-count=10000 / 100000"}},
	} {
		if got := presets(test.from, test.to, test.given...); !slices.Equal(got, test.want) {
			t.Errorf("%s to %s with %q: %q, and not %q", test.from, test.to, test.given, got, test.want)
		}
	}
	if _, _, err := Across(nil, "3.6", "3.8"); err == nil {
		t.Error("something was said about an etcd that is not known")
	}
}

// takes runs a real etcd with arguments and variables. One that is content would serve: it is told
// to print its version, or to serve at an address that it refuses after it has read them all.
func takes(t *testing.T, minor string, settings []Given) (string, bool) {
	t.Helper()
	binary, err := binaries.Etcd(t.Context(), Of(minor).Version)
	if err != nil {
		t.Fatal(err)
	}
	// What was given twice is refused after the flags were read, and before the addresses are: the
	// last complaint is about those of an etcd that takes the rest.
	args := []string{"--data-dir=" + filepath.Join(t.TempDir(), "data"), "--listen-peer-urls=http://no-address:1"}
	var env []string
	for _, g := range settings {
		if g.From == Variable {
			env = append(env, g.String())
		} else {
			args = append(args, g.String())
		}
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append([]string{"PATH=/none"}, env...)
	out, _ := cmd.CombinedOutput()
	return string(out), strings.Contains(string(out), "expected IP in URL for binding")
}

// Real etcds of the release have the last word: they take what would be written, and end with what
// is said to stop them, and only with that.
func TestRealEtcdsTakeWhatWouldBeWritten(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts real etcds")
	}
	for _, test := range []struct {
		from, to string
		given    []string
	}{
		{"3.5", "3.6", []string{"--experimental-initial-corrupt-check=true", "--snapshot-count=10000",
			"--experimental-watch-progress-notify-interval=5s"}},
		{"3.6", "3.7", []string{"--experimental-initial-corrupt-check=true", "--feature-gates=LeaseCheckpoint=true",
			"--experimental-watch-progress-notify-interval=5s", "--experimental-memory-mlock=false"}},
		{"3.7", "3.6", []string{"--feature-gates=FastLeaseKeepAlive=true,InitialCorruptCheck=true"}},
		{"3.6", "3.5", []string{"--feature-gates=InitialCorruptCheck=true,StopGRPCServiceOnDefrag=true",
			"--watch-progress-notify-interval=5s", "--max-learners=1"}},
		{"3.5", "3.6", []string{"--enable-v2=false"}},
		{"3.5", "3.6", []string{"--v2-deprecation=not-yet"}},
		{"3.5", "3.6", []string{"--experimental-corrupt-check-time=1h", "ETCD_CORRUPT_CHECK_TIME=2h"}},
		{"3.5", "3.6", []string{"--experimental-initial-corrupt-check=true",
			"ETCD_FEATURE_GATES=InitialCorruptCheck=true"}},
		{"3.6", "3.7", []string{"ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME=1h", "ETCD_DISCOVERY=u"}},
	} {
		settings := given(test.given...)
		changes, written, err := Across(settings, test.from, test.to)
		if err != nil {
			t.Fatal(err)
		}
		if out, ok := takes(t, test.to, settings); ok == Stops(changes) {
			t.Errorf("etcd %s with %q: it takes them: %t, and what is said stops it: %t\n%s",
				test.to, test.given, ok, Stops(changes), out)
		}
		doubled := slices.ContainsFunc(changes, func(c Change) bool { return c.Kind == Doubled })
		if out, ok := takes(t, test.to, written); !ok && !doubled {
			t.Errorf("etcd %s does not take what would be written, %q:\n%s", test.to, texts(written), out)
		}
	}
}
