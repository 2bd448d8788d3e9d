package target

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// transport reaches a store over HTTP: with the CA of the URL beside the machine's own, and through
// a proxy only if the URL says so. A proxy that is set for everything else on the machine may not
// be allowed to see backups, nor reach the store.
func transport(u URL) (*http.Transport, error) {
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:          8,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		ExpectContinueTimeout: 5 * time.Second,
		DisableCompression:    true, // the bytes are what was put
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if file := u.Option("ca"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, &Error{Doing: "use", At: u.String(), Why: fmt.Sprintf("its CA cannot be read: %v", err),
				Do: "correct the option ca of its URL", Cause: err}
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, &Error{Doing: "use", At: u.String(), Why: file + " holds no certificate in PEM",
				Do: "correct the option ca of its URL"}
		}
		t.TLSClientConfig.RootCAs = pool
	}
	switch proxy := u.Option("proxy"); proxy {
	case "":
	case "environment":
		t.Proxy = http.ProxyFromEnvironment
	default:
		at, err := url.Parse(proxy)
		if err != nil {
			return nil, err
		}
		t.Proxy = http.ProxyURL(at)
	}
	return t, nil
}

// unreached says why a connection failed, without the URL of the request: that may hold a
// signature.
func unreached(err error) (why, do string) {
	var (
		request *url.Error
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		expired x509.CertificateInvalidError
		dns     *net.DNSError
	)
	for errors.As(err, &request) {
		err = request.Err
	}
	switch {
	case errors.As(err, &unknown):
		return "its certificate is signed by a CA that this machine does not trust",
			"name the CA in the URL: ca=FILE, in PEM"
	case errors.As(err, &name):
		return "its certificate is not for this name: " + name.Error(), "correct the endpoint in the URL"
	case errors.As(err, &expired):
		return "its certificate is not valid: " + expired.Error(), "look at its certificate, and at the clock here"
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s cannot be resolved", dns.Name), "correct the URL, or the name service"
	}
	return err.Error(), "see whether it can be reached from this machine; a proxy is used only if the URL says " +
		"so (proxy=)"
}
