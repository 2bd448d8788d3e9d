package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// CanListen returns nil if a program of this host could listen at host:port now, or why not. It
// listens there for an instant, as kubeadm's preflight check does (kubeadm,
// app/preflight/checks.go: PortOpenCheck).
func CanListen(ctx context.Context, address string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return listener.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen at %s: another program already does", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot listen at %s: it is not an address of this machine", address)
	}
	return fmt.Errorf("cannot listen at %s: %w", address, err)
}

// HasAddress says whether a program of this host could listen at an IP address. It is false only if
// the kernel says that no interface has it.
func HasAddress(ctx context.Context, ip string) bool {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(ip, "0"))
	if err == nil {
		_ = listener.Close()
	}
	return !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT)
}
