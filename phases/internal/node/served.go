package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// ErrNoTLS says that a server answers, but not in TLS.
var ErrNoTLS = errors.New("the server does not speak TLS there")

// servedTimeout bounds one look: programs on this host answer at once, or not at all.
const servedTimeout = 3 * time.Second

// Served dials a TLS server at host:port, or at a socket's path, and returns the certificates that
// it presents, in PEM, its own first. The caller judges them: Served verifies nothing and sends
// nothing. It presents a client certificate (PEM; nil for none) if asked, only to keep the server's
// log quiet.
func Served(ctx context.Context, address string, certPEM, keyPEM []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	var shown []byte
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the point is to see expired and foreign certificates, too
		VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
			for _, der := range chain {
				shown = append(shown, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
			}
			return nil
		},
	}
	if pair, err := tls.X509KeyPair(certPEM, keyPEM); err == nil {
		conf.Certificates = []tls.Certificate{pair}
	}
	network := "tcp"
	if strings.HasPrefix(address, "/") { // a socket's path
		network = "unix"
	}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, network, address)
	if err == nil {
		err = conn.Close()
	}
	if len(shown) > 0 { // what the server thinks of the client does not matter
		return shown, nil
	}
	return nil, fmt.Errorf("cannot read the certificate served at %s: %w", address, plainly(err))
}

func plainly(err error) error {
	var header tls.RecordHeaderError
	var network net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused: nothing listens there")
	case errors.As(err, &header):
		return ErrNoTLS
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		return fmt.Errorf("no answer within %s", servedTimeout)
	}
	return err
}
