package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// version is a version of the source, in the parts that package formats write differently.
type version struct {
	described string // as git says it, and the program itself
	number    string // 1.2.3
	pre       string // rc.1: this is before 1.2.3
	build     string // 4.gabc: commits after the tag; this is after 1.2.3
}

var (
	tagged   = regexp.MustCompile(`^v(\d+\.\d+\.\d+)(?:-((?:alpha|beta|rc)\.\d+))?(?:-(\d+)-(g[0-9a-f]+))?(-dirty)?$`)
	untagged = regexp.MustCompile(`^([0-9a-f]{7,40})(-dirty)?$`)
)

// parseVersion reads what `git describe --tags --always --dirty` says. Source without a tag is
// before every version.
func parseVersion(described string) (version, error) {
	v := version{described: described}
	var build []string
	dirty := ""
	if m := tagged.FindStringSubmatch(described); m != nil {
		v.number, v.pre, dirty = m[1], m[2], m[5]
		if m[3] != "" {
			build = append(build, m[3], m[4])
		}
	} else if m := untagged.FindStringSubmatch(described); m != nil {
		v.number, dirty = "0.0.0", m[2]
		build = append(build, "g"+m[1])
	} else {
		return version{}, fmt.Errorf("%q is no version: tag the release v1.2.3 or v1.2.3-rc.1", described)
	}
	if dirty != "" {
		build = append(build, "dirty")
	}
	v.build = strings.Join(build, ".")
	return v, nil
}

// String returns it as a semantic version.
func (v version) String() string {
	s := v.number
	if v.pre != "" {
		s += "-" + v.pre
	}
	if v.build != "" {
		s += "+" + v.build
	}
	return s
}

// isInChangelog refuses to make a tagged version that the changelog does not tell of.
func (r *release) isInChangelog() error {
	if r.version.build != "" {
		return nil
	}
	changelog, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(changelog)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "##" && fields[1] == "v"+r.version.number {
			return nil
		}
	}
	return fmt.Errorf("CHANGELOG.md has no heading ## v%s: write down what %s changes", r.version.number, r.version)
}

// tag returns it as the tag of an image, which may have no +.
func (v version) tag() string { return strings.ReplaceAll(v.String(), "+", "-") }
