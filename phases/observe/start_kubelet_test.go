package observe_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/etcdpod/etcdpod/phases/engine"
	"github.com/etcdpod/etcdpod/phases/internal/crashtest"
)

// A disk that was full leaves the certificate, and not the key that comes behind it.
func TestAKubeletWithoutTheKeyOfItsCertificateIsFoundBeforeItIsStopped(t *testing.T) {
	cert, key := pemOf(t, kubeconfig(t, 9))
	for name, c := range map[string]struct {
		which      string
		files      map[string]string
		says, hint string
	}{
		"the file with the kubelet's certificate is cut off behind it": {which: apiYAML,
			files: map[string]string{dropIn: units, "/etc/kubernetes/kubelet.conf": namesCert,
				"/var/lib/kubelet/pki/kubelet-client-current.pem": cert},
			says: "its certificate in /var/lib/kubelet/pki/kubelet-client-current.pem cannot be used with the key in",
			hint: "kubeadm init phase"},
		"the file with the kubelet's certificate is whole": {which: apiYAML,
			files: map[string]string{dropIn: units, "/etc/kubernetes/kubelet.conf": namesCert,
				"/var/lib/kubelet/pki/kubelet-client-current.pem": cert + key}},
		"the kubelet's key is another's": {which: apiYAML, files: map[string]string{dropIn: units,
			"/etc/kubernetes/kubelet.conf": ofOne(kubeconfig(t, 9), kubeconfig(t, 9))},
			says: "its certificate in /etc/kubernetes/kubelet.conf cannot be used with the key in"},
		"the kubelet's kubeconfig has no key": {which: apiYAML, files: map[string]string{dropIn: units,
			"/etc/kubernetes/kubelet.conf": ofOne(kubeconfig(t, 9), "")},
			says: "it has a client certificate without a key"},
	} {
		t.Run(name, func(t *testing.T) {
			f := seen(t, c.files, nil)
			err := f.CheckStarts(of(f, c.which))
			var refused *engine.RefusedError
			if c.says == "" && err != nil || c.says != "" && (!errors.As(err, &refused) ||
				!strings.Contains(err.Error(), c.says) || !strings.Contains(refused.Hint, c.hint)) {
				t.Errorf("got %v, hint %q", err, engine.Hint(err))
			}
		})
	}
}

// A kubelet has read its configuration when it was started. Whatever happened to that since ends
// the node at its next start.
func TestAKubeletThatWouldNotTakeItsConfigurationIsFoundBeforeItIsStopped(t *testing.T) {
	const config, unit, swaps = "/var/lib/kubelet/config.yaml", "[Service]\nExecStart=/usr/bin/kubelet " +
		"--config=/var/lib/kubelet/config.yaml\n", "Filename Type Size Used Priority\n"
	ca, _ := pemOf(t, kubeconfig(t, 9))
	for name, c := range map[string]struct {
		files      map[string]string
		says, hint string // empty: nothing is in the way
	}{
		"as it was": {files: map[string]string{config: "failSwapOn: true\n", "/proc/swaps": swaps}},
		"it is gone": {says: "the kubelet would not start: its configuration " + config + " does not exist",
			hint: "`kubeadm upgrade node phase kubelet-config`"},
		"it is broken": {files: map[string]string{config: "staticPodPath: ["},
			says: "the kubelet would not start: cannot read the kubelet's configuration " + config,
			hint: "correct that file"},
		"the CA that it names is gone": {
			files: map[string]string{config: "authentication: {x509: {clientCAFile: pki/ca.crt}}\n"},
			says:  "/var/lib/kubelet/pki/ca.crt, which its configuration names, does not exist", hint: "put it back"},
		"it is empty": {
			files: map[string]string{config: "authentication: {x509: {clientCAFile: pki/ca.crt}}\n",
				"/var/lib/kubelet/pki/ca.crt": ""},
			says: "/var/lib/kubelet/pki/ca.crt, which its configuration names, holds no certificate that can be read",
			hint: "put it back"},
		"that CA is there": {files: map[string]string{"/var/lib/kubelet/pki/ca.crt": ca,
			config: "authentication: {x509: {clientCAFile: pki/ca.crt}}\n"}},
		"swap was turned on": {files: map[string]string{config: "{}\n",
			"/proc/swaps": swaps + "/swapfile file 1 0 -2\n"},
			says: "swap is on, in /swapfile", hint: "`swapoff -a`"},
		"it may be on": {files: map[string]string{config: "failSwapOn: false\n",
			"/proc/swaps": swaps + "/swapfile file 1 0 -2\n"}},
		"a drop-in allows it, and there is nothing else": {files: map[string]string{
			dropIn:                  "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --config-dir=/etc/kubelet.d\n",
			"/etc/kubelet.d/a.conf": "failSwapOn: false\n", "/proc/swaps": swaps + "/swapfile file 1 0 -2\n"}},
		"a directory of its drop-ins is gone": {files: map[string]string{config: "{}\n",
			dropIn: "[Service]\nExecStart=\nExecStart=/usr/bin/kubelet --config-dir=/etc/kubelet.d\n"},
			says: "/etc/kubelet.d, the directory of its configuration, does not exist", hint: "make that directory"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{localUnit: unit}
			maps.Copy(files, c.files)
			f := seen(t, files, nil)
			err := f.CheckStarts(of(f, apiYAML))
			if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) ||
				!strings.Contains(engine.Hint(err), c.hint)) {
				t.Errorf("got %v, hint %q", err, engine.Hint(err))
			}
		})
	}
}

