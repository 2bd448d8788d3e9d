package cri

import (
	"slices"
	"testing"
)

func TestAContainersPathsBecomeThoseOfThisMachine(t *testing.T) {
	v := view{rootfs: "/R/fs", mounts: []bind{
		{"/var/lib/etcd", "/R/var/lib/etcd"}, {"/etc/kubernetes/pki", "/R/etc/kubernetes/pki"},
		{"/etc/kubernetes/pki/etcd", "/R/elsewhere"},
	}}
	for name, test := range map[string]struct{ words, want []string }{
		"the mount itself": {[]string{"--data-dir=/var/lib/etcd"}, []string{"--data-dir=/R/var/lib/etcd"}},
		"a flag and its value apart": {[]string{"--data-dir", "/var/lib/etcd/"},
			[]string{"--data-dir", "/R/var/lib/etcd"}},
		"a file in the innermost mount": {[]string{"--cert-file=/etc/kubernetes/pki/etcd/a.crt"},
			[]string{"--cert-file=/R/elsewhere/a.crt"}},
		"a list": {[]string{"--x=/etc/kubernetes/pki/a,/var/lib/etcd/b"},
			[]string{"--x=/R/etc/kubernetes/pki/a,/R/var/lib/etcd/b"}},
		"a file outside every mount": {[]string{"--wal-dir=/var/lib/etcd-wal"},
			[]string{"--wal-dir=/R/fs/var/lib/etcd-wal"}},
		"a path that is not of a file": {[]string{"--etcd-prefix=/registry"}, []string{"--etcd-prefix=/registry"}},
		"what is no path": {[]string{"--initial-cluster=cp1=https://h:1/var/lib/etcd", "-v"},
			[]string{"--initial-cluster=cp1=https://h:1/var/lib/etcd", "-v"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := v.args(test.words); !slices.Equal(got, test.want) {
				t.Errorf("%q became %q, want %q", test.words, got, test.want)
			}
		})
	}
}

func TestAnIDMayBeShortened(t *testing.T) {
	one, two := 1, 2
	all := map[string]*int{"abc": &one, "abd": &two}
	for id, want := range map[string]*int{"abc": &one, "abd": &two, "ab": nil, "": nil, "x": nil, "abdx": nil} {
		if got := find(all, id); got != want {
			t.Errorf("%q found %v, want %v", id, got, want)
		}
	}
}
