package example

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The workflow that CONTRIBUTING.md shows is compiled and tested here, so that following the page
// gives one that works.
func TestThePageShowsThisWorkflow(t *testing.T) {
	read := func(name string) string {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	left := map[string]string{}
	for _, name := range []string{"shelf_test.go", "crash_test.go"} {
		_, left[name], _ = strings.Cut(read(name), "\n)\n") // after the imports
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read("../../../CONTRIBUTING.md"), -1)
	for _, block := range blocks {
		found := false
		for name, text := range left {
			if before, after, ok := strings.Cut(text, block[1]); ok {
				left[name], found = before+after, true
			}
		}
		if !found {
			t.Errorf("CONTRIBUTING.md shows what is not in phases/internal/example:\n%s", block[1])
		}
	}
	unshown := slices.Concat(strings.Fields(left["shelf_test.go"]), strings.Fields(left["crash_test.go"]))
	if len(unshown) > 0 {
		t.Errorf("CONTRIBUTING.md does not show %q", strings.Join(unshown, " "))
	}
}
