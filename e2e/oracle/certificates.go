package oracle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"strings"
	"time"

	"k8s.io/client-go/util/keyutil"
)

// File is one on disk.
type File struct {
	Data []byte
	Mode fs.FileMode
}

// Certificates describes certificates and their keys, by their paths below a directory: all there
// is to them but serial numbers, keys and times; of times, how long they are valid. What is equal
// here is equal in every such field: names and extensions are read from the encoded bytes.
func Certificates(dir string, files map[string]File) (string, error) {
	ca, err := parseCertificate(files["etcd/ca.crt"].Data)
	if err != nil {
		return "", fmt.Errorf("etcd/ca.crt: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "in %s\n", path.Clean(dir))
	for _, name := range sortedKeys(files) {
		base, isCert := strings.CutSuffix(name, ".crt")
		if !isCert {
			if _, has := files[strings.TrimSuffix(name, ".key")+".crt"]; !has {
				return "", fmt.Errorf("%s is no key of a certificate", name)
			}
			continue
		}
		if err := describe(&b, base, files, ca); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.String(), nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 || !bytes.Equal(pem.EncodeToMemory(block), text) {
		return nil, errors.New("is not one certificate in PEM and nothing else")
	}
	return x509.ParseCertificate(block.Bytes)
}

func describe(b *strings.Builder, base string, files map[string]File, ca *x509.Certificate) error {
	c, err := parseCertificate(files[base+".crt"].Data)
	if err != nil {
		return err
	}
	key := files[base+".key"]
	kind, err := keyFor(key, c.PublicKey)
	if err != nil {
		return err
	}
	if err := c.CheckSignatureFrom(ca); err != nil {
		return err
	}
	subject, err := distinguished(c.RawSubject)
	if err != nil {
		return err
	}
	issuer, err := distinguished(c.RawIssuer)
	if err != nil {
		return err
	}
	var extensions []string
	for _, e := range c.Extensions {
		what, err := extension(e, c, ca)
		if err != nil {
			return fmt.Errorf("extension %v: %w", e.Id, err)
		}
		if e.Critical {
			what += ", critical"
		}
		extensions = append(extensions, what)
	}
	validity := c.NotAfter.Sub(c.NotBefore).Round(time.Minute) // kubeadm asks the clock twice
	fmt.Fprintf(b, "%s.crt %#o, %s.key %#o: %s\n", base, files[base+".crt"].Mode, base, key.Mode, kind)
	fmt.Fprintf(b, "\tversion %d, of %s, by %s, %s, %v, valid for %v\n",
		c.Version, subject, issuer, keyOf(c.PublicKey), c.SignatureAlgorithm, validity)
	fmt.Fprintf(b, "\t%s\n", strings.Join(extensions, "; "))
	return nil
}

// keyFor reads a key, which must be that of a certificate or request, and says of
// what kind its file is.
func keyFor(file File, of crypto.PublicKey) (kind string, err error) {
	block, rest := pem.Decode(file.Data)
	private, err := keyutil.ParsePrivateKeyPEM(file.Data)
	if err != nil || len(rest) > 0 {
		return "", fmt.Errorf("its key cannot be read: %v", err)
	}
	signer, is := private.(crypto.Signer)
	if !is {
		return "", fmt.Errorf("its key is a %T", private)
	}
	if public, is := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !is || !public.Equal(of) {
		return "", errors.New("it is not of its key")
	}
	return block.Type, nil
}

func keyOf(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d bits, exponent %d", k.N.BitLen(), k.E)
	case *ecdsa.PublicKey:
		return "ECDSA on " + k.Params().Name
	}
	return fmt.Sprintf("%T", public)
}

// distinguished shows a name with the types of its strings, which a parsed one does not have.
func distinguished(der []byte) (string, error) {
	var sets []asn1.RawValue
	if _, err := asn1.Unmarshal(der, &sets); err != nil {
		return "", err
	}
	var all []string
	for _, set := range sets {
		var attribute struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		if rest, err := asn1.Unmarshal(set.Bytes, &attribute); err != nil || len(rest) > 0 {
			return "", fmt.Errorf("a name of %x: %v", set.Bytes, err)
		}
		kind := map[int]string{asn1.TagPrintableString: "printable", asn1.TagUTF8String: "UTF-8"}[attribute.Value.Tag]
		all = append(all, fmt.Sprintf("%v %s (%s)", attribute.Type, attribute.Value.Bytes, kind))
	}
	return strings.Join(all, ", "), nil
}

// extension shows what one says.
func extension(e pkix.Extension, c, ca *x509.Certificate) (string, error) {
	switch e.Id.String() {
	case "2.5.29.14":
		return fmt.Sprintf("subject key identifier, %d bytes", len(c.SubjectKeyId)), nil
	case "2.5.29.35":
		if !bytes.Equal(c.AuthorityKeyId, ca.SubjectKeyId) {
			return "", errors.New("it is not that of the CA")
		}
		return fmt.Sprintf("authority key identifier of etcd/ca, %d bytes", len(c.AuthorityKeyId)), nil
	case "2.5.29.15":
		var bits asn1.BitString
		_, err := asn1.Unmarshal(e.Value, &bits)
		return fmt.Sprintf("key usage %x", bits.Bytes), err
	case "2.5.29.37":
		var ids []asn1.ObjectIdentifier
		_, err := asn1.Unmarshal(e.Value, &ids)
		return fmt.Sprintf("extended key usage %v", ids), err
	case "2.5.29.19":
		return fmt.Sprintf("basic constraints %x: CA %v", e.Value, c.IsCA), nil
	case "2.5.29.17":
		return alternativeNames(e.Value)
	}
	return fmt.Sprintf("extension %v: %x", e.Id, e.Value), nil
}

// alternativeNames shows them in their order.
func alternativeNames(der []byte) (string, error) {
	var names []asn1.RawValue
	if _, err := asn1.Unmarshal(der, &names); err != nil {
		return "", err
	}
	var all []string
	for _, n := range names {
		switch n.Tag {
		case 2:
			all = append(all, "DNS "+string(n.Bytes))
		case 7:
			all = append(all, fmt.Sprintf("IP %v in %d bytes", net.IP(n.Bytes), len(n.Bytes)))
		default:
			all = append(all, fmt.Sprintf("%d %x", n.Tag, n.Bytes))
		}
	}
	return "alternative names: " + strings.Join(all, ", "), nil
}
