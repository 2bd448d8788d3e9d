package bind

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/etcdpod/etcdpod/phases/internal/node"
	"github.com/etcdpod/etcdpod/phases/internal/op"
)

const (
	apiTimeout = 30 * time.Second // for one request
	// A node reaches its own API server at once, or not at all; a kubeconfig may name one
	// elsewhere.
	apiDialTimeout = 3 * time.Second
	// The most that is read of an answer that is an error: /readyz lists every check there.
	apiErrorSize = 64 << 10
)

var errNotFound = errors.New("not found")

// call makes one request; the body and the answer are JSON. A 404 is errNotFound. It asks with one
// kubeconfig after the other until the API server accepts one.
func (b APIServer) call(ctx context.Context, a op.APIAccess, method, target string, body, answer any) error {
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return err
		}
	}
	var refused *op.DeniedError
	var first error
	for i, file := range kubeconfigsOf(a) {
		config, err := b.config(file)
		if err == nil {
			err = b.ask(ctx, config, a, method, target, sent, answer)
		} else if i > 0 && b.missing(file) {
			continue
		}
		var denied *op.DeniedError
		switch {
		case errors.As(err, &denied):
			if refused == nil {
				refused = &op.DeniedError{Status: denied.Status, Text: denied.Text}
			}
			refused.Kubeconfigs = append(refused.Kubeconfigs, file)
		case err == nil || errors.Is(err, errNotFound) || !unusable(err) && !elsewhere(a, err):
			return err // the API server's own answer, or none at all: no kubeconfig changes that
		case first == nil:
			first = err
		}
	}
	if refused != nil {
		return refused
	}
	return cmp.Or(first, error(kubeconfigError{errors.New("cannot query the API server: there is no kubeconfig")}))
}

// kubeconfigsOf are those to ask with, in turn.
func kubeconfigsOf(a op.APIAccess) []string { return given(a.Kubeconfig, a.Kubeconfigs) }

// given is a list without what is empty.
func given(first string, others []string) []string {
	return slices.DeleteFunc(append([]string{first}, others...), func(s string) bool { return s == "" })
}

func (b APIServer) missing(file string) bool {
	_, err := b.fs.Lstat(file)
	return err != nil
}

// kubeconfigError says that a kubeconfig cannot be used; another one may be.
type kubeconfigError struct{ error }

func (e kubeconfigError) Unwrap() error { return e.error }

// elsewhere says whether another kubeconfig may name another API server, that can be reached: where
// none runs on this node, each names its own.
func elsewhere(a op.APIAccess, err error) bool {
	return len(given(a.Server, a.Servers)) == 0 && unconnected(err)
}

// unusable says whether the kubeconfig is at fault, and not the API server.
func unusable(err error) bool {
	var file kubeconfigError
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &file) || errors.As(err, &unknown)
}

// ask makes one request with one kubeconfig, at the first of the API server's addresses where a
// connection can be made.
func (b APIServer) ask(
	ctx context.Context, config *rest.Config, a op.APIAccess, method, target string, sent []byte, answer any,
) error {
	var first error
	for _, server := range serversOf(a, config.Host) {
		for _, name := range namesFor(a, server, config.Host, config.ServerName) {
			at := rest.CopyConfig(config)
			at.Host, at.ServerName = server, name
			err := send(ctx, at, method, target, sent, answer)
			if err == nil || !unconnected(err) {
				return err
			}
			if first == nil || !refusedThere(err) && refusedThere(first) {
				first = err // a wrong certificate tells more than a closed port
			}
			if !wrongName(err) {
				break
			}
		}
	}
	return first
}

// serversOf are the addresses to try, in turn; the kubeconfig's only where nothing runs here.
func serversOf(a op.APIAccess, kubeconfigs string) []string {
	if all := given(a.Server, a.Servers); len(all) > 0 {
		return all
	}
	return []string{kubeconfigs}
}

// namesFor are the names to look for in the certificate, in turn; an empty one is the address.
func namesFor(a op.APIAccess, server, kubeconfigs, named string) []string {
	if server == kubeconfigs || a.Name == "" {
		return []string{named}
	}
	return []string{a.Name, ""}
}

// unconnected says whether no connection came about, so that nothing was asked.
func unconnected(err error) bool {
	var verify *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	return refusedThere(err) || errors.As(err, &verify) || errors.As(err, &header)
}

func refusedThere(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

func wrongName(err error) bool {
	var host x509.HostnameError
	return errors.As(err, &host)
}

// send makes one request at one address.
func send(ctx context.Context, config *rest.Config, method, target string, sent []byte, answer any) error {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return kubeconfigError{fmt.Errorf("cannot use the kubeconfig: %w", err)}
	}
	defer client.CloseIdleConnections()
	var body io.Reader
	if sent != nil {
		body = bytes.NewReader(sent)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(config.Host, "/")+target, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the API server: %w", err)
	}
	defer res.Body.Close()
	return decodeAnswer(res, method, target, answer)
}

// FailedAnswerError is the answer of an API server that could not do what it was asked for.
type FailedAnswerError struct {
	Code                int
	Status, Asked, Said string
}

