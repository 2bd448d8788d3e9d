package crashtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	chosenTests = regexp.MustCompile(`(?m)^SAMPLED := (.*)$`)
	aTest       = regexp.MustCompile(`(?ms)^func (Test\w+)\(t \*testing\.T\) \{\n(.*?)^\}`)
	// What tries a fixed sample unless ETCDPOD_MATRIX=full asks for all.
	samples = regexp.MustCompile(`crashtest\.(Everything|StoppedAnywhere|InterruptedAnywhere|Meddled|` +
		`MeddledTogether|InterruptedTogether|SettledAfterTwoFaults)\(|range (turns|oneOf)\(|\.pressAt\(|ETCDPOD_MATRIX`)
)

// What make test leaves out, make e2e-matrix has to try: it finds these tests by their names.
func TestWhatIsSampledIsTriedWhollyByTheMatrix(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	pattern := chosenTests.FindStringSubmatch(string(makefile))
	if pattern == nil {
		t.Fatal("the Makefile has no SAMPLED")
	}
	names := regexp.MustCompile(pattern[1])
	var files []string
	for _, where := range []string{"phases/*", "phases/internal/*", "e2e/workflows"} {
		more, err := filepath.Glob(filepath.Join(root, where, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "sampled_test.go") })
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range aTest.FindAllStringSubmatch(string(text), -1) {
			if !samples.MatchString(test[2]) {
				continue
			}
			found++
			if !names.MatchString(test[1]) {
				t.Errorf("make test tries a sample of %s (%s), and make e2e-matrix does not find it: %s",
					test[1], file, pattern[1])
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d tests try a sample", found)
	}
}
