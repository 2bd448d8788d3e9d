package node

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// What would keep a kubelet that runs from starting again: it has read all of this when it was
// started, and what was done to it since has not mattered yet.

// needs is what a kubelet's configuration makes it look for when it starts.
type needs struct {
	swapless *bool             // it refuses to run with swap; nil: it does
	files    map[string]string // by the flags that name the same
	unread   error             // why one of its own files cannot be read; nil: they can
}

// kubeletFiles are the flags that name a file without which the kubelet ends (cmd/kubelet/app:
// BuildAuth, InitializeTLS).
var kubeletFiles = []string{"client-ca-file", "tls-cert-file", "tls-private-key-file"}

// merge takes over what one of the files sets, or why it cannot be read. Its paths may be relative
// to the main one's.
func (n *needs) merge(c configuration, base string, unread error) {
	n.unread = cmp.Or(n.unread, unread)
	if c.FailSwapOn != nil {
		n.swapless = c.FailSwapOn
	}
	for flag, file := range map[string]string{
		"client-ca-file": c.Authentication.X509.ClientCAFile,
		"tls-cert-file":  c.TLSCertFile, "tls-private-key-file": c.TLSPrivateKeyFile,
	} {
		if file != "" && !filepath.IsAbs(file) {
			file = filepath.Join(base, file)
		}
		if n.files == nil {
			n.files = map[string]string{}
		}
		n.files[flag] = cmp.Or(file, n.files[flag])
	}
}

// fails says why a kubelet with these flags and files would end at once, and what to do.
func (n needs) fails(f Reader, flags map[string]string) (why, cure string) {
	var all, cures []string
	add := func(do, format string, args ...any) {
		if all = append(all, fmt.Sprintf(format, args...)); !slices.Contains(cures, do) {
			cures = append(cures, do)
		}
	}
	if n.unread != nil {
		add("correct that file", "%v", n.unread)
	}
	if file := flags["config"]; missing(f, file) {
		add("put it back; `kubeadm upgrade node phase kubelet-config` writes "+kubeletConfig+" again from what the "+
			"cluster keeps", "its configuration %s does not exist", file)
	}
	if dir := flags["config-dir"]; missing(f, dir) {
		add("make that directory, or remove --config-dir",
			"%s, the directory of its configuration, does not exist", dir)
	}
	for _, flag := range kubeletFiles {
		file := cmp.Or(flags[flag], n.files[flag])
		if missing(f, file) {
			add("put it back", "%s, which its configuration names, does not exist", file)
		} else if useless(f, flag, file) {
			add("put it back", "%s, which its configuration names, holds no certificate that can be read", file)
		}
	}
	configured := flags["config"] != "" || flags["config-dir"] != ""
	allowed := !configured || n.swapless != nil && !*n.swapless
	if value, given := flags["fail-swap-on"]; given {
		fails, err := strconv.ParseBool(value) // as the kubelet reads it
		allowed = err == nil && !fails
	}
	if swap := swapIn(f); swap != "" && !allowed {
		add("run `swapoff -a`, and take it out of /etc/fstab; or set failSwapOn: false in the kubelet's configuration",
			"swap is on, in %s, and it does not run with swap", swap)
	}
	return strings.Join(all, "; "), strings.Join(cures, "; ")
}

// useless says whether a file for a certificate or a CA holds none, as after a disk was full.
func useless(f Reader, flag, file string) bool {
	if flag == "tls-private-key-file" || !filepath.IsAbs(file) {
		return false
	}
	data, err := f.ReadFile(file)
	return err == nil && !x509.NewCertPool().AppendCertsFromPEM(data)
}

// missing says whether a file that is named does not exist; one that cannot be looked at does.
func missing(f Reader, file string) bool {
	there, err := IsThere(f, file)
	return filepath.IsAbs(file) && err == nil && !there
}

// swapIn is the first of the places that the kernel swaps to; empty if there is none, or that is
// not known. The kubelet looks there, too (pkg/util/swap).
func swapIn(f Reader) string {
	data, err := f.ReadFile("/proc/swaps")
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) < 2 { // the first one is a heading
		return ""
	}
	name, _, _ := strings.Cut(lines[1], " ")
	return strings.TrimSpace(name)
}
