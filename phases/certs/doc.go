// Package certs checks the certificates of etcd and of its clients, renews them, and requests them
// from an external CA.
package certs
