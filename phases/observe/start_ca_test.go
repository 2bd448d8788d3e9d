package observe_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/etcdpod/etcdpod/phases/engine"
)

// The kubelet makes a client of its whole kubeconfig before it looks at its certificate. Once it is
// stopped, it does not start without the CA either.
func TestAKubeletWithoutTheCAOfItsKubeconfigIsFoundBeforeItIsStopped(t *testing.T) {
	own := kubeconfig(t, 9)
	_, rest, _ := strings.Cut(own, "client-certificate-data: ")
	inline, _, _ := strings.Cut(rest, "\n")
	ca, err := base64.StdEncoding.DecodeString(inline)
	if err != nil {
		t.Fatal(err)
	}
	const file, data = "certificate-authority: /etc/kubernetes/pki/its.crt", "certificate-authority-data: "
	damaged := base64.StdEncoding.EncodeToString([]byte("-----BEGIN"))
	for name, c := range map[string]struct{ cluster, ca, says string }{
		"it names one":             {file, string(ca), ""},
		"it names one beside it":   {"certificate-authority: pki/its.crt", string(ca), ""},
		"it holds one":             {data + inline, "", ""},
		"the one that it names":    {file, "", "its.crt, which /etc/kubernetes/kubelet.conf names, does not exist"},
		"that one is cut off":      {file, "-----BEGIN", "/etc/kubernetes/pki/its.crt holds no CA that can be read"},
		"the one in it is cut off": {data + damaged, "", "/etc/kubernetes/kubelet.conf holds no CA that can be read"},
		"it has two":               {file + ", " + data + inline, string(ca), "which no client takes"},
	} {
		files := map[string]string{dropIn: units, "/etc/kubernetes/kubelet.conf": strings.Replace(own,
			"{server: 'https://a'}", "{server: 'https://a', "+c.cluster+"}", 1)}
		if c.ca != "" {
			files["/etc/kubernetes/pki/its.crt"] = c.ca
		}
		f := seen(t, files, nil)
		err := f.CheckStarts(of(f, apiYAML))
		var refused *engine.RefusedError
		if c.says == "" && err != nil || c.says != "" && (!errors.As(err, &refused) ||
			!strings.Contains(err.Error(), "the kubelet would not start: ") || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
