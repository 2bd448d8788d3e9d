package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/goreleaser/nfpm/v2"
)

func TestAVersionIsWrittenAsEachFormatOrdersIt(t *testing.T) {
	for described, want := range map[string]struct{ is, tag, deb, rpm string }{
		"v1.2.3": {"1.2.3", "1.2.3", "etcdpod_1.2.3-1_amd64.deb", "etcdpod-1.2.3-1.x86_64.rpm"},
		"v1.2.3-rc.1": {"1.2.3-rc.1", "1.2.3-rc.1",
			"etcdpod_1.2.3~rc.1-1_amd64.deb", "etcdpod-1.2.3~rc.1-1.x86_64.rpm"},
		"v1.2.3-14-g0123456789ab": {"1.2.3+14.g0123456789ab", "1.2.3-14.g0123456789ab",
			"etcdpod_1.2.3+14.g0123456789ab-1_amd64.deb", "etcdpod-1.2.3+14.g0123456789ab-1.x86_64.rpm"},
		"v1.2.3-rc.1-14-g0123456789ab-dirty": {"1.2.3-rc.1+14.g0123456789ab.dirty", "1.2.3-rc.1-14.g0123456789ab.dirty",
			"etcdpod_1.2.3~rc.1+14.g0123456789ab.dirty-1_amd64.deb",
			"etcdpod-1.2.3~rc.1+14.g0123456789ab.dirty-1.x86_64.rpm"},
		"0123456789ab-dirty": {"0.0.0+g0123456789ab.dirty", "0.0.0-g0123456789ab.dirty",
			"etcdpod_0.0.0+g0123456789ab.dirty-1_amd64.deb", "etcdpod-0.0.0+g0123456789ab.dirty-1.x86_64.rpm"},
	} {
		v, err := parseVersion(described)
		if err != nil {
			t.Error(err)
			continue
		}
		if v.described != described || v.String() != want.is || v.tag() != want.tag {
			t.Errorf("%s is %s (%s), and not %s (%s)", described, v, v.tag(), want.is, want.tag)
		}
		r := release{version: v}
		for format, name := range map[string]string{"deb": want.deb, "rpm": want.rpm} {
			packager, err := nfpm.Get(format)
			if err != nil {
				t.Fatal(err)
			}
			if got := packager.ConventionalFileName(r.info(format, build{arch: "amd64"})); got != name {
				t.Errorf("%s: the %s is %s, and not %s", described, format, got, name)
			}
		}
	}
}

func TestWhatIsNoVersionIsRefused(t *testing.T) {
	for _, described := range []string{"", "dev", "1.2.3", "v1.2", "v1.2.3-dirty-dirty", "v1.2.3-4",
		"v1.2.3 ", "v1.2.3/..", "main"} {
		if v, err := parseVersion(described); err == nil {
			t.Errorf("%q became %s", described, v)
		}
	}
}

func TestATaggedVersionMustBeInTheChangelog(t *testing.T) {
	r := release{root: t.TempDir()}
	text := "# Changelog\n\n## Unreleased\n\n## v1.2.3 - 2026-01-02\n\n## v1.2.30\n- v1.2.4\n"
	if err := os.WriteFile(filepath.Join(r.root, "CHANGELOG.md"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for described, allowed := range map[string]bool{"v1.2.3": true, "v1.2.3-rc.1": true, "v1.2.30": true,
		"v1.2.4": false, "v1.2.4-rc.1": false, "v1.2.4-1-gabcdef0": true, "v1.2.4-dirty": true, "abcdef0": true} {
		var err error
		if r.version, err = parseVersion(described); err != nil {
			t.Fatal(err)
		}
		if err := r.isInChangelog(); (err == nil) != allowed {
			t.Errorf("%s: %v", described, err)
		}
	}
}
