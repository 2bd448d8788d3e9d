package oracle

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/etcdpod/etcdpod/pki"
)

// Requests describes requests for certificates and their keys, as Certificates does certificates.
func Requests(dir string, files map[string]File) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "in %s\n", path.Clean(dir))
	for _, name := range sortedKeys(files) {
		base, isRequest := strings.CutSuffix(name, ".csr")
		if !isRequest {
			if _, has := files[strings.TrimSuffix(name, ".key")+".csr"]; !has {
				return "", fmt.Errorf("%s is no key of a request", name)
			}
			continue
		}
		if err := describeRequest(&b, base, files); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.String(), nil
}

func describeRequest(b *strings.Builder, base string, files map[string]File) error {
	text := files[base+".csr"]
	block, rest := pem.Decode(text.Data)
	if block == nil || len(rest) > 0 || !bytes.Equal(pem.EncodeToMemory(block), text.Data) {
		return errors.New("is not one request in PEM and nothing else")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	if err := r.CheckSignature(); err != nil {
		return err
	}
	key := files[base+".key"]
	kind, err := keyFor(key, r.PublicKey)
	if err != nil {
		return err
	}
	subject, err := distinguished(r.RawSubject)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "%s.csr %#o: %s, %s.key %#o: %s\n", base, text.Mode, block.Type, base, key.Mode, kind)
	fmt.Fprintf(b, "\tversion %d, of %s, %s, %v\n", r.Version, subject, keyOf(r.PublicKey), r.SignatureAlgorithm)
	for _, e := range r.Extensions {
		what := fmt.Sprintf("extension %v: %x", e.Id, e.Value)
		switch e.Id.String() {
		case "2.5.29.17":
			what, err = alternativeNames(e.Value)
		case "2.5.29.37":
			var ids []asn1.ObjectIdentifier
			_, err = asn1.Unmarshal(e.Value, &ids)
			what = fmt.Sprintf("%s %v", usageLine, ids)
		}
		if err != nil {
			return fmt.Errorf("extension %v: %w", e.Id, err)
		}
		fmt.Fprintf(b, "\t%s, critical: %v\n", what, e.Critical)
	}
	return nil
}

const usageLine = "extended key usage"

// Ask describes the requests that etcdpod makes.
func Ask(dir string, issuer pki.Issuer) (string, error) {
	files := map[string]File{}
	for _, s := range pki.EtcdSpecs() {
		if s.IsCA() {
			continue
		}
		r, err := issuer.Request(s, nil)
		if err != nil {
			return "", err
		}
		files[s.CSRFile()], files[s.KeyFile()] = File{r.CSR, pki.CSRMode}, File{r.Key, pki.KeyMode}
	}
	return Requests(dir, files)
}