func (e *FailedAnswerError) Error() string {
	return fmt.Sprintf("the API server answered %s to %s: %s", e.Status, e.Asked, e.Said)
}

func decodeAnswer(res *http.Response, method, target string, answer any) error {
	if res.StatusCode == http.StatusNotFound {
		return errNotFound
	}
	if res.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, apiErrorSize))
		said := plainAnswer(text)
		if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
			return &op.DeniedError{Status: res.StatusCode, Text: cmp.Or(said, http.StatusText(res.StatusCode))}
		}
		return &FailedAnswerError{res.StatusCode, res.Status, method + " " + target, said}
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
		return fmt.Errorf("cannot read the API server's answer to %s %s: %w", method, target, err)
	}
	return nil
}

// plainAnswer is what matters of an error's text: the message of a Status; the checks that failed,
// of all that /readyz lists (k8s.io/apiserver, pkg/server/healthz); else its beginning.
func plainAnswer(text []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &status) == nil && status.Message != "" {
		return status.Message
	}
	var failed []string
	for line := range strings.Lines(string(text)) {
		if check, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]"); ok {
			failed = append(failed, strings.TrimSuffix(check, ": reason withheld"))
		}
	}
	if len(failed) > 0 {
		return strings.Join(failed, ", ")
	}
	const most = 300
	return strings.TrimSpace(string(text[:min(len(text), most)]))
}

// config reads a kubeconfig. Whatever the environment or the kubeconfig says of proxies, nothing of
// the cluster is reached through one: it would lead elsewhere, or nowhere.
func (b APIServer) config(kubeconfig string) (*rest.Config, error) {
	data, err := b.fs.ReadFile(kubeconfig)
	if err != nil {
		return nil, kubeconfigError{fmt.Errorf("cannot read the kubeconfig: %w", err)}
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		return nil, kubeconfigError{fmt.Errorf("cannot read the kubeconfig %s: %w", kubeconfig, err)}
	}
	return direct(config), nil
}

func direct(config *rest.Config) *rest.Config {
	config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	config.Dial = (&net.Dialer{Timeout: apiDialTimeout}).DialContext
	config.Timeout = apiTimeout
	return config
}

// Ready asks /readyz. That needs no rights: where no kubeconfig is accepted, it asks without one,
// as the kubelet does.
func (b APIServer) Ready(ctx context.Context, a op.APIAccess) error {
	err := b.call(ctx, a, http.MethodGet, "/readyz", nil, nil)
	var denied, still *op.DeniedError
	if err == nil || !errors.As(err, &denied) && !unusable(err) {
		return err
	}
	for _, nobody := range b.nobodies(a) {
		asked := b.ask(ctx, nobody, a, http.MethodGet, "/readyz", nil, nil)
		switch {
		case unusable(asked):
			continue // its certificate is of another CA than the kubeconfig's
		case !errors.As(asked, &still):
			return asked
		case denied == nil:
			return still
		}
		return denied
	}
	return err
}

// nobodies show no certificate and no token. The first trusts the CA of a kubeconfig, the last
// whatever answers on this node: nothing is sent that anybody could use.
func (b APIServer) nobodies(a op.APIAccess) []*rest.Config {
	var all []*rest.Config
	for _, file := range kubeconfigsOf(a) {
		if config, err := b.config(file); err == nil {
			all = append(all, direct(rest.AnonymousClientConfig(config)))
			break
		}
	}
	if a.Server != "" {
		all = append(all, direct(&rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}))
	}
	return all
}

// KubeconfigFile is what a kubeconfig has its user show to the API server.
type KubeconfigFile struct {
	Cert, Key         []byte // PEM; nil: none, or in another file
	CertFile, KeyFile string // host paths
	Token             bool   // it has a token or a password instead
}

// Kubeconfig reads a kubeconfig's current context. Unlike a client it leaves the files that are
// named there alone.
func Kubeconfig(fs node.Reader, file string) (KubeconfigFile, error) {
	data, err := fs.ReadFile(file)
	if err != nil {
		return KubeconfigFile{}, fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	config, err := clientcmd.Load(data)
	if err != nil {
		return KubeconfigFile{}, fmt.Errorf("cannot read the kubeconfig %s: %w", file, err)
	}
	current := config.Contexts[config.CurrentContext]
	if current == nil || config.AuthInfos[current.AuthInfo] == nil || config.Clusters[current.Cluster] == nil {
		return KubeconfigFile{}, fmt.Errorf("cannot use the kubeconfig %s: its current context has no user and "+
			"cluster", file)
	}
	user := config.AuthInfos[current.AuthInfo]
	k := KubeconfigFile{Cert: user.ClientCertificateData, Key: user.ClientKeyData,
		CertFile: user.ClientCertificate, KeyFile: user.ClientKey,
		Token: user.Token != "" || user.TokenFile != "" || user.Username != "" || user.Exec != nil ||
			user.AuthProvider != nil}
	for _, named := range []*string{&k.CertFile, &k.KeyFile} {
		if *named != "" && !path.IsAbs(*named) {
			*named = path.Join(path.Dir(file), *named)
		}
	}
	return k, nil
}
