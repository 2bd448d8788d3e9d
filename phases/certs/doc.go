// Package certs looks at the certificates of etcd and of its clients, renews them, and asks an
// external CA for them.
package certs