// A disk that was full leaves files with nothing in them. What has read them before runs on.
func TestAFileThatAProgramCouldNotUseIsFoundBeforeItIsStopped(t *testing.T) {
	cert, key := pemOf(t, kubeconfig(t, 9))
	flags := func(names ...string) string {
		text := ""
		for _, name := range names {
			text += "    - --" + name + "=/pki/" + name + "\n"
		}
		return text
	}
	const mounts = "    volumeMounts: [{mountPath: /pki, name: p}]\n  volumes: [{hostPath: {path: /pki}, name: p}]\n"
	for _, c := range []struct{ program, flag, file, says string }{
		{"kube-apiserver", "client-ca-file", "", "/pki/client-ca-file (it holds no certificate that can be read)"},
		{"kube-apiserver", "client-ca-file", key, "/pki/client-ca-file (it holds no certificate that can be read)"},
		{"kube-apiserver", "client-ca-file", cert + cert, ""},
		{"kube-apiserver", "requestheader-client-ca-file", "-----BEGIN", "(it holds no certificate that can be read)"},
		{"kube-apiserver", "service-account-key-file", "", "(it holds no key that can be read)"},
		{"kube-apiserver", "service-account-key-file", cert, ""},
		{"kube-apiserver", "service-account-signing-key-file", key, ""},
		{"kube-apiserver", "encryption-provider-config", "\n", "/pki/encryption-provider-config (it is empty)"},
		{"kube-apiserver", "audit-policy-file", "", "(it is empty)"},
		{"kube-apiserver", "token-auth-file", "", ""}, // nobody has a token
		{"kube-controller-manager", "kubeconfig", "", "/pki/kubeconfig (it is empty)"},
		{"kube-apiserver", "audit-policy-file/there", "x", "/pki/audit-policy-file (it is a directory)"},
		{"etcd", "trusted-ca-file/there", "x", "/pki/trusted-ca-file (it is a directory)"},
		{"etcd", "trusted-ca-file", "", "/pki/trusted-ca-file (it holds no certificate that can be read)"},
		{"etcd", "trusted-ca-file", cert, ""},
	} {
		manifest := "/etc/kubernetes/manifests/" + c.program + ".yaml"
		flag, _, _ := strings.Cut(c.flag, "/")
		f := seen(t, map[string]string{manifest: crashtest.PodManifest(c.program, flags(flag), mounts),
			"/pki/" + c.flag: c.file}, nil)
		err := f.CheckStarts(of(f, manifest))
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) ||
			!strings.Contains(engine.Hint(err), "put back")) {
			t.Errorf("%s %s %.12q: got %v, hint %q", c.program, c.flag, c.file, err, engine.Hint(err))
		}
	}
}

// An API server that calls kubelets and others with a certificate starts only with its own key.
func TestACertificateWithAnothersKeyIsFoundBeforeTheAPIServerIsStopped(t *testing.T) {
	cert, key := pemOf(t, kubeconfig(t, -9)) // it has expired, which does not matter here
	_, other := pemOf(t, kubeconfig(t, 9))
	const mounts = "    volumeMounts: [{mountPath: /pki, name: p}]\n  volumes: [{hostPath: {path: /pki}, name: p}]\n"
	for _, pair := range [][2]string{{"kubelet-client-certificate", "kubelet-client-key"},
		{"proxy-client-cert-file", "proxy-client-key-file"}} {
		for with, says := range map[string]string{key: "", other: "private key does not match", "": "(tls: "} {
			f := seen(t, map[string]string{"/pki/c": cert, "/pki/k": with, apiYAML: crashtest.PodManifest(
				"kube-apiserver", "    - --"+pair[0]+"=/pki/c\n    - --"+pair[1]+"=/pki/k\n", mounts)}, nil)
			if err := f.CheckStarts(of(f, apiYAML)); (err == nil) != (says == "") ||
				err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("%s, %q: %v", pair[0], says, err)
			}
		}
	}
}

// kubeconfig holds a certificate that ends so many days after the simulated node's clock.
func kubeconfig(t *testing.T, days int) string {
	t.Helper()
	now := time.Unix(1_700_000_000, 0)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "system:node:cp1"},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, days)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	inline := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n" +
		"  cluster: {server: 'https://a'}\ncontexts:\n- name: a\n" +
		"  context: {cluster: a, user: a}\nusers:\n- name: a\n  user:\n    client-certificate-data: " +
		inline("CERTIFICATE", der) + "\n" + keyLine + inline("PRIVATE KEY", secret) + "\n"
}

const keyLine = "    client-key-data: "

// ofOne is the certificate of one kubeconfig with the key of another, or without one.
func ofOne(certificate, key string) string {
	without, _, _ := strings.Cut(certificate, keyLine)
	_, other, _ := strings.Cut(key, keyLine)
	if other == "" {
		return without
	}
	return without + keyLine + other
}

// pemOf is what a kubeconfig holds, as the kubelet keeps it in one file: its certificate and key.
func pemOf(t *testing.T, kubeconfig string) (cert, key string) {
	t.Helper()
	var all [2]string
	for i, line := range []string{"    client-certificate-data: ", keyLine} {
		_, rest, _ := strings.Cut(kubeconfig, line)
		text, _, _ := strings.Cut(rest, "\n")
		read, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = string(read)
	}
	return all[0], all[1]
}
